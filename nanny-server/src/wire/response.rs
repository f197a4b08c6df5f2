//! Response bodies, built from what the nanny says.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nanny_lib::backend::{ContainerState, EngineHealth};
use nanny_lib::manifest::{Problem, Severity};
use nanny_lib::{
    ContainerView, EngineView, GpuId, HealthView, Rediscovered, ServiceName, ServiceView, Snapshot,
    StartPlan, Started, Stopped, Verdict,
};
use serde::Serialize;
use serde_json::{Number, Value};

use crate::uptime::uptime;

/// `GET /`
#[derive(Debug, Serialize)]
pub(crate) struct Welcome {
    message: &'static str,
    version: &'static str,
    services_discovered: usize,
    gpu_service_running: Option<ServiceName>,
}

impl From<&Snapshot> for Welcome {
    fn from(now: &Snapshot) -> Self {
        Self {
            message: "Service Nanny is running!",
            version: env!("CARGO_PKG_VERSION"),
            services_discovered: now.services.len(),
            gpu_service_running: now.gpu_service_running().cloned(),
        }
    }
}

/// `GET /health`
#[derive(Debug, Serialize)]
pub(crate) struct OwnHealth {
    status: &'static str,
    services_discovered: usize,
    services_running: usize,
    engines: Vec<EngineView>,
}

impl From<&Snapshot> for OwnHealth {
    fn from(now: &Snapshot) -> Self {
        Self {
            status: "healthy",
            services_discovered: now.services.len(),
            services_running: now.running(),
            engines: now.engines.clone(),
        }
    }
}

/// `GET /services`
#[derive(Debug, Serialize)]
pub(crate) struct ServiceList {
    total: usize,
    services: Vec<Service>,
    gpu_service_running: Option<ServiceName>,
    gpu_services_running: Vec<ServiceName>,
    foreign_gpu_containers: Vec<String>,
}

impl ServiceList {
    /// The services that `wanted` picks; the rest of the answer is about all of them.
    pub(crate) fn new(now: &Snapshot, wanted: impl Fn(&ServiceView) -> bool) -> Self {
        let services: Vec<Service> = now
            .services
            .values()
            .filter(|view| wanted(view))
            .map(|view| (&**view).into())
            .collect();
        Self {
            total: services.len(),
            services,
            gpu_service_running: now.gpu_service_running().cloned(),
            gpu_services_running: now.gpu_services_running.clone(),
            foreign_gpu_containers: now.foreign_gpu_containers.clone(),
        }
    }
}

/// A service, as a list shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Service {
    name: ServiceName,
    description: String,
    version: String,
    gpu_required: bool,
    vram_gb: Number,
    ports: Vec<String>,
    health_endpoint: String,
    tags: Vec<String>,
    status: &'static str,
}

impl From<&ServiceView> for Service {
    fn from(view: &ServiceView) -> Self {
        let manifest = &view.manifest;
        Self {
            name: manifest.name.clone(),
            description: manifest.description.clone(),
            version: manifest.version.clone(),
            gpu_required: manifest.gpu_required,
            vram_gb: manifest.vram_gb.clone(),
            ports: manifest.ports.clone(),
            health_endpoint: manifest.health_endpoint.clone().unwrap_or_default(),
            tags: manifest.tags.clone(),
            status: view.status.as_str(),
        }
    }
}

/// `GET /services/{name}`: the same, and what else the manifest says.
#[derive(Debug, Serialize)]
pub(crate) struct ServiceDetail {
    #[serde(flatten)]
    service: Service,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Value>,
}

impl From<&ServiceView> for ServiceDetail {
    fn from(view: &ServiceView) -> Self {
        Self {
            service: view.into(),
            author: view.manifest.author.clone(),
            repository: view.manifest.repository.clone(),
            backend: view.backend.clone(),
            extra: view.manifest.extra.clone(),
        }
    }
}

/// `GET /services/{name}/status`
#[derive(Debug, Serialize)]
pub(crate) struct ServiceStatus {
    name: ServiceName,
    status: &'static str,
    is_running: bool,
    is_healthy: bool,
    uptime: Option<String>,
    error: Option<String>,
    ready: bool,
    state_since: Timestamp,
    stale_since: Option<Timestamp>,
    health: Option<Health>,
    containers: Vec<Container>,
    gpus: Vec<GpuId>,
    holds_gpu: bool,
    drift: bool,
    backend: Option<String>,
    pulling: Option<Pulling>,
}

impl ServiceStatus {
    /// `view`, as it is at `now`.
    pub(crate) fn new(view: &ServiceView, now: Timestamp) -> Self {
        Self {
            name: view.name().clone(),
            status: view.status.as_str(),
            is_running: view.is_running,
            is_healthy: view.is_healthy,
            uptime: view
                .started_at
                .filter(|_| view.is_running)
                .map(|started_at| uptime(started_at, now)),
            error: view.error.clone(),
            ready: view.is_ready(),
            state_since: view.state_since,
            stale_since: view.stale_since,
            health: view.health.as_ref().map(Health::from),
            containers: view.containers.iter().map(Container::from).collect(),
            gpus: view.gpus.clone(),
            holds_gpu: view.holds_gpu,
            drift: view.drift,
            backend: view.backend.clone(),
            pulling: view.pulling.map(|progress| Pulling {
                current_bytes: progress.current_bytes,
                total_bytes: progress.total_bytes,
            }),
        }
    }
}

