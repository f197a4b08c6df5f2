//! What the engine says about containers. Reads what it knows and shrugs at the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::backend::{
    ContainerInfo, ContainerState, EngineHealth, Exit, Labels, RestartPolicy,
};
use nanny_lib::{ContainerId, GpuId};
use serde::Deserialize;

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Summary {
    pub(crate) id: String,
    pub(crate) names: Option<Vec<String>>,
    pub(crate) image: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) labels: Option<Labels>,
    mounts: Option<Vec<Mounted>>,
}

impl Summary {
    /// Whether an equal summary later means that nothing happened in between.
    ///
    /// `Up 2 seconds` can follow `Up 2 seconds` with a restart in between, and a start that
    /// failed leaves `Created` as it was.
    pub(crate) fn is_telling(&self) -> bool {
        let (state, status) = (self.state.as_deref(), self.status.as_deref().unwrap_or_default());
        matches!(state, Some("running" | "exited" | "paused"))
            && !status.is_empty()
            && !status.contains("second")
    }
}

/// What `inspect` answers, as far as we care.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Inspected {
    id: String,
    name: String,
    state: State,
    config: Config,
    host_config: HostConfig,
    mounts: Option<Vec<Mounted>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Mounted {
    #[serde(rename = "Type")]
    kind: String,
    name: String,
    destination: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    status: String,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    exit_code: Option<i64>,
    error: String,
    started_at: Option<String>,
    finished_at: Option<String>,
    health: Option<Health>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Health {
    status: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    image: String,
    labels: Option<Labels>,
    env: Option<Vec<String>>,
    tty: bool,
    stop_timeout: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    restart_policy: Option<Restart>,
    device_requests: Option<Vec<DeviceRequest>>,
    devices: Option<Vec<Device>>,
    runtime: Option<String>,
    memory: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Restart {
    name: String,
    maximum_retry_count: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DeviceRequest {
    driver: Option<String>,
    capabilities: Option<Vec<Vec<String>>>,
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<Vec<String>>,
}

impl DeviceRequest {
    fn is_for_gpus(&self) -> bool {
        matches!(self.driver.as_deref(), Some("nvidia" | "amd" | "cdi"))
            || self.capabilities.iter().flatten().flatten().any(|what| what == "gpu")
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Device {
    path_on_host: String,
}

const DEFAULT_GRACE: Duration = Duration::from_secs(10);

impl Inspected {
    /// What a list says of a container that was made and has not run, as far as it matters.
    pub(crate) fn of_created(summary: &Summary) -> Option<Self> {
        let state = summary.state.as_deref().filter(|state| *state == "created")?;
        Some(Self {
            id: summary.id.clone(),
            name: summary.names.iter().flatten().next().cloned().unwrap_or_default(),
            state: State { status: state.to_owned(), ..State::default() },
            config: Config {
                image: summary.image.clone().unwrap_or_default(),
                labels: summary.labels.clone(),
                ..Config::default()
            },
            mounts: summary.mounts.clone(),
            ..Self::default()
        })
    }

    /// The same in our words. `stopping`: a stop of ours is under way, of which the engine says
    /// nothing.
    pub(crate) fn to_info(&self, stopping: bool) -> ContainerInfo {
        let name = self.name.trim_start_matches('/');
        let mut info =
            ContainerInfo::new(ContainerId::new(self.id.as_str()), name, &self.config.image);
        info.labels = self.config.labels.clone().unwrap_or_default();
        info.state = match self.state() {
            ContainerState::Running if stopping => ContainerState::Stopping,
            state => state,
        };
        info.health = self.health();
        info.exit = self.exit();
        info.started_at = time(self.state.started_at.as_deref());
        info.restart = self.restart();
        info.uses_gpu = self.uses_gpu();
        info.gpus = self.gpus();
        info.volumes = self.volumes();
        info
    }

    pub(crate) fn state(&self) -> ContainerState {
        match self.state.status.as_str() {
            "created" | "configured" | "initialized" => ContainerState::Created,
            "running" => ContainerState::Running,
            "paused" => ContainerState::Paused,
            "restarting" => ContainerState::Restarting,
            "stopping" => ContainerState::Stopping,
            "exited" | "stopped" => ContainerState::Exited,
            // What is dead could not be removed quite: all that can still be done with it.
            "removing" | "dead" => ContainerState::Removing,
            _ => ContainerState::Unknown,
        }
    }

    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name.trim_start_matches('/') == name
    }

    pub(crate) fn ever_ran(&self) -> bool {
        time(self.state.started_at.as_deref()).is_some()
    }

    pub(crate) fn started_at(&self) -> Option<Timestamp> {
        time(self.state.started_at.as_deref())
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.config.tty
    }

    /// How long the container may take to obey a stop.
    pub(crate) fn grace(&self) -> Duration {
        self.config.stop_timeout.map_or(DEFAULT_GRACE, Duration::from_secs)
    }

    pub(crate) fn memory_limit_bytes(&self) -> Option<u64> {
        self.host_config.memory.filter(|limit| *limit > 0)
    }

    fn health(&self) -> Option<EngineHealth> {
        if !matches!(self.state(), ContainerState::Running | ContainerState::Paused) {
            return None;
        }
        match self.state.health.as_ref()?.status.as_str() {
            "starting" => Some(EngineHealth::Starting),
            "healthy" => Some(EngineHealth::Healthy),
            "unhealthy" => Some(EngineHealth::Unhealthy),
            _ => None,
        }
    }

    fn exit(&self) -> Option<Exit> {
        let error = Some(self.state.error.clone()).filter(|error| !error.is_empty());
        let at = time(self.state.finished_at.as_deref());
        let ended = match self.state() {
            ContainerState::Exited | ContainerState::Restarting | ContainerState::Removing => {
                at.is_some() || error.is_some()
            }
            // A start that failed.
            ContainerState::Created | ContainerState::Unknown => error.is_some(),
            ContainerState::Running | ContainerState::Paused | ContainerState::Stopping => false,
            _ => false,
        };
        ended.then(|| {
            let mut exit = Exit::default();
            exit.code = self.state.exit_code;
            exit.out_of_memory = self.state.oom_killed;
            exit.error = error;
            exit.at = at;
            exit
        })
    }

    fn volumes(&self) -> BTreeMap<String, String> {
        let volumes = self.mounts.iter().flatten().filter(|mounted| mounted.kind == "volume");
        volumes.map(|mounted| (mounted.destination.clone(), mounted.name.clone())).collect()
    }

    fn restart(&self) -> RestartPolicy {
        let Some(policy) = &self.host_config.restart_policy else {
            return RestartPolicy::No;
        };
        match policy.name.as_str() {
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            "on-failure" => RestartPolicy::OnFailure {
                max_retries: Some(policy.maximum_retry_count).filter(|max| *max > 0),
            },
            _ => RestartPolicy::No,
        }
    }

    /// Those that it was given one by one; of a qualified name, what comes after the kind.
    fn gpus(&self) -> Vec<GpuId> {
        let requests = self.host_config.device_requests.iter().flatten();
        let names =
            requests.filter(|it| it.is_for_gpus()).flat_map(|it| it.device_ids.iter().flatten());
        let requested = names.filter_map(|name| match name.split_once('=') {
            Some((kind, gpu)) => kind.ends_with("/gpu").then_some(gpu),
            None => Some(name.as_str()),
        });
        let by_runtime = self.runtimes_gpus().unwrap_or_default().split(',');
        let gpus = requested.chain(by_runtime).map(str::trim);
        gpus.filter(|gpu| !matches!(*gpu, "" | "all")).map(GpuId::new).collect()
    }

    /// What the runtime `nvidia` is told to pass in.
    fn runtimes_gpus(&self) -> Option<&str> {
        let ids = self.variable("NVIDIA_VISIBLE_DEVICES")?;
        let is_there = self.host_config.runtime.as_deref() == Some("nvidia");
        Some(ids).filter(|ids| is_there && !matches!(*ids, "" | "void" | "none"))
    }

    /// Plain `/dev/dri` does not count: video decoders use it.
    fn uses_gpu(&self) -> bool {
        let host = &self.host_config;
        let requested = host.device_requests.iter().flatten().any(DeviceRequest::is_for_gpus);
        let by_device = host.devices.iter().flatten().any(|device| {
            let path = device.path_on_host.as_str();
            path == "/dev/kfd" || path.starts_with("/dev/nvidia") || super::spec::is_cdi(path)
        });
        requested || by_device || self.runtimes_gpus().is_some()
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let variables = self.config.env.iter().flatten();
        variables.filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name).map(|v| v.1)
    }
}

/// The engine's year 1 means never.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text.filter(|text| !text.starts_with("0001-")).and_then(|text| text.parse().ok())
}

/// One reading of what a container uses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Reading {
    cpu_stats: CpuReading,
    memory_stats: MemoryReading,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CpuReading {
    cpu_usage: CpuUsage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CpuUsage {
    total_usage: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MemoryReading {
    usage: u64,
    stats: Option<BTreeMap<String, u64>>,
}

impl Reading {
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_stats.cpu_usage.total_usage)
    }

    /// Without what the page cache could give back, whichever version of cgroups counts it.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let memory = &self.memory_stats;
        let of = |name| memory.stats.as_ref().and_then(|stats| stats.get(name)).copied();
        let cache = of("total_inactive_file").or_else(|| of("inactive_file")).unwrap_or(0);
        memory.usage.saturating_sub(cache)
    }
}

#[cfg(test)]
mod tests;
