//! nanny-examples
