//! What is asked of the engine for one container.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointSettings, HealthConfig, HostConfig,
    Mount as EngineMount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions,
    MountType, NetworkingConfig, PortBinding, ResourcesUlimits, RestartPolicy as EnginePolicy,
    RestartPolicyNameEnum,
};
use nanny_lib::backend::{
    BackendError, ContainerSpec, ErrorKind, GpuDevices, Healthcheck, HealthcheckTest, Mount,
    MountKind, NetworkAttachment, RestartPolicy, Result,
};

/// A create request, and what has to follow it before a start.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) create: ContainerCreateBody,
    /// Networks to connect in further requests: the engine is too old to take them all at once.
    pub(crate) connect: Vec<(String, EndpointSettings)>,
}

/// From API 1.44 on, an engine takes several networks and a start interval.
const MINOR_1_44: usize = 44;

/// The request for `spec`, for an engine of API 1.`minor`.
pub(crate) fn to_body(spec: &ContainerSpec, minor: usize) -> Result<Body> {
    let convert = Convert { spec, minor };
    let Some(image) = &spec.image else {
        return Err(convert.fail(ErrorKind::Invalid, "a container needs an image"));
    };
    if spec.name.is_empty() {
        // The engine would make one up.
        return Err(convert.fail(ErrorKind::Invalid, "a container needs a name"));
    }
    let (first, connect) = convert.networks()?;
    let (ports, bindings) = convert.ports()?;
    let create = ContainerCreateBody {
        hostname: spec.hostname.clone(),
        user: spec.user.clone(),
        exposed_ports: some(ports),
        tty: Some(spec.tty),
        open_stdin: Some(spec.stdin_open),
        env: some(convert.environment()?),
        cmd: spec.command.clone(),
        healthcheck: convert.healthcheck()?,
        image: Some(image.clone()),
        working_dir: spec.working_dir.clone(),
        entrypoint: spec.entrypoint.clone(),
        labels: map(&spec.labels),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: spec.stop_grace.map(whole_seconds),
        host_config: Some(convert.host_config(bindings)?),
        networking_config: (!first.is_empty())
            .then_some(NetworkingConfig { endpoints_config: Some(first) }),
        ..ContainerCreateBody::default()
    };
    Ok(Body { create, connect })
}

/// A qualified name of the Container Device Interface, `vendor/class=device`.
pub(crate) fn is_cdi(name: &str) -> bool {
    !name.starts_with('/')
        && name
            .split_once('=')
            .is_some_and(|(kind, device)| kind.contains('/') && !device.is_empty())
}

/// Whole seconds, rounded up: a grace period must not get shorter.
pub(crate) fn whole_seconds(duration: Duration) -> i64 {
    let up = u64::from(duration.subsec_nanos() > 0);
    i64::try_from(duration.as_secs().saturating_add(up)).unwrap_or(i64::MAX)
}

type Endpoints = HashMap<String, EndpointSettings>;
type Bindings = HashMap<String, Option<Vec<PortBinding>>>;

struct Convert<'a> {
    spec: &'a ContainerSpec,
    minor: usize,
}

