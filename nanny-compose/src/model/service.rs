//! A service: what one container of the project is to be.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::{
    Build, Config, Device, Environment, FileMount, GpuRequest, Healthcheck, Mount, Port,
    RestartPolicy, Ulimit,
};

/// One service of a project. The nanny runs at most one container of each.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Service {
    /// The key under `services`.
    pub name: String,
    /// The image to run; of a service that is only built, the name Compose gives the result.
    pub image: String,
    /// How to build the image, if the file says so.
    pub build: Option<Build>,
    /// When to fetch the image; when it is missing, if absent.
    pub pull_policy: Option<PullPolicy>,
    /// The platform of the image, such as `linux/amd64`.
    pub platform: Option<String>,
    /// Whether it is to have a container at all: `scale: 0` asks for none.
    pub is_wanted: bool,
    /// A name for the container instead of `<project>-<service>-1`.
    pub container_name: Option<String>,
    /// The host name inside the container.
    pub hostname: Option<String>,
    /// The domain name inside the container.
    pub domainname: Option<String>,
    /// The command, split into words; empty to clear the image's.
    pub command: Option<Vec<String>>,
    /// The entry point, split into words; empty to clear the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Variables, with those of the `env_file`s merged in.
    pub environment: Environment,
    /// Ports, with ranges taken apart.
    pub ports: Vec<Port>,
    /// Ports opened to the other services only, as written.
    pub expose: Vec<String>,
    /// Binds, volumes and the like.
    pub mounts: Vec<Mount>,
    /// Paths inside that are memory, each with options after a colon.
    pub tmpfs: Vec<String>,
    /// Secrets, as files in the container.
    pub secrets: Vec<FileMount>,
    /// Configs, as files in the container.
    pub configs: Vec<FileMount>,
    /// Devices of the host; those with a CDI name are among the [`gpus`](Self::gpus).
    pub devices: Vec<Device>,
    /// Rules for the devices it may use, such as `c 1:3 mr`.
    pub device_cgroup_rules: Vec<String>,
    /// Everything it asks of the GPUs, ready for an engine.
    pub gpus: Vec<GpuRequest>,
    /// Supplementary groups, by name or number.
    pub group_add: Vec<String>,
    /// Which namespaces it shares.
    pub namespaces: Namespaces,
    /// How much it may use.
    pub resources: Resources,
    /// The size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Capabilities to add, as written.
    pub cap_add: Vec<String>,
    /// Capabilities to drop, as written.
    pub cap_drop: Vec<String>,
    /// Security options, as written; in the place of a seccomp profile's path stands the profile.
    pub security_opt: Vec<String>,
    /// Whether it has all the rights of the host.
    pub privileged: bool,
    /// Whether its root file system is read-only.
    pub read_only: bool,
    /// The user, with or without a group.
    pub user: Option<String>,
    /// The working directory inside the container.
    pub working_dir: Option<String>,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Whether its input stays open.
    pub stdin_open: bool,
    /// Whether an init process reaps its children.
    pub init: Option<bool>,
    /// When to start it again: `restart`, or `deploy.restart_policy` in its place.
    pub restart: Option<RestartPolicy>,
    /// How to find out whether it is well.
    pub healthcheck: Option<Healthcheck>,
    /// What must be up before it, by service name; also what it shares a namespace with.
    pub depends_on: BTreeMap<String, Dependency>,
    /// The networks it joins, by their key in the file. Empty with a `network_mode`.
    pub networks: BTreeMap<String, Attachment>,
    /// A network stack other than networks of the project.
    pub network_mode: Option<NetworkMode>,
    /// The hardware address of its primary network.
    pub mac_address: Option<String>,
    /// Other services it knows by another name: `service` or `service:alias`.
    pub links: Vec<String>,
    /// Containers outside the project it knows by another name: `container:alias`.
    pub external_links: Vec<String>,
    /// Extra host names with their addresses.
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Options of the resolver.
    pub dns_opt: Vec<String>,
    /// Domains that the resolver searches.
    pub dns_search: Vec<String>,
    /// The file's own labels, with those of the `label_file`s merged in.
    pub labels: BTreeMap<String, String>,
    /// Annotations for the runtime.
    pub annotations: BTreeMap<String, String>,
    /// Where its log goes; the engine's default if absent.
    pub logging: Option<Logging>,
    /// Resource limits by name (`memlock`, `nofile`).
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Options of the storage driver.
    pub storage_opt: BTreeMap<String, String>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// How long it may take to stop.
    pub stop_grace_period: Option<Duration>,
    /// The engine's runtime (`nvidia`, `habana`).
    pub runtime: Option<String>,
    /// The profiles that activate it; none means always active.
    pub profiles: Vec<String>,
    /// The configuration as Compose hashes it.
    pub config: Config,
}

