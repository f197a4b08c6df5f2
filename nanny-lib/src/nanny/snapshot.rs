//! What readers see: immutable snapshots, made by the driver after every step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::backend::{BuildProgress, ContainerState, EngineHealth, PullProgress};
use crate::manifest::{Manifest, Problem};
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
}

/// A service's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
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
