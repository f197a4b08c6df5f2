//! The error of the public [`Nanny`](crate::Nanny) API.

use crate::backend::BackendError;
use crate::gpu::{Account, DeviceAccount, Refusal};
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
    /// There is no room on the GPU now. Nothing was changed; `force` may help.
    #[error("{}", no_room(holders, account))]
    GpuConflict {
        /// Who is in the way: services, or containers of other hands; empty if it is only memory
        /// that others use.
        holders: Vec<String>,
        /// The sum that this rests on.
        account: Box<Account>,
    },
    /// No GPU for it, and `force` would not help.
    #[error("the GPU policy '{}' refuses: {reason}{}", account.policy, strangers(account))]
    GpuRefused {
        /// Why.
        reason: Refusal,
        /// The sum that this rests on.
        account: Box<Account>,
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
    /// The memory on the GPU that the service was to have did not become free in time: those who
    /// had it are down, or others took it.
    #[error("'{name}' could not be started: {reason}")]
    GpuMemoryHeld {
        /// The service.
        name: ServiceName,
        /// How much is missing where, and which processes are there, for a person.
        reason: String,
        /// Services that were stopped for it and started again.
        restored: Vec<ServiceName>,
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
    /// No engine that is configured runs the service: nothing but a change of its manifest, or of
    /// what is configured, will help.
    #[error("no engine can run '{name}': {reason}")]
    NoEngine {
        /// The service.
        name: ServiceName,
        /// What there is, and what to do, for a person.
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

/// One service in the way is named as the API always did; a sum is given where there is one.
fn no_room(holders: &[String], account: &Account) -> String {
    let held = holders.first().map(|holder| format!("GPU service '{holder}' is already running"));
    let of = |device: &DeviceAccount| {
        let others = others_on(device);
        let others = if others.is_empty() {
            String::new()
        } else {
            format!(" beside {}", others.join(", "))
        };
        Some(format!("{} MiB on {}{others}", device.free_mib?, device.gpu))
    };
    let free: Vec<_> = account.devices.iter().filter_map(of).collect();
    match held {
        Some(held) if free.is_empty() || !account.by_memory => held,
        held => {
            let held = held.map_or_else(String::new, |held| format!("{held}; "));
            let free = free.join(", ");
            let need = match (account.need_mib, account.count) {
                (0, 0 | 1) => "it declares no vram_gb and so needs a GPU of its own".to_owned(),
                (0, count) => {
                    format!("it declares no vram_gb and so needs {count} GPUs of its own")
                }
                (need, 0 | 1) => format!("{need} MiB are needed"),
                (need, count) => format!("{need} MiB are needed on each of {count} GPUs"),
            };
            format!("{held}{need}, and free are {free}")
        }
    }
}

/// Who else is on the GPUs, if that may be why.
fn strangers(account: &Account) -> String {
    let of = |device: &DeviceAccount| {
        let mut others = others_on(device);
        if others.is_empty() && account.by_memory && device.foreign_mib > 0 {
            let (mib, gpu) = (device.foreign_mib, &device.gpu);
            others.push(format!("somebody who cannot be seen ({mib} MiB on {gpu})"));
        }
        others
    };
    let others: Vec<_> = account.devices.iter().flat_map(of).collect();
    if others.is_empty() { String::new() } else { format!("; in use by {}", others.join(", ")) }
}

fn others_on(device: &DeviceAccount) -> Vec<String> {
    let others = device.others.iter().map(|process| {
        let name = process.name.as_deref().unwrap_or("unknown");
        let used = process.used_mib.map_or_else(String::new, |mib| format!(", {mib} MiB"));
        format!("process {} ({name}{used})", process.pid)
    });
    others.collect()
}
