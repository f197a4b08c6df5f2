//! nanny-backend-docker