/// Which namespaces a container shares, each as written: `host`, `private`, `service:web`,
/// `container:name`, ….
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Namespaces {
    /// `ipc`.
    pub ipc: Option<String>,
    /// `pid`.
    pub pid: Option<String>,
    /// `uts`.
    pub uts: Option<String>,
    /// `userns_mode`.
    pub user: Option<String>,
    /// `cgroup`.
    pub cgroup: Option<String>,
    /// `cgroup_parent`.
    pub cgroup_parent: Option<String>,
}

/// How much a container may use. Zero, or absent, is the engine's default.
///
/// `deploy.resources.limits` and `.reservations` are merged in; they win, as in Compose.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Resources {
    /// `cpu_count` (Windows).
    pub cpu_count: i64,
    /// `cpu_percent` (Windows).
    pub cpu_percent: f32,
    /// `cpu_period` in microseconds.
    pub cpu_period: i64,
    /// `cpu_quota` in microseconds.
    pub cpu_quota: i64,
    /// `cpu_rt_period` in microseconds.
    pub cpu_rt_period: i64,
    /// `cpu_rt_runtime` in microseconds.
    pub cpu_rt_runtime: i64,
    /// `cpu_shares`: the weight among others.
    pub cpu_shares: i64,
    /// `cpus`, or `deploy.resources.limits.cpus`.
    pub cpus: f32,
    /// `cpuset`: which processors.
    pub cpuset: Option<String>,
    /// `mem_limit`, or `deploy.resources.limits.memory`, in bytes.
    pub mem_limit: i64,
    /// `mem_reservation`, or `deploy.resources.reservations.memory`, in bytes.
    pub mem_reservation: i64,
    /// `memswap_limit` in bytes; -1 for no limit.
    pub memswap_limit: i64,
    /// `mem_swappiness` from 0 to 100.
    pub mem_swappiness: Option<i64>,
    /// `pids_limit`, or `deploy.resources.limits.pids`.
    pub pids_limit: Option<i64>,
    /// `oom_kill_disable`.
    pub oom_kill_disable: bool,
    /// `oom_score_adj`.
    pub oom_score_adj: i64,
}

/// Where a container's log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logging {
    /// The driver; the engine's default if empty.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// When to fetch an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When it is not there.
    Missing,
    /// Never.
    Never,
    /// Build it, even if it is there.
    Build,
    /// When the last time is longer ago than this; taken for [`PullPolicy::Missing`].
    Every(Duration),
}

/// What a service needs of another one before it may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// How far the other one must be.
    pub condition: Condition,
    /// Whether this one is started again when the other one is.
    pub restart: bool,
    /// Whether this one must wait; if not, a missing or failing one only warns.
    pub required: bool,
}

/// How far a dependency must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Started.
    #[default]
    Started,
    /// Healthy by its own check.
    Healthy,
    /// Ended with exit code 0.
    CompletedSuccessfully,
}