#[derive(Debug, Serialize)]
struct Health {
    source: &'static str,
    checked_at: Timestamp,
    latency_ms: u128,
    reason: Option<String>,
}

impl From<&HealthView> for Health {
    fn from(health: &HealthView) -> Self {
        Self {
            source: health.source,
            checked_at: health.checked_at,
            latency_ms: health.latency.as_millis(),
            reason: health.reason.clone(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Container {
    id: String,
    name: String,
    part: String,
    state: &'static str,
    health: Option<&'static str>,
    exit_code: Option<i64>,
}

impl From<&ContainerView> for Container {
    fn from(container: &ContainerView) -> Self {
        Self {
            id: container.id.to_string(),
            name: container.name.clone(),
            part: container.part.clone(),
            state: state_word(container.state),
            health: container.health.map(health_word),
            exit_code: container.exit_code,
        }
    }
}

fn state_word(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Paused => "paused",
        ContainerState::Restarting => "restarting",
        ContainerState::Stopping => "stopping",
        ContainerState::Exited => "exited",
        ContainerState::Removing => "removing",
        _ => "unknown",
    }
}

fn health_word(health: EngineHealth) -> &'static str {
    match health {
        EngineHealth::Starting => "starting",
        EngineHealth::Healthy => "healthy",
        EngineHealth::Unhealthy => "unhealthy",
        _ => "unknown",
    }
}

#[derive(Debug, Serialize)]
struct Pulling {
    current_bytes: u64,
    total_bytes: u64,
}

/// `POST /services/{name}/start` and `…/restart`
#[derive(Debug, Serialize)]
pub(crate) struct StartAnswer {
    message: String,
    status: &'static str,
    health_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stopped: Vec<ServiceName>,
}

impl StartAnswer {
    /// A start of `name` that was answered with `started`.
    pub(crate) fn started(name: &str, health_endpoint: Option<String>, started: Started) -> Self {
        let (message, status) = match (started.already_running, started.pending) {
            (true, _) => (format!("Service '{name}' is already running"), "running"),
            (false, true) => (format!("Service '{name}' is starting"), "starting"),
            (false, false) => (format!("Service '{name}' started successfully"), "running"),
        };
        Self {
            message,
            status,
            health_endpoint,
            stopped: started.stopped,
        }
    }

    /// A restart of `name` that was answered with `started`.
    pub(crate) fn restarted(name: &str, health_endpoint: Option<String>, started: Started) -> Self {
        let (message, status) = if started.pending {
            (format!("Service '{name}' is restarting"), "starting")
        } else {
            (
                format!("Service '{name}' restarted successfully"),
                "running",
            )
        };
        Self {
            message,
            status,
            health_endpoint,
            stopped: started.stopped,
        }
    }
}

/// `POST /services/{name}/stop`
#[derive(Debug, Serialize)]
pub(crate) struct StopAnswer {
    message: String,
    status: &'static str,
}

impl StopAnswer {
    /// A stop of `name` that was answered with `stopped`.
    pub(crate) fn new(name: &str, stopped: &Stopped) -> Self {
        let message = if stopped.was_running {
            format!("Service '{name}' stopped successfully")
        } else {
            format!("Service '{name}' is not running")
        };
        Self {
            message,
            status: "stopped",
        }
    }
}

/// `GET /services/{name}/plan`
#[derive(Debug, Serialize)]
pub(crate) struct PlanAnswer {
    service: String,
    verdict: &'static str,
    victims: Vec<ServiceName>,
    reason: Option<String>,
    conflicts: Vec<String>,
    steps: Vec<String>,
}

impl PlanAnswer {
    /// What a start of `name` would do.
    pub(crate) fn new(name: &str, plan: StartPlan) -> Self {
        let (verdict, victims, reason, conflicts) = match plan.verdict {
            Verdict::Admit => ("admit", Vec::new(), None, Vec::new()),
            Verdict::Evict { victims } => ("evict", victims, None, Vec::new()),
            Verdict::AlreadyRunning => ("already_running", Vec::new(), None, Vec::new()),
            Verdict::Refuse { reason, holders } => ("refuse", Vec::new(), Some(reason), holders),
            _ => ("unknown", Vec::new(), None, Vec::new()),
        };
        Self {
            service: name.to_owned(),
            verdict,
            victims,
            reason,
            conflicts,
            steps: plan.steps,
        }
    }
}

/// `GET /services/{name}/logs`
#[derive(Debug, Serialize)]
pub(crate) struct LogsAnswer {
    pub(crate) service: String,
    pub(crate) logs: String,
    /// What was asked for; -1 is everything.
    pub(crate) tail: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) truncated: bool,
}

/// `POST /rediscover`
#[derive(Debug, Serialize)]
pub(crate) struct RediscoverAnswer {
    message: &'static str,
    services_discovered: usize,
    added: Vec<ServiceName>,
    changed: Vec<ServiceName>,
    removed: Vec<ServiceName>,
    errors: Vec<Problem>,
    hints: Vec<Problem>,
}

impl From<Rediscovered> for RediscoverAnswer {
    fn from(found: Rediscovered) -> Self {
        let (hints, errors) = found
            .problems
            .into_iter()
            .partition(|problem| problem.severity == Severity::Hint);
        Self {
            message: "Service discovery completed",
            services_discovered: found.total,
            added: found.added,
            changed: found.changed,
            removed: found.removed,
            errors,
            hints,
        }
    }
}
