//! Services as the API shows them, built from what was last seen of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use nanny_lib::backend::{ContainerState, EngineHealth};
use nanny_lib::manifest::McpEndpoint;
use nanny_lib::{ContainerView, HealthView, QueueView, ServiceName, ServiceView, Snapshot};
use serde::{Serialize, Serializer};
use serde_json::{Number, Value};

use super::gpu::{Gpu, ServiceGpu, service_gpus};
use crate::uptime::uptime;

/// `GET /services`
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceList {
    /// How many were picked.
    total: usize,
    services: Vec<Service>,
    /// The service that has the GPU; the most recently started, if there are several.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    gpu_service_running: Option<ServiceName>,
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    gpu_services_running: Vec<ServiceName>,
    /// Containers of other hands that hold a GPU.
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

/// The services that were picked, and the GPUs.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Overview {
    #[serde(flatten)]
    services: ServiceList,
    gpus: Vec<Gpu>,
}

impl Overview {
    /// The services that `wanted` picks; the rest of the answer is about all of them.
    pub fn new(now: &Snapshot, wanted: impl Fn(&ServiceView) -> bool) -> Self {
        let gpus = now.gpus.iter().map(|gpu| Gpu::from(&**gpu)).collect();
        Self { services: ServiceList::new(now, wanted), gpus }
    }
}

/// A service, as a list shows it. It is written from the view itself: a list of a thousand copies
/// nothing.
#[derive(Debug)]
pub struct Service(Arc<ServiceView>);

impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let manifest = &self.0.manifest;
        let shape = ServiceShape {
            name: manifest.name.as_str(),
            description: &manifest.description,
            version: &manifest.version,
            gpu_required: manifest.gpu_required,
            vram_gb: &manifest.vram_gb,
            ports: &manifest.ports,
            health_endpoint: manifest.health_endpoint.as_deref().unwrap_or_default(),
            tags: &manifest.tags,
            status: self.0.status.as_str(),
            mcp: self.0.mcp().map(Mcp::from),
        };
        shape.serialize(serializer)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Service {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Service".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        ServiceShape::json_schema(generator)
    }
}

/// How a service is written.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct ServiceShape<'a> {
    name: &'a str,
    description: &'a str,
    version: &'a str,
    gpu_required: bool,
    /// Video memory it needs.
    #[cfg_attr(feature = "schema", schemars(with = "f64"))]
    vram_gb: &'a Number,
    ports: &'a [String],
    /// Empty if it has none.
    health_endpoint: &'a str,
    tags: &'a [String],
    /// stopped, queued, starting, running, unhealthy, stopping, failed or unknown.
    status: &'static str,
    /// Left out unless it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp: Option<Mcp<'a>>,
}

/// The service is an MCP server itself: where, and what it says it offers.
#[derive(Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Mcp<'a> {
    endpoint: &'a str,
    tools: &'a [String],
    resources: &'a [String],
}

impl<'a> From<&'a McpEndpoint> for Mcp<'a> {
    fn from(mcp: &'a McpEndpoint) -> Self {
        let McpEndpoint { endpoint, tools, resources, .. } = mcp;
        Self { endpoint, tools, resources }
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServiceStatus {
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    name: ServiceName,
    /// stopped, queued, starting, running, unhealthy, stopping, failed or unknown.
    status: &'static str,
    is_running: bool,
    is_healthy: bool,
    uptime: Option<String>,
    error: Option<String>,
    /// It runs and is healthy: it can be used.
    ready: bool,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    state_since: Timestamp,
    /// Since when its engine is out of reach.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    stale_since: Option<Timestamp>,
    health: Option<Health>,
    containers: Vec<Container>,
    gpus: Vec<ServiceGpu>,
    holds_gpu: bool,
    /// It waits for a GPU.
    #[cfg_attr(feature = "schema", schemars(with = "Option<QueueShape>"))]
    queue: Option<QueueView>,
    /// Its files changed since it was made: the next start makes it anew.
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Health {
    source: &'static str,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

/// How far the pull of its images is.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Pulling {
    current_bytes: u64,
    total_bytes: u64,
}

/// How far a build is: what was sent to the builder, and how often it said something.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct Building {
    sent_bytes: u64,
    messages: u64,
}

/// How a [`QueueView`] is written.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "only its shape is of interest")]
struct QueueShape {
    /// How many are before it.
    position: usize,
    since: String,
    reason: String,
}