impl Convert<'_> {
    fn fail(&self, kind: ErrorKind, message: impl Into<String>) -> BackendError {
        BackendError::new(kind, "create", message).on(&self.spec.name)
    }

    fn environment(&self) -> Result<Vec<String>> {
        let lines = self.spec.environment.0.iter().map(|(name, value)| {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(
                    self.fail(ErrorKind::Invalid, "an environment variable has no proper name")
                );
            }
            Ok(match value {
                Some(value) => format!("{name}={value}"),
                // A name alone takes the image's variable away.
                None => name.clone(),
            })
        });
        lines.collect()
    }

    fn host_config(&self, bindings: Bindings) -> Result<HostConfig> {
        let spec = self.spec;
        let (binds, mounts) = self.mounts()?;
        let (devices, by_cdi) = self.devices();
        let mut requests = spec.gpus.iter().map(|gpu| self.gpu(gpu)).collect::<Result<Vec<_>>>()?;
        requests.extend(by_cdi);
        let (security_opt, unmasked) = self.security()?;
        Ok(HostConfig {
            binds: some(binds),
            mounts: some(mounts),
            devices: some(devices),
            device_requests: some(requests),
            port_bindings: (!bindings.is_empty()).then_some(bindings),
            network_mode: self.network_mode(),
            restart_policy: Some(restart_policy(spec.restart)),
            cap_add: some(capabilities(&spec.cap_add)),
            cap_drop: some(capabilities(&spec.cap_drop)),
            security_opt: some(security_opt),
            // An empty list takes the engine's default away.
            masked_paths: unmasked.then(Vec::new),
            readonly_paths: unmasked.then(Vec::new),
            group_add: some(spec.group_add.clone()),
            extra_hosts: some(spec.extra_hosts.clone()),
            ipc_mode: spec.ipc.clone(),
            shm_size: self.bytes("shm_size", spec.shm_size)?,
            runtime: spec.runtime.clone(),
            init: spec.init,
            ulimits: some(spec.ulimits.iter().map(|limit| ResourcesUlimits {
                name: Some(limit.name.clone()),
                soft: Some(limit.soft),
                hard: Some(limit.hard),
            })),
            ..HostConfig::default()
        })
    }

    fn network_mode(&self) -> Option<String> {
        let first = self.spec.networks.first().map(|attachment| attachment.network.clone());
        self.spec.network_mode.clone().or(first)
    }

    /// The networks of the create request, and those to connect after it.
    fn networks(&self) -> Result<(Endpoints, Vec<(String, EndpointSettings)>)> {
        if self.spec.network_mode.is_some() && !self.spec.networks.is_empty() {
            let message = "network_mode and networks exclude each other";
            return Err(self.fail(ErrorKind::Invalid, message));
        }
        let mut all = self
            .spec
            .networks
            .iter()
            .map(|attachment| (attachment.network.clone(), endpoint(attachment)));
        if self.minor >= MINOR_1_44 {
            return Ok((all.collect(), Vec::new()));
        }
        Ok((all.next().into_iter().collect(), all.collect()))
    }

    /// The engine publishes a port only if it is also among the exposed ones.
    fn ports(&self) -> Result<(BTreeSet<String>, Bindings)> {
        let mut exposed = BTreeSet::new();
        for port in &self.spec.expose {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            if number.parse::<u16>().is_err() || !matches!(protocol, "tcp" | "udp" | "sctp") {
                return Err(self.fail(ErrorKind::Invalid, format!("cannot expose port {port:?}")));
            }
            exposed.insert(format!("{number}/{protocol}"));
        }
        let mut bindings = Bindings::new();
        for port in &self.spec.ports {
            let inside = format!("{}/{}", port.container_port, port.protocol);
            let outside = port.host_ports.map(|range| match range.first == range.last {
                true => range.first.to_string(),
                false => format!("{}-{}", range.first, range.last),
            });
            let binding = PortBinding {
                host_ip: Some(port.host_ip.clone().unwrap_or_default()),
                host_port: Some(outside.unwrap_or_default()),
            };
            exposed.insert(inside.clone());
            bindings.entry(inside).or_default().get_or_insert_default().push(binding);
        }
        Ok((exposed, bindings))
    }

    fn mounts(&self) -> Result<(Vec<String>, Vec<EngineMount>)> {
        let (mut binds, mut mounts) = (Vec::new(), Vec::new());
        for mount in &self.spec.mounts {
            let plain = |typ| EngineMount {
                target: Some(mount.target.clone()),
                typ: Some(typ),
                read_only: Some(mount.read_only),
                ..EngineMount::default()
            };
            match &mount.kind {
                MountKind::Bind { source, create_source, propagation, selinux } => {
                    if *create_source {
                        let selinux = selinux.map(String::from);
                        let options = [selinux, propagation.clone()];
                        binds.push(self.bind(source, mount, options.into_iter().flatten())?);
                    } else if selinux.is_some() {
                        let message =
                            format!("SELinux relabelling of {source:?} without creating it");
                        return Err(self.fail(ErrorKind::Unsupported, message));
                    } else {
                        mounts.push(EngineMount {
                            source: Some(source.clone()),
                            bind_options: self.bind_options(propagation.as_deref())?,
                            ..plain(MountType::BIND)
                        });
                    }
                }
                MountKind::Volume { name, no_copy } => {
                    let options = no_copy.then(|| "nocopy".to_owned());
                    binds.push(self.bind(name, mount, options)?);
                }
                MountKind::Anonymous => mounts.push(plain(MountType::VOLUME)),
                MountKind::Tmpfs { size } => mounts.push(EngineMount {
                    tmpfs_options: self.bytes("tmpfs size", *size)?.map(|size| MountTmpfsOptions {
                        size_bytes: Some(size),
                        ..MountTmpfsOptions::default()
                    }),
                    ..plain(MountType::TMPFS)
                }),
                other => {
                    return Err(self.fail(ErrorKind::Unsupported, format!("mount {other:?}")));
                }
            }
        }
        Ok((binds, mounts))
    }

    /// `source:target:options`: the form in which the engine makes what is missing.
    fn bind(
        &self,
        source: &str,
        mount: &Mount,
        options: impl IntoIterator<Item = String>,
    ) -> Result<String> {
        if source.contains(':') || mount.target.contains(':') {
            let message = format!("a mount of {source:?} at {:?}: ':' in a path", mount.target);
            return Err(self.fail(ErrorKind::Unsupported, message));
        }
        let access = if mount.read_only { "ro" } else { "rw" };
        let mut bind = format!("{source}:{}:{access}", mount.target);
        for option in options {
            bind.push(',');
            bind.push_str(&option);
        }
        Ok(bind)
    }

    fn bind_options(&self, propagation: Option<&str>) -> Result<Option<MountBindOptions>> {
        let Some(word) = propagation else {
            return Ok(None);
        };
        let propagation = match word {
            "private" => MountBindOptionsPropagationEnum::PRIVATE,
            "rprivate" => MountBindOptionsPropagationEnum::RPRIVATE,
            "shared" => MountBindOptionsPropagationEnum::SHARED,
            "rshared" => MountBindOptionsPropagationEnum::RSHARED,
            "slave" => MountBindOptionsPropagationEnum::SLAVE,
            "rslave" => MountBindOptionsPropagationEnum::RSLAVE,
            _ => {
                let message = format!("no mount propagation {word:?}");
                return Err(self.fail(ErrorKind::Invalid, message));
            }
        };
        let propagation = Some(propagation);
        Ok(Some(MountBindOptions { propagation, ..MountBindOptions::default() }))
    }

    /// Device nodes, and requests for those that have a CDI name.
    fn devices(&self) -> (Vec<DeviceMapping>, Vec<DeviceRequest>) {
        let (mut nodes, mut requests) = (Vec::new(), Vec::new());
        for device in &self.spec.devices {
            if is_cdi(&device.host) {
                requests.push(DeviceRequest {
                    driver: Some("cdi".to_owned()),
                    device_ids: Some(vec![device.host.clone()]),
                    ..DeviceRequest::default()
                });
            } else {
                nodes.push(DeviceMapping {
                    path_on_host: Some(device.host.clone()),
                    path_in_container: Some(device.container.clone()),
                    cgroup_permissions: Some(device.permissions.clone()),
                });
            }
        }
        (nodes, requests)
    }

    fn gpu(&self, gpu: &GpuDevices) -> Result<DeviceRequest> {
        let ids = &gpu.device_ids;
        // Without either, the engine would start it without a GPU, and say nothing.
        if gpu.count.is_none_or(|count| count == 0) == ids.is_empty() {
            let message = "a GPU request names either a count or devices";
            return Err(self.fail(ErrorKind::Invalid, message));
        }
        let options = gpu.options.clone().into_iter().collect::<HashMap<_, _>>();
        Ok(DeviceRequest {
            driver: Some(gpu.driver.clone()).filter(|driver| !driver.is_empty()),
            count: gpu.count.filter(|_| ids.is_empty()),
            device_ids: some(ids.clone()),
            capabilities: Some(vec![gpu.capabilities.clone()]),
            options: (!options.is_empty()).then_some(options),
        })
    }

    /// Security options in the engine's spelling, and whether the system's paths lie open.
    fn security(&self) -> Result<(Vec<String>, bool)> {
        let mut options = Vec::new();
        let mut unmasked = false;
        for option in &self.spec.security_opt {
            let option = match option.split_once('=') {
                Some(_) => option.clone(),
                None => option.replacen(':', "=", 1),
            };
            match option.split_once('=') {
                Some(("systempaths", "unconfined")) => unmasked = true,
                Some(("seccomp", profile)) if profile != "unconfined" => {
                    let message = format!("seccomp profile {profile:?}: only unconfined");
                    return Err(self.fail(ErrorKind::Unsupported, message));
                }
                _ => options.push(option),
            }
        }
        Ok((options, unmasked))
    }

    fn healthcheck(&self) -> Result<Option<HealthConfig>> {
        let Some(check) = &self.spec.healthcheck else {
            return Ok(None);
        };
        if check.start_interval.is_some() && self.minor < MINOR_1_44 {
            let message =
                format!("healthcheck start_interval: needs API 1.44, this is 1.{}", self.minor);
            return Err(self.fail(ErrorKind::Unsupported, message));
        }
        Ok(Some(HealthConfig {
            test: self.healthcheck_test(check)?,
            interval: self.nanoseconds(check.interval)?,
            timeout: self.nanoseconds(check.timeout)?,
            retries: self.bytes("healthcheck retries", check.retries)?,
            start_period: self.nanoseconds(check.start_period)?,
            start_interval: self.nanoseconds(check.start_interval)?,
        }))
    }

    fn healthcheck_test(&self, check: &Healthcheck) -> Result<Option<Vec<String>>> {
        Ok(match &check.test {
            HealthcheckTest::Inherit => None,
            HealthcheckTest::Disabled => Some(vec!["NONE".to_owned()]),
            HealthcheckTest::Command(command) => {
                let words = command.iter().cloned();
                Some(std::iter::once("CMD".to_owned()).chain(words).collect())
            }
            HealthcheckTest::Shell(line) => Some(vec!["CMD-SHELL".to_owned(), line.clone()]),
            other => {
                return Err(self.fail(ErrorKind::Unsupported, format!("healthcheck {other:?}")));
            }
        })
    }

    fn nanoseconds(&self, duration: Option<Duration>) -> Result<Option<i64>> {
        let convert = |duration: Duration| {
            i64::try_from(duration.as_nanos())
                .map_err(|_| self.fail(ErrorKind::Invalid, "a time of the healthcheck is too long"))
        };
        duration.map(convert).transpose()
    }

    fn bytes(&self, what: &str, size: Option<u64>) -> Result<Option<i64>> {
        let convert = |size: u64| {
            i64::try_from(size)
                .map_err(|_| self.fail(ErrorKind::Invalid, format!("{what} is too large")))
        };
        size.map(convert).transpose()
    }
}

