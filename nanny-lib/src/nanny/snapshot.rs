//! What readers see: immutable snapshots, made by the driver after every step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backend::{BuildProgress, ContainerState, EngineHealth, PullProgress};
use crate::gpu::{ClaimPhase, GpuHealth, GpuVendor, MemoryKind};
use crate::manifest::{Manifest, McpEndpoint, Problem};
use crate::name::{ContainerId, GpuId, ServiceName};

/// Everything there is to see, at one instant. Advisory: by the time it is read it may be over.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// The sources and every engine have answered, or failed to: before that, what is missing here
    /// may run.
    pub looked_around: bool,
    /// All services, by name.
    pub services: BTreeMap<ServiceName, Arc<ServiceView>>,
    /// All engines, in order of preference.
    pub engines: Vec<EngineView>,
    /// Running services that hold a GPU, the most recently started first.
    pub gpu_services_running: Vec<ServiceName>,
    /// Containers started by other hands that hold a GPU, by name.
    pub foreign_gpu_containers: Vec<String>,
    /// The GPUs there are, in the order in which people number them; empty if nothing is known of
    /// any.
    pub gpus: Vec<Arc<GpuView>>,
    /// What could not be seen of the GPUs, for a person.
    pub gpu_problems: Vec<String>,
    /// Services that wait for a GPU, the next one first.
    pub gpu_queue: Vec<ServiceName>,
    /// The name of the policy that decides about GPUs.
    pub gpu_policy: Arc<str>,
    /// What is wrong with manifests.
    pub problems: Arc<[Problem]>,
    /// What of the nanny itself does not work as it should, for a person: services are looked
    /// after all the same.
    pub degraded: Vec<String>,
}

impl Snapshot {
    /// The running GPU service, whoever started it; the most recently started if there are several.
    #[must_use]
    pub fn gpu_service_running(&self) -> Option<&ServiceName> {
        self.gpu_services_running.first()
    }

    /// How many services have a manifest.
    #[must_use]
    pub fn discovered(&self) -> usize {
        self.services.values().filter(|service| !service.gone).count()
    }

    /// How many services run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.services.values().filter(|service| service.is_running).count()
    }
}

/// One engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EngineView {
    /// Its name.
    pub name: String,
    /// Whether it answers.
    pub state: EngineState,
    /// Why it does not, for a person.
    pub reason: Option<String>,
}

/// Whether an engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EngineState {
    /// It answers.
    Up,
    /// It answered before and does not now.
    Down,
    /// It never answered.
    Absent,
}

/// One service.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ServiceView {
    /// What its manifest says.
    pub manifest: Arc<Manifest>,
    /// Its manifest is gone; it is shown as long as something of it runs.
    pub gone: bool,
    /// Its state in one word.
    pub status: Status,
    /// Whether it runs, as last observed.
    pub is_running: bool,
    /// Whether the last probe succeeded; with nothing to probe, whether it runs.
    pub is_healthy: bool,
    /// Since when it has this status.
    pub state_since: Timestamp,
    /// When its most recently started running container started, by the engine's clock.
    pub started_at: Option<Timestamp>,
    /// Since when its engine is out of reach.
    pub stale_since: Option<Timestamp>,
    /// Why it failed, for a person.
    pub error: Option<String>,
    /// What the last probe said.
    pub health: Option<HealthView>,
    /// Its project's name in the engine.
    pub project: String,
    /// The engine that runs it, or would.
    pub backend: Option<String>,
    /// Its containers.
    pub containers: Vec<ContainerView>,
    /// The GPUs its claim is on, where that is known.
    pub gpus: Vec<GpuId>,
    /// It holds a claim.
    pub holds_gpu: bool,
    /// It waits for a GPU.
    pub queue: Option<QueueView>,
    /// Its containers were made from other files than those there are now.
    pub drift: bool,
    /// Containers of its project that its files know nothing of, by name: they are never removed.
    pub orphans: Vec<String>,
    /// What a person should know of its networks and volumes.
    pub notices: Vec<String>,
    /// How far the pull of its images is, while one is under way.
    pub pulling: Option<PullProgress>,
    /// How far the build of its images is, while one is under way.
    pub building: Option<BuildProgress>,
    /// What came of it so far.
    pub tally: Tally,
}

impl ServiceView {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.manifest.name
    }

    /// Running and healthy.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status == Status::Running && self.is_healthy
    }

    /// Where it is reached as an MCP server now, if it is one and runs.
    #[must_use]
    pub fn mcp(&self) -> Option<&McpEndpoint> {
        self.manifest.mcp.as_ref().filter(|_| self.is_running)
    }
}

