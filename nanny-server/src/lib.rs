//! nanny-server