/// A service's place in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attachment {
    /// Further names in this network.
    pub aliases: Vec<String>,
    /// The network with the highest priority is joined first.
    pub priority: i64,
    /// The network with the highest one is the way out; needs API 1.48 if it is not 0.
    pub gw_priority: i64,
    /// A fixed IPv4 address.
    pub ipv4_address: Option<String>,
    /// A fixed IPv6 address.
    pub ipv6_address: Option<String>,
    /// Link-local addresses.
    pub link_local_ips: Vec<String>,
    /// A hardware address; needs API 1.44.
    pub mac_address: Option<String>,
    /// The name of the interface inside; needs API 1.49.
    pub interface_name: Option<String>,
    /// Options of the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Whether the file says anything about it, even `{}`: engines report the difference.
    pub is_explicit: bool,
}

/// A network stack other than networks of the project.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkMode {
    /// The host's.
    Host,
    /// None but loopback.
    None,
    /// The engine's default bridge, without names.
    Bridge,
    /// That of another service of the project.
    Service(String),
    /// That of a container outside the project, by name or id.
    Container(String),
    /// Whatever the engine makes of it, such as a network by name.
    Other(String),
}

impl Service {
    /// A service that runs an image and asks for nothing else.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        let image = image.into();
        Self {
            name: name.into(),
            config: Config::of_image(&image),
            image,
            build: None,
            pull_policy: None,
            platform: None,
            is_wanted: true,
            container_name: None,
            hostname: None,
            domainname: None,
            command: None,
            entrypoint: None,
            environment: Environment::default(),
            ports: Vec::new(),
            expose: Vec::new(),
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            secrets: Vec::new(),
            configs: Vec::new(),
            devices: Vec::new(),
            device_cgroup_rules: Vec::new(),
            gpus: Vec::new(),
            group_add: Vec::new(),
            namespaces: Namespaces::default(),
            resources: Resources::default(),
            shm_size: None,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            security_opt: Vec::new(),
            privileged: false,
            read_only: false,
            user: None,
            working_dir: None,
            tty: false,
            stdin_open: false,
            init: None,
            restart: None,
            healthcheck: None,
            depends_on: BTreeMap::new(),
            networks: BTreeMap::new(),
            network_mode: None,
            mac_address: None,
            links: Vec::new(),
            external_links: Vec::new(),
            extra_hosts: BTreeMap::new(),
            dns: Vec::new(),
            dns_opt: Vec::new(),
            dns_search: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            logging: None,
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            storage_opt: BTreeMap::new(),
            stop_signal: None,
            stop_grace_period: None,
            runtime: None,
            profiles: Vec::new(),
        }
    }

    /// The keys of its networks in the order to join them: by priority, then by name.
    pub fn networks_in_order(&self) -> Vec<&str> {
        let mut keys: Vec<_> = self.networks.iter().collect();
        keys.sort_by_key(|(_, attachment)| std::cmp::Reverse(attachment.priority));
        keys.into_iter().map(|(key, _)| key.as_str()).collect()
    }
}

impl Condition {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "service_started",
            Self::Healthy => "service_healthy",
            Self::CompletedSuccessfully => "service_completed_successfully",
        }
    }
}

impl NetworkMode {
    pub(crate) fn from_text(text: &str) -> Self {
        match text {
            "host" => Self::Host,
            "none" => Self::None,
            "bridge" => Self::Bridge,
            _ => match text.split_once(':') {
                Some(("service", name)) => Self::Service(name.to_owned()),
                Some(("container", name)) => Self::Container(name.to_owned()),
                _ => Self::Other(text.to_owned()),
            },
        }
    }
}

/// As written in the file.
impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::None => f.write_str("none"),
            Self::Bridge => f.write_str("bridge"),
            Self::Service(name) => write!(f, "service:{name}"),
            Self::Container(name) => write!(f, "container:{name}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_joined_by_priority_and_then_by_name() {
        let mut service = Service::new("web", "nginx");
        for (key, priority) in [("b", 0), ("a", 0), ("z", 5)] {
            let attachment = Attachment { priority, ..Attachment::default() };
            service.networks.insert(key.to_owned(), attachment);
        }
        assert_eq!(service.networks_in_order(), ["z", "a", "b"]);
    }
}
