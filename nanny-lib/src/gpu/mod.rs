//! GPU arbitration: who may hold which GPU.
//!
//! A [`GpuInventory`] measures; a [`GpuPolicy`] decides, purely; the [`Ledger`] remembers; the
//! [lifecycle](crate::lifecycle) carries it out.

mod account;
mod allow_all;
mod arbiter;
mod devices;
mod drain;
mod eviction;
mod exclusive;
mod fit;
mod inventory;
mod ledger;
mod naming;
mod per_gpu;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub use self::account::{Account, Charge, DeviceAccount};
pub use self::allow_all::AllowAll;
pub(crate) use self::arbiter::arbitrate;
pub use self::drain::Drain;
pub use self::eviction::EvictionOrder;
pub use self::exclusive::Exclusive;
pub use self::fit::{Fit, LedgerOnly, Packing};
pub use self::inventory::{
    GpuHealth, GpuInventory, GpuProblem, GpuProcess, GpuReading, GpuVendor, MemoryKind,
    NoInventory, Sweep,
};
pub use self::ledger::{Claim, ClaimPhase, Ledger};
pub use self::naming::resolve;
pub use self::per_gpu::ExclusivePerGpu;
use crate::name::{GpuId, ServiceName};

/// Decides which service may hold which GPU.
///
/// # Contract
///
/// *What it does.* A pure function of its arguments: same request and same snapshot, same answer.
/// No clock, no I/O, no state. It is asked for each start of a service that needs a GPU, again and
/// again while one is queued, and what it admits is reserved in the same step, so there is no
/// window in which another could slip in.
///
/// *What is checked.* The arbiter checks every answer. Victims must be holders that may be
/// evicted, each named once: never pinned, and without `force` only those that are of a lower
/// priority and not busy. A placement names as many devices of the snapshot as were asked for, in
/// order and among those that the request allows, and charges at least what was asked for; or it
/// names none. A policy that [measures](Self::measures) names devices whose capacity is known, and
/// leaves room there for what it places. A conflict is with holders, or with memory that others use.
/// Who is said to be pinned is. A policy that breaks this, or panics, makes the start fail with an
/// error that names the policy; it never overcommits a GPU.
pub trait GpuPolicy: fmt::Debug + Send + Sync + 'static {
    /// Its name, as configuration and answers show it.
    fn name(&self) -> &str;

    /// Whether it promises that what it places fits: that on each device the charges of all that
    /// hold it, what others use and the headroom stay within the capacity. The arbiter then checks
    /// that it does, and a start waits until the memory it needs is measured to be free.
    fn measures(&self) -> bool;

    /// Whether memory decides, measured or only declared: what is said to people then has the sum.
    /// Where nothing is [measured](Self::measures), that sum leaves out what others use.
    fn counts_memory(&self) -> bool {
        self.measures()
    }

    /// Decides about one request.
    fn decide(&self, request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision;
}

/// A service wants to start and needs a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuRequest {
    /// The service.
    pub service: ServiceName,
    /// Video memory it is charged for on each GPU it gets, in MiB: what it declares, or what it
    /// was once measured to use if that is more; 0 if nobody knows.
    pub vram_mib: u64,
    /// How many GPUs it wants; at least 1.
    pub count: u32,
    /// The only GPUs it may have, if its manifest names some.
    pub only: Option<Vec<GpuId>>,
    /// Where it was last: staying there spares a fresh container.
    pub previous: Vec<GpuId>,
    /// Its priority: higher goes first.
    pub priority: i32,
    /// The caller accepts that others are stopped for it.
    pub force: bool,
}

impl GpuRequest {
    /// A request by `service` for one GPU, whichever, that declares no memory, has priority 0 and
    /// does not force.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        Self {
            service,
            vram_mib: 0,
            count: 1,
            only: None,
            previous: Vec::new(),
            priority: 0,
            force: false,
        }
    }
}

/// All that a policy may know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GpuSnapshot {
    /// Who holds a GPU now, or is about to; never the requester itself. Sorted by name.
    pub holders: Vec<Holder>,
    /// The GPUs there are, as an inventory or the configuration knows them; empty if nothing can
    /// be known.
    pub devices: Vec<GpuDevice>,
}

impl GpuSnapshot {
    /// A snapshot with these holders, and nothing known of any device.
    #[must_use]
    pub fn new(holders: Vec<Holder>) -> Self {
        Self { holders, devices: Vec::new() }
    }

    /// The same with these devices.
    #[must_use]
    pub fn with_devices(mut self, devices: Vec<GpuDevice>) -> Self {
        self.devices = devices;
        self
    }

    /// The device of that identifier.
    #[must_use]
    pub fn device(&self, id: &GpuId) -> Option<&GpuDevice> {
        self.devices.iter().find(|device| device.id == *id)
    }

    /// The charges on a device, in MiB: of all holders but those in `without`.
    #[must_use]
    pub fn charged_mib(&self, device: &GpuId, without: &[ServiceName]) -> u64 {
        let counts = |holder: &&Holder| match &holder.who {
            HolderName::Service(name) => !without.contains(name),
            HolderName::Foreign(_) => true,
        };
        let charges = self.holders.iter().filter(counts).map(|holder| holder.charge_mib(device));
        charges.fold(0, u64::saturating_add)
    }
}

