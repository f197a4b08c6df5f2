//! GPU arbitration: who may hold which GPU.
//!
//! A [`GpuPolicy`] decides, purely; the [`Ledger`] remembers; the
//! [lifecycle](crate::lifecycle) carries it out.

mod arbiter;
mod exclusive;
mod ledger;

use std::fmt;

pub(crate) use self::arbiter::arbitrate;
pub use self::exclusive::Exclusive;
pub use self::ledger::{Claim, ClaimPhase, Ledger};
use crate::name::{GpuId, ServiceName};

/// Decides which service may hold which GPU.
///
/// # Contract
///
/// *What it does.* A pure function of its arguments: same request and same snapshot, same answer.
/// No clock, no I/O, no state. It is asked once for each start of a service that needs a GPU, and
/// what it admits is reserved in the same step, so there is no window in which another could
/// slip in.
///
/// *What is checked.* The arbiter checks every answer: victims must be holders that may be
/// evicted, and only a request with `force` may evict. A policy that breaks this, or panics,
/// makes the start fail with an error that names the policy; it never overcommits a GPU.
pub trait GpuPolicy: fmt::Debug + Send + Sync + 'static {
    /// Its name, as configuration and answers show it.
    fn name(&self) -> &str;

    /// Decides about one request.
    fn decide(&self, request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision;
}

/// A service wants to start and needs a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuRequest {
    /// The service.
    pub service: ServiceName,
    /// Video memory it says it needs, in MiB; 0 if it does not say.
    pub vram_mib: u64,
    /// Its priority: higher goes first.
    pub priority: i32,
    /// The caller accepts that others are stopped for it.
    pub force: bool,
}

impl GpuRequest {
    /// A request by `service` that declares no memory, has priority 0 and does not force.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        Self { service, vram_mib: 0, priority: 0, force: false }
    }
}

/// All that a policy may know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GpuSnapshot {
    /// Who holds a GPU now, or is about to; never the requester itself. Sorted by name.
    pub holders: Vec<Holder>,
}

impl GpuSnapshot {
    /// A snapshot with these holders.
    #[must_use]
    pub fn new(holders: Vec<Holder>) -> Self {
        Self { holders }
    }
}

/// Somebody who holds a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Who.
    pub who: HolderName,
    /// How far its claim is.
    pub phase: ClaimPhase,
    /// Video memory it says it needs, in MiB.
    pub vram_mib: u64,
    /// Its priority: higher goes first.
    pub priority: i32,
    /// It must not be stopped for another.
    pub pinned: bool,
}

impl Holder {
    /// `who`, running, with no declared memory, priority 0 and not pinned.
    #[must_use]
    pub fn new(who: HolderName) -> Self {
        Self { who, phase: ClaimPhase::Running, vram_mib: 0, priority: 0, pinned: false }
    }
}

/// Who holds a GPU: a service, or a container that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HolderName {
    /// A service; it can be evicted.
    Service(ServiceName),
    /// A container started by other hands, by name. Never ours to stop.
    Foreign(String),
}

impl fmt::Display for HolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => fmt::Display::fmt(name, f),
            Self::Foreign(name) => f.write_str(name),
        }
    }
}

/// A policy's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It may start.
    Admit {
        /// On which GPUs.
        placement: Placement,
    },
    /// It may start once these services are down.
    Evict {
        /// Whom to stop; never empty.
        victims: Vec<ServiceName>,
        /// On which GPUs it then starts.
        placement: Placement,
    },
    /// It may not, because of these holders; `force` might help.
    Conflict {
        /// Who is in the way; never empty.
        holders: Vec<HolderName>,
    },
    /// It may not, and `force` would not help.
    Refuse {
        /// Why, for a person.
        reason: String,
    },
}

/// Which GPUs a service gets. Empty: whichever its Compose file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Placement {
    /// The devices.
    pub gpus: Vec<GpuId>,
}