fn endpoint(attachment: &NetworkAttachment) -> EndpointSettings {
    EndpointSettings { aliases: some(attachment.aliases.clone()), ..EndpointSettings::default() }
}

fn restart_policy(policy: RestartPolicy) -> EnginePolicy {
    let (name, retries) = match policy {
        RestartPolicy::Always => (RestartPolicyNameEnum::ALWAYS, None),
        RestartPolicy::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        // To the engine, a limit of zero is none.
        RestartPolicy::OnFailure { max_retries: Some(0) } => (RestartPolicyNameEnum::NO, None),
        RestartPolicy::OnFailure { max_retries } => {
            (RestartPolicyNameEnum::ON_FAILURE, max_retries)
        }
        _ => (RestartPolicyNameEnum::NO, None),
    };
    EnginePolicy { name: Some(name), maximum_retry_count: retries.map(i64::from) }
}

/// `SYS_NICE` is `CAP_SYS_NICE`; the engine keeps what it is given, so it is given one spelling.
fn capabilities(names: &[String]) -> BTreeSet<String> {
    let canonical = |name: &String| {
        let name = name.to_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    names.iter().map(canonical).collect()
}

/// An empty list is none: the engine tells `[]` from `null`.
fn some<T>(items: impl IntoIterator<Item = T>) -> Option<Vec<T>> {
    let items: Vec<_> = items.into_iter().collect();
    (!items.is_empty()).then_some(items)
}

/// Labels as the client takes them.
pub(crate) fn map(labels: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!labels.is_empty()).then(|| labels.clone().into_iter().collect())
}

#[cfg(test)]
mod tests;