/// A GPU, as a policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuDevice {
    /// Which.
    pub id: GpuId,
    /// Memory that services may have, in MiB; `None` if nobody knows.
    pub capacity_mib: Option<u64>,
    /// Memory kept free, in MiB.
    pub headroom_mib: u64,
    /// Memory in use by nobody we know, in MiB; 0 where nothing is measured.
    pub foreign_mib: u64,
    /// Nobody new is placed on one that is not in order.
    pub is_usable: bool,
}

impl GpuDevice {
    /// A device of so much memory, all free, in order.
    #[must_use]
    pub fn new(id: GpuId, capacity_mib: u64) -> Self {
        let capacity_mib = Some(capacity_mib);
        Self { id, capacity_mib, headroom_mib: 0, foreign_mib: 0, is_usable: true }
    }

    /// Memory that may be charged to services, in MiB: what is neither kept free nor in use by
    /// others; `None` if nobody knows.
    #[must_use]
    pub fn chargeable_mib(&self) -> Option<u64> {
        let taken = self.headroom_mib.saturating_add(self.foreign_mib);
        self.capacity_mib.map(|capacity| capacity.saturating_sub(taken))
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
    /// Where it is, and what it is charged there; empty if nobody knows where.
    pub placement: Placement,
    /// Video memory it is charged for where nobody knows where it is, in MiB: then on every
    /// device.
    pub vram_mib: u64,
    /// Its priority: higher goes first.
    pub priority: i32,
    /// It must not be stopped for another.
    pub pinned: bool,
    /// It does something that should not be cut short, or has not had its GPU for long: evicted by
    /// force alone.
    pub busy: bool,
    /// Since it was last used, as far as anybody told us; since its start, if nobody did.
    pub unused_for: Duration,
}

impl Holder {
    /// `who`, running nobody knows where, with no declared memory, priority 0, not pinned, idle.
    #[must_use]
    pub fn new(who: HolderName) -> Self {
        Self {
            who,
            phase: ClaimPhase::Running,
            placement: Placement::default(),
            vram_mib: 0,
            priority: 0,
            pinned: false,
            busy: false,
            unused_for: Duration::ZERO,
        }
    }

    /// Whether it may be on `device`.
    #[must_use]
    pub fn may_be_on(&self, device: &GpuId) -> bool {
        self.placement.is_anywhere() || self.placement.mib.contains_key(device)
    }

    /// What it is charged on `device`, in MiB.
    #[must_use]
    pub fn charge_mib(&self, device: &GpuId) -> u64 {
        if self.placement.is_anywhere() {
            return self.vram_mib;
        }
        self.placement.mib.get(device).copied().unwrap_or(0)
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
    /// It may not now: room may come, or `force` may make some.
    Conflict {
        /// Who is in the way; empty if it is only memory that others use.
        holders: Vec<HolderName>,
    },
    /// It may not, and neither waiting for services to end nor `force` would help.
    Refuse {
        /// Why.
        reason: Refusal,
    },
}

/// Why a service can have no GPU, whoever makes way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No GPU is known, or none that is in order and that the request allows.
    #[error("{0}")]
    NoGpu(String),
    /// It fits on no GPU, even if all services made way.
    #[error("{}", never_fits(*need_mib, *count, *largest_mib))]
    NeverFits {
        /// What it needs on each GPU, in MiB.
        need_mib: u64,
        /// How many GPUs it needs.
        count: u32,
        /// The most that each of so many GPUs could give, in MiB.
        largest_mib: u64,
    },
    /// Somebody pinned is in the way.
    #[error("'{0}' holds the GPU and is pinned")]
    Pinned(HolderName),
    /// Another reason, for a person.
    #[error("{0}")]
    Other(String),
}

fn never_fits(need_mib: u64, count: u32, largest_mib: u64) -> String {
    if count <= 1 {
        return format!(
            "it needs {need_mib} MiB on one GPU, and even with every other service stopped none \
             has more than {largest_mib} MiB for it"
        );
    }
    format!(
        "it needs {need_mib} MiB on each of {count} GPUs, and even with every other service stopped \
         no {count} have more than {largest_mib} MiB each for it"
    )
}

/// Which GPUs a service gets, and what it is charged on each, in MiB. Empty: whichever its Compose
/// file says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(transparent)]
#[non_exhaustive]
pub struct Placement {
    /// The devices, and the charge on each in MiB.
    pub mib: BTreeMap<GpuId, u64>,
}

impl Placement {
    /// On these devices, with so much memory on each, in MiB.
    #[must_use]
    pub fn on(devices: impl IntoIterator<Item = GpuId>, mib: u64) -> Self {
        Self { mib: devices.into_iter().map(|device| (device, mib)).collect() }
    }

    /// The devices.
    pub fn devices(&self) -> impl Iterator<Item = &GpuId> {
        self.mib.keys()
    }

    /// Whether it names no device: the service may be on any.
    #[must_use]
    pub fn is_anywhere(&self) -> bool {
        self.mib.is_empty()
    }
}

#[cfg(test)]
mod tests;
