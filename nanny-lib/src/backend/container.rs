//! Containers: what is asked of an engine, and what it says about them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::{Dns, Limits, Mount, NetworkAttachment, is_default};
use crate::name::{ContainerId, GpuId};

/// Labels on a container, network or volume.
pub type Labels = BTreeMap<String, String>;

/// Everything an engine needs to create one container.
///
/// Engine-neutral and already resolved: no interpolation, no relative path, no default that an
/// engine would have to guess. The default is a container with nothing but its image's own
/// settings.
///
/// This and what it is made of may get further fields, and are not marked `non_exhaustive` all the
/// same: a backend takes them apart field by field, without `..`, so that a field it has never heard
/// of does not compile, rather than being dropped in silence. What it cannot honour, it answers with
/// [`ErrorKind::Unsupported`](super::ErrorKind::Unsupported), naming the field. To *make* one, write
/// `..ContainerSpec::default()`.
///
/// A hash of it is how a change is recognised. So that no existing container seems changed when a
/// field is added, a field that has its default is not serialized.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ContainerSpec {
    /// Its name, unique in the engine.
    pub name: String,
    /// The image to run; `None` where the backend runs plain processes.
    pub image: Option<String>,
    /// The platform of the image, `os/architecture[/variant]`; the engine's own if absent.
    #[serde(skip_serializing_if = "is_default")]
    pub platform: Option<String>,
    /// Replaces the image's entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Environment variables.
    pub environment: Environment,
    /// Labels it carries.
    pub labels: Labels,
    /// Notes for the engine's runtime.
    #[serde(skip_serializing_if = "is_default")]
    pub annotations: Labels,
    /// Its host name.
    pub hostname: Option<String>,
    /// Its domain name.
    #[serde(skip_serializing_if = "is_default")]
    pub domainname: Option<String>,
    /// Whom it runs as, `user[:group]`.
    pub user: Option<String>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// Has a terminal.
    pub tty: bool,
    /// Keeps standard input open.
    pub stdin_open: bool,
    /// Runs an init process as process 1; `None` is the engine's default.
    pub init: Option<bool>,
    /// Ports published on the host.
    pub ports: Vec<PortMapping>,
    /// Ports reachable inside its networks: `8000`, `8000-8010` or either with `/udp`.
    pub expose: Vec<String>,
    /// Files and volumes inside it.
    pub mounts: Vec<Mount>,
    /// Memory at these paths, with mount options such as `size=64m,mode=755`; empty for none.
    #[serde(skip_serializing_if = "is_default")]
    pub tmpfs: BTreeMap<String, String>,
    /// Options of the driver of its own file system.
    #[serde(skip_serializing_if = "is_default")]
    pub storage_options: BTreeMap<String, String>,
    /// It cannot write to its own file system.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Host devices inside it.
    pub devices: Vec<DeviceMapping>,
    /// Rules on device nodes it makes itself, `c 1:3 mr`.
    #[serde(skip_serializing_if = "is_default")]
    pub device_cgroup_rules: Vec<String>,
    /// GPUs it asks the engine for.
    pub gpus: Vec<GpuDevices>,
    /// Further groups of its user.
    pub group_add: Vec<String>,
    /// Capabilities it has beyond the default.
    pub cap_add: Vec<String>,
    /// Capabilities of the default that it lacks.
    pub cap_drop: Vec<String>,
    /// Security options, `seccomp=unconfined` and the like; a profile is given whole, not as a path.
    pub security_opt: Vec<String>,
    /// It may do nearly everything the host may.
    #[serde(skip_serializing_if = "is_default")]
    pub privileged: bool,
    /// Kernel settings of its own.
    #[serde(skip_serializing_if = "is_default")]
    pub sysctls: BTreeMap<String, String>,
    /// The namespaces it shares with the host or with others.
    #[serde(flatten)]
    pub namespaces: Namespaces,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// The engine's runtime, such as `nvidia`.
    pub runtime: Option<String>,
    /// What the *engine* does when it exits; nothing, if nothing is said.
    #[serde(serialize_with = "restart_or_no")]
    pub restart: Option<RestartPolicy>,
    /// What becomes of its log; the engine's default if absent.
    #[serde(skip_serializing_if = "is_default")]
    pub logging: Option<Logging>,
    /// A health check for the engine to run.
    pub healthcheck: Option<Healthcheck>,
    /// `host`, `none`, `bridge` or `container:<id>` instead of networks of its own.
    pub network_mode: Option<String>,
    /// Networks it joins; the first is its primary one.
    pub networks: Vec<NetworkAttachment>,
    /// Its hardware address, on its primary network.
    #[serde(skip_serializing_if = "is_default")]
    pub mac_address: Option<String>,
    /// Other containers it can name, `name:alias`.
    #[serde(skip_serializing_if = "is_default")]
    pub links: Vec<String>,
    /// How it looks names up.
    #[serde(skip_serializing_if = "is_default")]
    pub dns: Dns,
    /// Further lines of its hosts file, `name:address`.
    pub extra_hosts: Vec<String>,
    /// Limits on its processes.
    pub ulimits: Vec<Ulimit>,
    /// How much of the machine it may use.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// The signal that asks it to end.
    pub stop_signal: Option<String>,
    /// How long it may take to end before it is killed.
    pub stop_grace: Option<Duration>,
}

