//! nanny-testkit
