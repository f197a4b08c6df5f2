//! What the engine says about containers. Reads what it knows and shrugs at the rest.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nanny_lib::backend::{
    ContainerInfo, ContainerState, EngineHealth, Exit, ImageInfo, Labels, RestartPolicy,
};
use nanny_lib::{ContainerId, GpuId};
use serde::Deserialize;

use super::is_cdi;
use super::spec::DEVICES;

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Summary {
    pub(crate) id: String,
    pub(crate) names: Option<Vec<String>>,
    pub(crate) labels: Option<Labels>,
    state: Option<String>,
    pid: i64,
    started_at: i64,
    exited_at: i64,
    exit_code: i64,
}

impl Summary {
    /// Whether an equal summary later means that nothing happened in between.
    ///
    /// A run has a number of its own; of an end, only the second is told. A start that failed leaves
    /// `created` as it was.
    pub(crate) fn is_telling(&self, now: Timestamp) -> bool {
        match self.state.as_deref() {
            Some("running") => true,
            Some("exited") => now.as_second().saturating_sub(self.exited_at) > 2,
            _ => false,
        }
    }
}

/// What `inspect` answers, as far as we care.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Inspected {
    id: String,
    name: String,
    state: State,
    image_name: String,
    #[serde(rename = "OCIRuntime")]
    runtime: String,
    config: Config,
    host_config: HostConfig,
    mounts: Option<Vec<Mounted>>,
    dependencies: Option<Vec<String>>,
    is_infra: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
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
    #[serde(alias = "Healthcheck")]
    health: Option<Health>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Health {
    status: String,
    log: Option<Vec<Checked>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Checked {
    start: String,
    end: String,
    exit_code: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    labels: Option<Labels>,
    annotations: Option<Labels>,
    env: Option<Vec<String>>,
    tty: bool,
    stop_timeout: Option<u64>,
    healthcheck: Option<CheckSettings>,
    create_command: Option<Vec<String>>,
}

/// A health check, with times in nanoseconds. Nothing and none at all mean the same: the default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CheckSettings {
    pub(crate) test: Option<Vec<String>>,
    pub(crate) interval: i64,
    pub(crate) timeout: i64,
    pub(crate) start_period: i64,
    pub(crate) retries: u32,
}