/// What came of a service since the nanny began, or first heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Starts by the nanny after which all of it ran, restarts among them.
    pub starts: u64,
    /// Starts and stops that failed, and containers that ended when nobody wished it. One that ran to
    /// its end, with the code 0 and none to follow, has not failed. What an engine restarts by itself
    /// is not seen.
    pub failures: u64,
    /// How long the claims on GPUs lasted that it had and has no more.
    pub gpu_time_before: Duration,
    /// Since when it has the claim that it has now.
    pub gpu_since: Option<Timestamp>,
}

impl Tally {
    /// How long it had a claim on a GPU in all, up to `at`. A wall clock that was set back meanwhile
    /// counts as one that stood.
    #[must_use]
    pub fn gpu_time(&self, at: Timestamp) -> Duration {
        let now = self.gpu_since.map(|since| at.duration_since(since));
        let now = now.and_then(|now| Duration::try_from(now).ok()).unwrap_or_default();
        self.gpu_time_before.saturating_add(now)
    }
}

/// A place in the queue for a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueueView {
    /// How many are before it: 0 is the next one.
    pub position: usize,
    /// Since when.
    pub since: Timestamp,
    /// What it waits for, for a person.
    pub reason: String,
}

/// One GPU: what it has, who has it, and what is promised to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuView {
    /// Which: the same after every boot.
    pub id: GpuId,
    /// The number that people know it by.
    pub index: Option<u32>,
    /// What it is called.
    pub name: String,
    /// Who made it.
    pub vendor: GpuVendor,
    /// Where it sits.
    pub pci: Option<String>,
    /// Whether its memory is its own.
    pub memory: MemoryKind,
    /// Whether it is in order.
    pub health: GpuHealth,
    /// All its memory, in MiB.
    pub total_mib: Option<u64>,
    /// Memory in use, whoever uses it, in MiB; `None` if it is not measured.
    pub used_mib: Option<u64>,
    /// Memory kept free, in MiB.
    pub headroom_mib: u64,
    /// Memory in use by nobody we know, in MiB.
    pub foreign_mib: u64,
    /// The sum of what is charged to holders, in MiB.
    pub charged_mib: u64,
    /// What may be charged to somebody else, in MiB; `None` if nobody knows.
    pub free_mib: Option<u64>,
    /// How busy it is, in percent.
    pub utilization_percent: Option<u32>,
    /// How warm it is, in degrees Celsius.
    pub temperature_celsius: Option<u32>,
    /// The claims on it, by service.
    pub claims: Vec<GpuClaimView>,
    /// Processes that use it and are none of a service's.
    pub others: Vec<GpuUserView>,
}

/// A claim on one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuClaimView {
    /// Whose.
    pub service: ServiceName,
    /// How far it is.
    pub phase: ClaimPhase,
    /// What it is charged, in MiB.
    pub charge_mib: u64,
    /// What it is seen to use now, in MiB; `None` if that cannot be seen.
    pub used_mib: Option<u64>,
    /// The most it was seen to use since it has the claim, in MiB.
    pub high_water_mib: Option<u64>,
}

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GpuUserView {
    /// Its number on the host.
    pub pid: u32,
    /// Its program.
    pub name: Option<String>,
    /// What it uses, in MiB; `None` if that cannot be seen.
    pub used_mib: Option<u64>,
}

/// A service's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// It does not run, and should not.
    Stopped,
    /// It waits for a GPU.
    Queued,
    /// It is being started.
    Starting,
    /// It runs; it is healthy, or had no time yet to become so.
    Running,
    /// It runs, had its time, and its health check fails.
    Unhealthy,
    /// It is being stopped.
    Stopping,
    /// It should run and cannot.
    Failed,
    /// Its engine is out of reach.
    Unknown,
}

impl Status {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Stopped,
        Self::Queued,
        Self::Starting,
        Self::Running,
        Self::Unhealthy,
        Self::Stopping,
        Self::Failed,
        Self::Unknown,
    ];

    /// The word, as the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Unhealthy => "unhealthy",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// What the last probe said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HealthView {
    /// Who said it: `endpoint`, `engine` or `running`.
    pub source: &'static str,
    /// When.
    pub checked_at: Timestamp,
    /// How long the answer took.
    pub latency: Duration,
    /// What was wrong, for a person.
    pub reason: Option<String>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerView {
    /// Its identifier.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// Which part of the project it is.
    pub part: String,
    /// What it does.
    pub state: ContainerState,
    /// What its own health check says.
    pub health: Option<EngineHealth>,
    /// The code its last run ended with.
    pub exit_code: Option<i64>,
}
