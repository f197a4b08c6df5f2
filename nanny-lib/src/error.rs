//! The error of the public [`Nanny`](crate::Nanny) API.

use crate::backend::BackendError;
use crate::name::ServiceName;

/// Why a nanny did not do what it was asked.
///
/// Cheap to clone: callers that joined one operation get the same answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No service has that name.
    #[error("Service '{name}' not found")]
    NotFound {
        /// The name that was asked for.
        name: String,
    },
    /// Another holds the GPU. Nothing was changed; `force` may help.
    #[error("GPU service '{}' is already running", .holders.first().map_or("?", String::as_str))]
    GpuConflict {
        /// Who is in the way: services, or containers of other hands; never empty.
        holders: Vec<String>,
    },
    /// The policy says no, and `force` would not help.
    #[error("the GPU policy '{policy}' refuses: {reason}")]
    GpuRefused {
        /// The policy.
        policy: String,
        /// Its reason.
        reason: String,
    },
    /// The start was taken back before it was complete: by a stop, or by a forced start of another.
    #[error("the start of '{name}' was cancelled: {reason}")]
    Cancelled {
        /// The service.
        name: ServiceName,
        /// By what.
        reason: String,
    },
    /// The service could not be started.
    #[error("'{name}' could not be started: {reason}")]
    StartFailed {
        /// The service.
        name: ServiceName,
        /// What was wrong, for a person.
        reason: String,
        /// Services that were stopped for it and started again.
        restored: Vec<ServiceName>,
        /// What the engine said.
        #[source]
        source: Option<Box<BackendError>>,
    },
    /// The service could not be stopped.
    #[error("'{name}' could not be stopped: {reason}")]
    StopFailed {
        /// The service.
        name: ServiceName,
        /// What was wrong, for a person.
        reason: String,
    },
    /// It is not there yet. The start goes on.
    #[error("'{name}' did not start within the time limit; the start goes on")]
    StartTimeout {
        /// The service.
        name: ServiceName,
    },
    /// The engine that the service needs is out of reach.
    #[error("the engine '{engine}' is out of reach: {reason}")]
    EngineUnavailable {
        /// The engine.
        engine: String,
        /// What went wrong, for a person.
        reason: String,
    },
    /// The service may be looked at only.
    #[error("'{name}' is not ours to start or stop: {reason}")]
    Protected {
        /// The service.
        name: ServiceName,
        /// Why.
        reason: String,
    },
    /// Too many requests wait already.
    #[error("too many requests wait already")]
    Overloaded,
    /// The nanny is shutting down, or is gone.
    #[error("the nanny is shutting down")]
    ShuttingDown,
    /// The state directory cannot be used.
    #[error("the state directory {} cannot be used: {reason}", path.display())]
    StateDir {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        reason: String,
    },
}