impl CheckSettings {
    fn runs(&self) -> bool {
        let first = self.test.as_ref().and_then(|words| words.first());
        first.is_some_and(|word| !word.is_empty() && word != "NONE")
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    restart_policy: Option<Restart>,
    devices: Option<Vec<Device>>,
    memory: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Restart {
    name: String,
    maximum_retry_count: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Device {
    path_on_host: String,
}

/// A health check that somebody has to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
}

const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// So many results are in the log of a health check.
const KEPT_CHECKS: usize = 5;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

impl Inspected {
    /// The same in our words. `failed`: why its last start failed, and when, which the engine forgets;
    /// `stuck`: its health checks do not come back.
    pub(crate) fn to_info(
        &self,
        failed: Option<(String, Timestamp)>,
        stuck: bool,
    ) -> ContainerInfo {
        let id = ContainerId::new(self.id.as_str());
        let mut info = ContainerInfo::new(id, &self.name, &self.image_name);
        info.labels = self.config.labels.clone().unwrap_or_default();
        info.state = self.state();
        info.started_at = self.started_at();
        // It has run since, by whomever it was started.
        let failed = failed.filter(|(_, at)| info.started_at.is_none_or(|started| started <= *at));
        info.health =
            if stuck { self.health().map(|_| EngineHealth::Unhealthy) } else { self.health() };
        info.exit = self.exit(failed);
        info.restart = self.restart();
        info.uses_gpu = self.uses_gpu();
        info.gpus = self.gpus();
        info.volumes = self.volumes();
        info
    }

    pub(crate) fn id(&self) -> ContainerId {
        ContainerId::new(self.id.as_str())
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Those whose namespaces it joins.
    pub(crate) fn joined(&self) -> impl Iterator<Item = ContainerId> {
        self.dependencies.iter().flatten().map(|id| ContainerId::new(id.as_str()))
    }

    /// Podman's own, which holds the namespaces of a pod and runs nothing else.
    pub(crate) fn keeps_a_pod(&self) -> bool {
        self.is_infra
    }

    pub(crate) fn state(&self) -> ContainerState {
        match self.state.status.as_str() {
            "created" | "configured" | "initialized" => ContainerState::Created,
            "running" => ContainerState::Running,
            "paused" => ContainerState::Paused,
            "stopping" => ContainerState::Stopping,
            // Its process has ended, and it is not cleaned up yet.
            "exited" | "stopped" => ContainerState::Exited,
            "removing" => ContainerState::Removing,
            _ => ContainerState::Unknown,
        }
    }

    pub(crate) fn ever_ran(&self) -> bool {
        self.started_at().is_some()
    }

    pub(crate) fn started_at(&self) -> Option<Timestamp> {
        time(self.state.started_at.as_deref())
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.config.tty
    }

    /// The runtime that it is to be run with.
    pub(crate) fn runtime(&self) -> &str {
        &self.runtime
    }

    /// How long the container may take to obey a stop.
    pub(crate) fn grace(&self) -> Duration {
        self.config.stop_timeout.map_or(DEFAULT_GRACE, Duration::from_secs)
    }

    /// The health check that somebody has to run now.
    pub(crate) fn check(&self) -> Option<Check> {
        let check = self.config.healthcheck.as_ref()?;
        let time = |nanoseconds: i64, default: Duration| match u64::try_from(nanoseconds) {
            Ok(0) | Err(_) => default,
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds),
        };
        (check.runs() && self.state() == ContainerState::Running).then(|| Check {
            interval: time(check.interval, DEFAULT_INTERVAL),
            timeout: time(check.timeout, DEFAULT_INTERVAL),
            retries: check.retries.max(1),
        })
    }

    /// When the last health check of this run ended, and how long it took.
    pub(crate) fn last_checked(&self) -> Option<(Timestamp, Duration)> {
        let last = self.state.health.as_ref()?.log.as_ref()?.last()?;
        let end = time(Some(&last.end))?;
        let start = time(Some(&last.start)).unwrap_or(end);
        let took = Duration::try_from(end.duration_since(start)).unwrap_or_default();
        Some((end, took)).filter(|_| self.started_at().is_none_or(|started| end >= started))
    }

    fn health(&self) -> Option<EngineHealth> {
        if !matches!(self.state(), ContainerState::Running | ContainerState::Paused) {
            return None;
        }
        match self.state.health.as_ref()?.status.as_str() {
            "starting" => Some(EngineHealth::Starting),
            "healthy" => Some(EngineHealth::Healthy),
            "unhealthy" if self.failed_before_it_started() => Some(EngineHealth::Starting),
            "unhealthy" => Some(EngineHealth::Unhealthy),
            // Podman has not said its first word yet.
            "" if self.check().is_some() => Some(EngineHealth::Starting),
            _ => None,
        }
    }

    /// Podman counts failures on over a stop and a start: whether this run has too few of its own.
    fn failed_before_it_started(&self) -> bool {
        let log = self.state.health.as_ref().and_then(|health| health.log.as_deref());
        let (Some(check), Some(started), Some(log)) =
            (&self.config.healthcheck, self.started_at(), log)
        else {
            return false;
        };
        let counts_from = started
            .checked_add(SignedDuration::from_nanos(check.start_period.max(0)))
            .unwrap_or(Timestamp::MAX);
        let since = |from: Timestamp| {
            log.iter().filter(move |run| time(Some(&run.start)).is_some_and(|at| at >= from))
        };
        let succeeded = since(started).any(|run| run.exit_code == 0);
        let enough = usize::try_from(check.retries).unwrap_or(usize::MAX).clamp(1, KEPT_CHECKS);
        // Without a log there is only the word.
        !log.is_empty() && !succeeded && since(counts_from).count() < enough
    }

    fn exit(&self, failed: Option<(String, Timestamp)>) -> Option<Exit> {
        let said = Some(self.state.error.clone()).filter(|error| !error.is_empty());
        let failed_at = failed.as_ref().map(|(_, at)| *at);
        let error = failed.map(|(words, _)| words).or(said);
        let at = time(self.state.finished_at.as_deref());
        let ended = match self.state() {
            ContainerState::Exited | ContainerState::Removing => at.is_some() || error.is_some(),
            // A start that failed.
            ContainerState::Created | ContainerState::Unknown => error.is_some(),
            _ => false,
        };
        ended.then(|| {
            let mut exit = Exit::default();
            exit.code = self.state.exit_code.filter(|_| at.is_some());
            exit.out_of_memory = self.state.oom_killed;
            exit.error = error;
            exit.at = at.max(failed_at);
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

    /// Podman does not say which CDI devices a container has: ours are noted.
    fn noted(&self) -> Option<&str> {
        self.config.annotations.as_ref()?.get(DEVICES).map(String::as_str)
    }

    /// Those that it was given one by one.
    fn gpus(&self) -> Vec<GpuId> {
        let names = self.noted().unwrap_or_default().split(',');
        let noted = names.filter_map(|name| Some(name.split_once("/gpu=")?.1));
        let by_runtime = self.runtimes_gpus().unwrap_or_default().split(',');
        let gpus = noted.chain(by_runtime).map(str::trim);
        gpus.filter(|gpu| !matches!(*gpu, "" | "all")).map(GpuId::new).collect()
    }

    /// What the runtime `nvidia` is told to pass in.
    fn runtimes_gpus(&self) -> Option<&str> {
        let ids = self.variable("NVIDIA_VISIBLE_DEVICES")?;
        Some(ids).filter(|ids| self.runtime == "nvidia" && !matches!(*ids, "" | "void" | "none"))
    }

    /// Plain `/dev/dri` does not count: video decoders use it.
    fn uses_gpu(&self) -> bool {
        // Of others, Podman's own command line notes how it was called.
        let noted = self.noted().is_some();
        let command = self.config.create_command.as_deref().unwrap_or_default();
        let by_command = command.iter().enumerate().any(|(at, word)| {
            let follows = at > 0 && matches!(command[at - 1].as_str(), "--device" | "--gpus");
            let value = word.strip_prefix("--device=").or(follows.then_some(word));
            word.starts_with("--gpus=")
                || (follows && command[at - 1] == "--gpus")
                || value.is_some_and(is_cdi)
        });
        let by_device = self.host_config.devices.iter().flatten().any(|device| {
            let path = device.path_on_host.as_str();
            path == "/dev/kfd" || path.starts_with("/dev/nvidia") || is_cdi(path)
        });
        noted || by_command || by_device || self.runtimes_gpus().is_some()
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let variables = self.config.env.iter().flatten();
        variables.filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name).map(|v| v.1)
    }

    pub(crate) fn memory_limit_bytes(&self) -> Option<u64> {
        self.host_config
            .memory
            .and_then(|limit| u64::try_from(limit).ok())
            .filter(|limit| *limit > 0)
    }
}

/// The engine's year 1 means never.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text.filter(|text| !text.starts_with("0001-")).and_then(|text| text.parse().ok())
}

/// Whether `earlier` is less than `span` before `now`.
pub(crate) fn is_within(earlier: Timestamp, now: Timestamp, span: Duration) -> bool {
    let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
    now.duration_since(earlier) < span
}

/// What containers use.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Readings {
    pub(crate) stats: Option<Vec<Reading>>,
}

/// One reading of what a container uses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Reading {
    #[serde(rename = "CPUNano")]
    cpu_nanoseconds: u64,
    #[serde(rename = "MemUsage")]
    pub(crate) memory_bytes: u64,
}

impl Reading {
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanoseconds)
    }
}

