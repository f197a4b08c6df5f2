//! nanny-benches