impl ContainerSpec {
    /// A container called `name` that runs `image` as it is.
    #[must_use]
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self { name: name.into(), image: Some(image.into()), ..Self::default() }
    }
}

/// Namespaces that a container shares: `host`, `private`, `container:<id>` and what else an engine
/// knows; its default where absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Namespaces {
    /// For communication between processes.
    pub ipc: Option<String>,
    /// For processes.
    #[serde(skip_serializing_if = "is_default")]
    pub pid: Option<String>,
    /// For host and domain name.
    #[serde(skip_serializing_if = "is_default")]
    pub uts: Option<String>,
    /// For users.
    #[serde(skip_serializing_if = "is_default")]
    pub userns: Option<String>,
    /// For control groups.
    #[serde(skip_serializing_if = "is_default")]
    pub cgroup: Option<String>,
}

/// What an engine does with a container's log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Logging {
    /// Which of the engine's log drivers; its default if absent.
    pub driver: Option<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// Environment variables; their values never show in `Debug`. `None` unsets an image's variable.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment(pub BTreeMap<String, Option<String>>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A container port published on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortMapping {
    /// The port inside.
    pub container_port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The host address to bind; `None` is all of them.
    pub host_ip: Option<String>,
    /// The host port, or a range to choose from; `None` lets the engine choose.
    pub host_ports: Option<HostPorts>,
}

impl PortMapping {
    /// `container_port`, published at a TCP port of the engine's choice on all addresses.
    #[must_use]
    pub fn new(container_port: u16) -> Self {
        Self { container_port, protocol: Protocol::Tcp, host_ip: None, host_ports: None }
    }
}

/// One host port, or a range from which the engine takes a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HostPorts {
    /// The first.
    pub first: u16,
    /// The last; the same as the first for a single port.
    pub last: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A device node of the host inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceMapping {
    /// Path on the host.
    pub host: String,
    /// Path inside.
    pub container: String,
    /// Any of `r`, `w` and `m`.
    pub permissions: String,
}

impl DeviceMapping {
    /// The host's `path` at the same path inside, with all permissions.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        let host = path.into();
        Self { container: host.clone(), host, permissions: "rwm".to_owned() }
    }
}

/// A request to the engine for GPUs or like devices.
///
/// The driver `cdi` takes qualified names such as `nvidia.com/gpu=all` for `device_ids`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct GpuDevices {
    /// Which of the engine's device drivers; empty is any.
    pub driver: String,
    /// How many; `-1` is all. Excludes `device_ids`.
    pub count: Option<i64>,
    /// Which, by index or UUID.
    pub device_ids: Vec<String>,
    /// What they must be able to do, such as `gpu` and `compute`.
    pub capabilities: Vec<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// What an engine does when a container exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// Starts it again, also after the engine itself was restarted.
    Always,
    /// The same, unless it had been stopped before.
    UnlessStopped,
    /// Starts it again if it failed, so often at most (`None`: without limit).
    OnFailure {
        /// The limit.
        max_retries: Option<u32>,
    },
}

/// To say nothing is to say no.
#[expect(clippy::ref_option, reason = "it is how serde calls it")]
fn restart_or_no<S: Serializer>(
    restart: &Option<RestartPolicy>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    restart.unwrap_or_default().serialize(serializer)
}

impl RestartPolicy {
    /// Whether an exit with `code` is to be answered with a restart, by the `restarts`-th retry.
    #[must_use]
    pub fn answers(self, code: Option<i64>, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure { max_retries } => {
                code != Some(0) && max_retries.is_none_or(|max| restarts < max)
            }
        }
    }
}

