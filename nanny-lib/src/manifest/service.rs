//! What a service wants: plain data, as its manifest says it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::backend::{Environment, RestartPolicy};
use crate::name::ServiceName;

/// A service's manifest, checked and with every default filled in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Manifest {
    /// Its name; the directory's where the manifest gives none.
    pub name: ServiceName,
    /// What it does.
    pub description: String,
    /// Its version, as text.
    pub version: String,
    /// It needs a GPU: arbitration applies to it.
    pub gpu_required: bool,
    /// Estimated video memory in GB, as written: `8` stays an integer.
    pub vram_gb: serde_json::Number,
    /// Ports for people to read, `host:container`.
    pub ports: Vec<String>,
    /// Where its health is asked.
    pub health_endpoint: Option<String>,
    /// How long after its start it may take to become healthy.
    pub health_timeout: Duration,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Who wrote it.
    pub author: Option<String>,
    /// Where its source is.
    pub repository: Option<String>,
    /// Which backend it asks for, by name.
    pub backend: Option<String>,
    /// Who restarts its containers if it needs a GPU.
    pub restart: RestartMode,
    /// What it says about GPUs beyond `gpu_required`.
    pub gpus: GpuDemand,
    /// Higher goes first.
    pub priority: i32,
    /// It must not be stopped for another.
    pub pinned: bool,
    /// Compose profiles that are switched on.
    pub profiles: Vec<String>,
    /// How long its containers may take to end, where the Compose file does not say.
    pub stop_timeout: Option<Duration>,
    /// How its health is asked.
    pub health: HealthSettings,
    /// What a service runs that needs no container: a program and its arguments.
    pub command: Option<Vec<String>>,
    /// Whether the nanny runs that command again when it ends.
    pub on_exit: RestartPolicy,
    /// Its variables, on top of ours; the values never show.
    pub env: Environment,
    /// Services that must be ready before it. Does not act yet.
    pub depends_on: Vec<ServiceDependency>,
    /// Whether it is started with the nanny. Does not act yet.
    pub autostart: Option<bool>,
    /// How long nobody may use it before it is stopped. Does not act yet.
    pub idle_timeout: Option<Duration>,
    /// Limits beside the GPU. They act on a service that is a command; those of a Compose file are in
    /// that file.
    pub resources: ResourceLimits,
    /// An assistant never stops it, nor makes it give way by force. People and programs do: this is
    /// for whoever speaks for an assistant to ask, and nothing here does.
    pub protected: bool,
    /// Nobody may start or stop it, and why: our own container is part of it.
    pub off_limits: Option<String>,
    /// It is an MCP server itself, to be reached here while it runs.
    pub mcp: Option<McpEndpoint>,
    /// Fields that are kept and shown and have no meaning here.
    pub extra: BTreeMap<String, Value>,
}

impl Manifest {
    /// A manifest that says nothing but a name.
    #[must_use]
    pub fn new(name: ServiceName) -> Self {
        Self {
            name,
            description: "No description".to_owned(),
            version: "unknown".to_owned(),
            gpu_required: false,
            vram_gb: serde_json::Number::from(0),
            ports: Vec::new(),
            health_endpoint: None,
            health_timeout: Duration::from_secs(30),
            tags: Vec::new(),
            author: None,
            repository: None,
            backend: None,
            restart: RestartMode::default(),
            gpus: GpuDemand::default(),
            priority: 0,
            pinned: false,
            profiles: Vec::new(),
            stop_timeout: None,
            health: HealthSettings::default(),
            command: None,
            on_exit: RestartPolicy::default(),
            env: Environment::default(),
            depends_on: Vec::new(),
            autostart: None,
            idle_timeout: None,
            resources: ResourceLimits::default(),
            protected: false,
            off_limits: None,
            mcp: None,
            extra: BTreeMap::new(),
        }
    }

    /// The same, needing a GPU with `vram_gb` GB of memory.
    #[must_use]
    pub fn with_gpu(mut self, vram_gb: u32) -> Self {
        self.gpu_required = true;
        self.vram_gb = serde_json::Number::from(vram_gb);
        self
    }

    /// Declared video memory in MiB, rounded up; 0 if it declares none.
    #[must_use]
    pub fn vram_mib(&self) -> u64 {
        let declared = self.gpus.vram_gb.as_ref().unwrap_or(&self.vram_gb);
        let gb = declared.as_f64().unwrap_or(0.0).clamp(0.0, 1e9);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a range that fits"
        )]
        let mib = (gb * 1024.0).ceil() as u64;
        mib
    }
}

/// What a manifest says about GPUs beyond that it needs one. Acted upon by policies that place.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct GpuDemand {
    /// How many, if it says so: at least 1, and no more than it names.
    pub count: Option<u32>,
    /// Video memory on each, in GB.
    pub vram_gb: Option<serde_json::Number>,
    /// Only on these, by index, UUID or PCI address, each named once; on any, if there are none. A
    /// service that is a command is told to use them whatever the policy.
    pub devices: Vec<String>,
}

impl GpuDemand {
    /// How many GPUs it wants: as many as it names, if it does not say; else one.
    #[must_use]
    pub fn count(&self) -> u32 {
        let named = u32::try_from(self.devices.len()).unwrap_or(u32::MAX);
        self.count.unwrap_or(named).max(1)
    }
}

/// How a service's health is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthSettings {
    /// Time between two probes of a service that is steady.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// The HTTP status that means healthy.
    pub expect: u16,
    /// How many failures in a row make a healthy service `unhealthy`.
    pub failures: u32,
    /// How many successes in a row make it healthy again.
    pub successes: u32,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            expect: 200,
            failures: 1,
            successes: 1,
        }
    }
}

/// Who restarts the containers of a service that needs a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RestartMode {
    /// The nanny: an engine would bring a container back beside the one that took its GPU since.
    #[default]
    Nanny,
    /// The engine, as the Compose file says: `restart_policy: keep`.
    Keep,
}

/// Another service that a service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceDependency {
    /// Its name.
    pub service: String,
    /// Whether the service can do without it.
    pub required: bool,
}

impl ServiceDependency {
    /// A service that cannot be done without.
    #[must_use]
    pub fn new(service: impl Into<String>) -> Self {
        Self { service: service.into(), required: true }
    }
}

/// Limits beside the GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ResourceLimits {
    /// Processor time, in billionths of a processor.
    pub nano_cpus: Option<u64>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
}

/// Where a service that is an MCP server itself is reached, and what it says it offers there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct McpEndpoint {
    /// An `http` or `https` URL, without credentials: it is shown.
    pub endpoint: String,
    /// Its tools, by name.
    pub tools: Vec<String>,
    /// Its resources, by name.
    pub resources: Vec<String>,
}

impl McpEndpoint {
    /// One that names nothing that it offers.
    #[must_use]
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), tools: Vec::new(), resources: Vec::new() }
    }
}