/// What the engine knows about an image, as far as we care.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageInspected {
    id: String,
    os: String,
    architecture: String,
    variant: String,
    config: Option<ImageConfig>,
    healthcheck: Option<CheckSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageConfig {
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    healthcheck: Option<CheckSettings>,
}

impl ImageInspected {
    pub(crate) fn to_info(&self) -> ImageInfo {
        let id =
            if self.id.contains(':') { self.id.clone() } else { format!("sha256:{}", self.id) };
        let mut info = ImageInfo::new(id);
        info.platform = self.platform();
        let volumes = self.config.as_ref().and_then(|config| config.volumes.as_ref());
        info.volumes = volumes.into_iter().flatten().map(|(path, _)| path.clone()).collect();
        info
    }

    pub(crate) fn platform(&self) -> Option<String> {
        let parts = [&self.os, &self.architecture, &self.variant];
        let known: Vec<_> = parts.into_iter().take_while(|part| !part.is_empty()).collect();
        let platform = known.iter().map(|part| part.as_str()).collect::<Vec<_>>().join("/");
        Some(platform).filter(|_| known.len() >= 2)
    }

    /// Its own health check.
    pub(crate) fn check(&self) -> Option<&CheckSettings> {
        let inner = self.config.as_ref().and_then(|config| config.healthcheck.as_ref());
        self.healthcheck.as_ref().or(inner).filter(|check| check.runs())
    }
}

#[cfg(test)]
mod tests;
