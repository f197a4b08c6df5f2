//! A service: what one container of the project is to be.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Device, Environment, GpuRequest, Healthcheck, Mount, Port, RestartPolicy, Ulimit};

/// One service of a project. The nanny runs one container of each.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Service {
    /// The key under `services`.
    pub name: String,
    /// The image to run.
    pub image: String,
    /// Where the image comes from.
    pub image_source: ImageSource,
    /// A name for the container instead of `<project>-<service>-1`.
    pub container_name: Option<String>,
    /// The host name inside the container.
    pub hostname: Option<String>,
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
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Supplementary groups, by name or number.
    pub group_add: Vec<String>,
    /// The IPC namespace: `host`, `private`, `shareable`, ….
    pub ipc: Option<String>,
    /// The size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Capabilities to add, as written.
    pub cap_add: Vec<String>,
    /// Capabilities to drop, as written.
    pub cap_drop: Vec<String>,
    /// Security options, as written.
    pub security_opt: Vec<String>,
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
    /// When to start it again.
    pub restart: Option<RestartPolicy>,
    /// How to find out whether it is well.
    pub healthcheck: Option<Healthcheck>,
    /// What must be up before it, by service name.
    pub depends_on: BTreeMap<String, Dependency>,
    /// The networks it joins, by their key in the file. Empty with a `network_mode`.
    pub networks: BTreeMap<String, Attachment>,
    /// A network stack other than networks of the project.
    pub network_mode: Option<NetworkMode>,
    /// Extra host names with their addresses.
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// The file's own labels.
    pub labels: BTreeMap<String, String>,
    /// Resource limits by name (`memlock`, `nofile`).
    pub ulimits: BTreeMap<String, Ulimit>,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// How long it may take to stop.
    pub stop_grace_period: Option<Duration>,
    /// The engine's runtime (`nvidia`, `habana`).
    pub runtime: Option<String>,
    /// `deploy.resources.reservations.devices`; see [`Service::gpu_requests`] for all requests.
    pub reservations: Option<Vec<GpuRequest>>,
    /// `gpus`; see [`Service::gpu_requests`] for all requests.
    pub gpus: Vec<GpuRequest>,
    /// The profiles that activate it; none means always active.
    pub profiles: Vec<String>,
    /// Whether the file has a `deploy`, even an empty one: the config hash can tell.
    pub has_deploy: bool,
}

/// Where a service's image comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageSource {
    /// A registry, or the engine's store.
    #[default]
    Named,
    /// The file can build it and gives it a name. It must be there already.
    Built,
    /// The file can build it and leaves the name to Compose. It must be there already.
    BuiltUnnamed,
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
    /// Whether the file says anything about it, even `{}`: the config hash can tell.
    pub is_explicit: bool,
}

/// A network stack other than networks of the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkMode {
    /// The host's.
    Host,
    /// None but loopback.
    None,
    /// The engine's default bridge, without names.
    Bridge,
}

impl Service {
    /// A service that runs an image and asks for nothing else.
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            image_source: ImageSource::Named,
            container_name: None,
            hostname: None,
            command: None,
            entrypoint: None,
            environment: Environment::default(),
            ports: Vec::new(),
            expose: Vec::new(),
            mounts: Vec::new(),
            devices: Vec::new(),
            group_add: Vec::new(),
            ipc: None,
            shm_size: None,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            security_opt: Vec::new(),
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
            extra_hosts: BTreeMap::new(),
            labels: BTreeMap::new(),
            ulimits: BTreeMap::new(),
            stop_signal: None,
            stop_grace_period: None,
            runtime: None,
            reservations: None,
            gpus: Vec::new(),
            profiles: Vec::new(),
            has_deploy: false,
        }
    }

    /// Everything it asks of the GPUs, ready for an engine: `gpus` get the capability `gpu`, as
    /// Compose adds it.
    pub fn gpu_requests(&self) -> Vec<GpuRequest> {
        let reserved = self.reservations.iter().flatten().cloned();
        let gpus = self.gpus.iter().cloned().map(|mut request| {
            if !request.capabilities.iter().any(|capability| capability == "gpu") {
                request.capabilities.push("gpu".to_owned());
            }
            request
        });
        reserved.chain(gpus).collect()
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
    /// The word in the file and in the engine's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::None => "none",
            Self::Bridge => "bridge",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_get_the_capability_that_compose_adds() {
        let mut service = Service::new("llm", "vllm");
        service.gpus = vec![GpuRequest::of_count(GpuRequest::ALL)];
        assert_eq!(service.gpu_requests()[0].capabilities, ["gpu"]);
        assert!(service.gpu_requests()[0].wants_all());
    }

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
