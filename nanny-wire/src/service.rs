//! Services as the API shows them, built from what was last seen of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use nanny_lib::backend::{ContainerState, EngineHealth};
use nanny_lib::{ContainerView, HealthView, QueueView, ServiceName, ServiceView, Snapshot};
use serde::{Serialize, Serializer};
use serde_json::{Number, Value};

use super::gpu::{ServiceGpu, service_gpus};
use crate::uptime::uptime;

/// `GET /services`
#[derive(Debug, Serialize)]
pub struct ServiceList {
    total: usize,
    services: Vec<Service>,
    gpu_service_running: Option<ServiceName>,
    gpu_services_running: Vec<ServiceName>,
    foreign_gpu_containers: Vec<String>,
}

impl ServiceList {
    /// The services that `wanted` picks; the rest of the answer is about all of them.
    pub fn new(now: &Snapshot, wanted: impl Fn(&ServiceView) -> bool) -> Self {
        let picked = now.services.values().filter(|view| wanted(view));
        let services: Vec<_> = picked.map(|view| Service(Arc::clone(view))).collect();
        Self {
            total: services.len(),
            services,
            gpu_service_running: now.gpu_service_running().cloned(),
            gpu_services_running: now.gpu_services_running.clone(),
            foreign_gpu_containers: now.foreign_gpu_containers.clone(),
        }
    }
}

/// A service, as a list shows it. It is written from the view itself: a list of a thousand copies
/// nothing.
#[derive(Debug)]
pub struct Service(Arc<ServiceView>);

impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Service<'a> {
            name: &'a str,
            description: &'a str,
            version: &'a str,
            gpu_required: bool,
            vram_gb: &'a Number,
            ports: &'a [String],
            health_endpoint: &'a str,
            tags: &'a [String],
            status: &'static str,
            /// Left out unless it runs.
            #[serde(skip_serializing_if = "Option::is_none")]
            mcp: Option<Mcp<'a>>,
        }
        /// Where a service that is an MCP server itself is reached, and what it offers.
        #[derive(Serialize)]
        struct Mcp<'a> {
            endpoint: &'a str,
            tools: &'a [String],
            resources: &'a [String],
        }
        let manifest = &self.0.manifest;
        let service = Service {
            name: manifest.name.as_str(),
            description: &manifest.description,
            version: &manifest.version,
            gpu_required: manifest.gpu_required,
            vram_gb: &manifest.vram_gb,
            ports: &manifest.ports,
            health_endpoint: manifest.health_endpoint.as_deref().unwrap_or_default(),
            tags: &manifest.tags,
            status: self.0.status.as_str(),
            mcp: self.0.mcp().map(|mcp| Mcp {
                endpoint: &mcp.endpoint,
                tools: &mcp.tools,
                resources: &mcp.resources,
            }),
        };
        service.serialize(serializer)
    }
}

/// `GET /services/{name}`: the same, and what else the manifest says.
#[derive(Debug, Serialize)]
pub struct ServiceDetail {
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

impl From<Arc<ServiceView>> for ServiceDetail {
    fn from(view: Arc<ServiceView>) -> Self {
        Self {
            author: view.manifest.author.clone(),
            repository: view.manifest.repository.clone(),
            backend: view.backend.clone(),
            extra: view.manifest.extra.clone(),
            service: Service(view),
        }
    }
}

/// `GET /services/{name}/status`
#[derive(Debug, Serialize)]
pub struct ServiceStatus {
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
    gpus: Vec<ServiceGpu>,
    holds_gpu: bool,
    queue: Option<QueueView>,
    drift: bool,
    backend: Option<String>,
    /// Containers of the project that its files know nothing of.
    orphans: Vec<String>,
    /// What a person should know of its networks and volumes.
    notices: Vec<String>,
    pulling: Option<Pulling>,
    building: Option<Building>,
}

impl ServiceStatus {
    /// `view` of `all`, as it is at `now`.
    pub fn new(view: &ServiceView, all: &Snapshot, now: Timestamp) -> Self {
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
            gpus: service_gpus(view, all),
            holds_gpu: view.holds_gpu,
            queue: view.queue.clone(),
            drift: view.drift,
            backend: view.backend.clone(),
            orphans: view.orphans.clone(),
            notices: view.notices.clone(),
            building: view.building.map(|progress| Building {
                sent_bytes: progress.sent_bytes,
                messages: progress.messages,
            }),
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

/// How far a build is: what was sent to the builder, and how often it said something.
#[derive(Debug, Serialize)]
struct Building {
    sent_bytes: u64,
    messages: u64,
}
