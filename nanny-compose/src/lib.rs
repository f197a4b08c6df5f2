//! nanny-compose