/// A health check that the engine runs inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Healthcheck {
    /// What it runs.
    pub test: HealthcheckTest,
    /// Time between two runs.
    pub interval: Option<Duration>,
    /// How long a run may take.
    pub timeout: Option<Duration>,
    /// How many failures in a row make it unhealthy.
    pub retries: Option<u64>,
    /// Time after the start in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two runs within the start period.
    pub start_interval: Option<Duration>,
}

impl Healthcheck {
    /// `test`, with the engine's default times.
    #[must_use]
    pub fn new(test: HealthcheckTest) -> Self {
        Self {
            test,
            interval: None,
            timeout: None,
            retries: None,
            start_period: None,
            start_interval: None,
        }
    }
}

/// What a health check runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum HealthcheckTest {
    /// The image's own test, with other times.
    Inherit,
    /// Nothing: switches the image's own test off.
    Disabled,
    /// A program and its arguments.
    Command(Vec<String>),
    /// A line for the container's shell.
    Shell(String),
}

/// A limit on a container's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    /// Which, such as `nofile` or `memlock`.
    pub name: String,
    /// The soft limit; `-1` is none.
    pub soft: i64,
    /// The hard limit; `-1` is none.
    pub hard: i64,
}

impl Ulimit {
    /// `name`, from `soft` up to `hard`.
    #[must_use]
    pub fn new(name: impl Into<String>, soft: i64, hard: i64) -> Self {
        Self { name: name.into(), soft, hard }
    }
}

/// What an engine knows about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerInfo {
    /// Its identifier.
    pub id: ContainerId,
    /// Its name, without a leading slash.
    pub name: String,
    /// The image it was made from, as it was asked for.
    pub image: String,
    /// Labels it carries.
    pub labels: Labels,
    /// What it does now.
    pub state: ContainerState,
    /// What its own health check says, if it has one.
    pub health: Option<EngineHealth>,
    /// How its last run ended, if one ended.
    pub exit: Option<Exit>,
    /// When its last run began.
    pub started_at: Option<Timestamp>,
    /// What the engine does when it exits.
    pub restart: RestartPolicy,
    /// It was given a GPU, or a device that only GPUs have.
    pub uses_gpu: bool,
    /// The GPUs it was given by name, where its backend knows: each as it was asked for, by UUID or by
    /// index. Empty says nothing.
    pub gpus: Vec<GpuId>,
    /// The processes from which all of its own descend, where its backend knows them: numbers on the
    /// host. Empty says nothing; of what engines run, control groups tell.
    pub processes: Vec<u32>,
    /// Its volumes, by the path inside where they are mounted.
    pub volumes: BTreeMap<String, String>,
}

impl ContainerInfo {
    /// A container that was created and never ran.
    #[must_use]
    pub fn new(id: ContainerId, name: impl Into<String>, image: impl Into<String>) -> Self {
        Self {
            id,
            name: name.into(),
            image: image.into(),
            labels: Labels::new(),
            state: ContainerState::Created,
            health: None,
            exit: None,
            started_at: None,
            restart: RestartPolicy::No,
            uses_gpu: false,
            gpus: Vec::new(),
            processes: Vec::new(),
            volumes: BTreeMap::new(),
        }
    }
}

/// What a container does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContainerState {
    /// It never ran.
    Created,
    /// It runs.
    Running,
    /// It is frozen, with everything it holds.
    Paused,
    /// The engine is about to start it again.
    Restarting,
    /// It was asked to end and has not yet.
    Stopping,
    /// It ran, and does not.
    Exited,
    /// The engine is removing it.
    Removing,
    /// The engine says something we do not know; it may hold resources.
    Unknown,
}

impl ContainerState {
    /// Whether it may hold a GPU, a port or memory now.
    #[must_use]
    pub fn holds(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Restarting | Self::Stopping | Self::Unknown => {
                true
            }
            Self::Created | Self::Exited | Self::Removing => false,
        }
    }
}

/// What a container's own health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EngineHealth {
    /// It has not decided yet.
    Starting,
    /// The last checks passed.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

/// How a container's run ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Exit {
    /// The exit code, where the engine knows it; 128 + n for signal n.
    pub code: Option<i64>,
    /// The kernel killed it for want of memory.
    pub out_of_memory: bool,
    /// Why it could not even start, in the engine's words.
    pub error: Option<String>,
    /// When.
    pub at: Option<Timestamp>,
}

impl Exit {
    /// An exit with `code`.
    #[must_use]
    pub fn with_code(code: i64) -> Self {
        Self { code: Some(code), ..Self::default() }
    }
}
