//! What is asked of the engine for one container.

mod devices;
mod mounts;
mod networks;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, NetworkingConfig, PortBinding, ResourcesUlimits,
    RestartPolicy as EnginePolicy, RestartPolicyNameEnum,
};
use nanny_lib::backend::{
    BackendError, ContainerSpec, Dns, Environment, ErrorKind, Healthcheck, HealthcheckTest, Limits,
    Logging, Namespaces, PortMapping, RestartPolicy, Result, Ulimit,
};
use serde::Serialize;

use self::devices::{devices, gpus};
use self::mounts::mounts;
use self::networks::{Networks, networks};

/// A create request, and what has to follow it before a start.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) create: Create,
    /// The image's platform; empty is the engine's own.
    pub(crate) platform: String,
    /// Networks to connect in further requests: the engine is too old to take them all at once.
    pub(crate) connect: Vec<(String, EndpointSettings)>,
}

/// The body of a create request.
#[derive(Debug, Serialize)]
pub(crate) struct Create {
    #[serde(flatten)]
    pub(crate) body: ContainerCreateBody,
    /// Before API 1.44 an address belonged to the container; the client has forgotten the field.
    #[serde(rename = "MacAddress", skip_serializing_if = "Option::is_none")]
    pub(crate) mac_address: Option<String>,
}

/// What words are turned into requests for: whom to blame, and how much the engine understands.
struct Convert<'a> {
    /// The container's name.
    name: &'a str,
    /// The engine speaks API 1.`minor`.
    minor: usize,
}

/// The request for `spec`, for an engine of API 1.`minor`.
pub(crate) fn to_body(spec: &ContainerSpec, minor: usize) -> Result<Body> {
    // Taken apart whole: what is new in a spec must not compile until something is made of it.
    let ContainerSpec {
        name,
        image,
        platform,
        entrypoint,
        command,
        environment,
        labels,
        annotations,
        hostname,
        domainname,
        user,
        working_dir,
        tty,
        stdin_open,
        init,
        ports,
        expose,
        mounts: wanted_mounts,
        tmpfs,
        storage_options,
        read_only,
        devices: wanted_devices,
        device_cgroup_rules,
        gpus: wanted_gpus,
        group_add,
        cap_add,
        cap_drop,
        security_opt,
        privileged,
        sysctls,
        namespaces: Namespaces { ipc, pid, uts, userns, cgroup },
        shm_size,
        runtime,
        restart,
        logging,
        healthcheck,
        network_mode: _,
        networks: _,
        mac_address: _,
        links,
        dns: Dns { servers, options, search },
        extra_hosts,
        ulimits,
        limits,
        stop_signal,
        stop_grace,
    } = spec;
    let convert = Convert { name, minor };
    let Some(image) = image else {
        return Err(convert.fail(ErrorKind::Invalid, "a container needs an image"));
    };
    if name.is_empty() {
        // The engine would make one up.
        return Err(convert.fail(ErrorKind::Invalid, "a container needs a name"));
    }
    convert.needs(41, "platform", platform.is_some())?;
    convert.needs(43, "annotations", !annotations.is_empty())?;
    let Networks { mode, first, connect, mac_address } = networks(&convert, spec)?;
    let (binds, mounts) = mounts(&convert, wanted_mounts)?;
    let (exposed_ports, port_bindings) = (convert.exposed(expose, ports)?, bindings(ports));
    let (security_opt, unmasked) = security(security_opt);
    let host = HostConfig {
        binds: some(binds),
        mounts: some(mounts),
        tmpfs: map(tmpfs),
        storage_opt: map(storage_options),
        readonly_rootfs: Some(*read_only),
        devices: some(devices(wanted_devices)),
        device_cgroup_rules: some(device_cgroup_rules.clone()),
        device_requests: some(gpus(&convert, wanted_gpus)?),
        port_bindings: Some(port_bindings),
        network_mode: mode,
        restart_policy: restart.map(restart_policy),
        log_config: logging.as_ref().map(log_config),
        annotations: map(annotations),
        cap_add: some(capabilities(cap_add)),
        cap_drop: some(capabilities(cap_drop)),
        security_opt: some(security_opt),
        privileged: Some(*privileged),
        sysctls: map(sysctls),
        // An empty list takes the engine's default away.
        masked_paths: unmasked.then(Vec::new),
        readonly_paths: unmasked.then(Vec::new),
        group_add: some(group_add.clone()),
        // Engines report whether there was a list at all, and Compose always sends one.
        extra_hosts: Some(extra_hosts.clone()),
        links: some(links.clone()),
        dns: some(servers.clone()),
        dns_options: some(options.clone()),
        dns_search: some(search.clone()),
        ipc_mode: ipc.clone(),
        pid_mode: pid.clone(),
        uts_mode: uts.clone(),
        userns_mode: userns.clone(),
        cgroupns_mode: convert.cgroup(cgroup.as_deref())?,
        shm_size: convert.signed("shm_size", *shm_size)?,
        runtime: runtime.clone(),
        init: *init,
        ulimits: some(ulimits.iter().map(ulimit)),
        ..limited(limits)
    };
    let body = ContainerCreateBody {
        hostname: hostname.clone(),
        domainname: domainname.clone(),
        user: user.clone(),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        exposed_ports: some(exposed_ports),
        tty: Some(*tty),
        open_stdin: Some(*stdin_open),
        env: some(convert.environment(environment)?),
        cmd: command.clone(),
        healthcheck: healthcheck.as_ref().map(|check| convert.healthcheck(check)).transpose()?,
        image: Some(image.clone()),
        working_dir: working_dir.clone(),
        entrypoint: entrypoint.clone(),
        labels: map(labels),
        stop_signal: stop_signal.clone(),
        // Cut off, as Compose does: our own stops say how long they wait.
        stop_timeout: stop_grace.map(|grace| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)),
        host_config: Some(host),
        networking_config: (!first.is_empty())
            .then_some(NetworkingConfig { endpoints_config: Some(first) }),
        ..ContainerCreateBody::default()
    };
    let platform = platform.clone().unwrap_or_default();
    Ok(Body { create: Create { body, mac_address }, platform, connect })
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

impl Convert<'_> {
    fn fail(&self, kind: ErrorKind, message: impl Into<String>) -> BackendError {
        BackendError::new(kind, "create", message).on(self.name)
    }

    /// Refuses `field`, if it is `used`, where the engine does not know it: it would drop it and
    /// say nothing.
    fn needs(&self, minor: usize, field: &str, used: bool) -> Result<()> {
        if used && self.minor < minor {
            let message =
                format!("{field}: needs API 1.{minor}, and this engine has 1.{}", self.minor);
            return Err(self.fail(ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    fn environment(&self, environment: &Environment) -> Result<Vec<String>> {
        let lines = environment.0.iter().map(|(name, value)| {
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

    /// The engine publishes a port only if it is also among the exposed ones, which it keeps as
    /// they are spelled.
    fn exposed(&self, expose: &[String], ports: &[PortMapping]) -> Result<BTreeSet<String>> {
        let is_number = |text: &str| text.parse::<u16>().is_ok();
        for port in expose {
            let (numbers, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
            let is_sound = is_number(first) && is_number(last);
            if !is_sound || !matches!(protocol, "tcp" | "udp" | "sctp") {
                return Err(self.fail(ErrorKind::Invalid, format!("cannot expose port {port:?}")));
            }
        }
        Ok(expose.iter().cloned().chain(ports.iter().map(inside)).collect())
    }

    fn cgroup(&self, mode: Option<&str>) -> Result<Option<HostConfigCgroupnsModeEnum>> {
        match mode {
            None => Ok(None),
            Some("host") => Ok(Some(HostConfigCgroupnsModeEnum::HOST)),
            Some("private") => Ok(Some(HostConfigCgroupnsModeEnum::PRIVATE)),
            Some(other) => {
                let message = format!("no cgroup namespace {other:?}: host or private");
                Err(self.fail(ErrorKind::Invalid, message))
            }
        }
    }

    fn healthcheck(&self, check: &Healthcheck) -> Result<HealthConfig> {
        let Healthcheck { test, interval, timeout, retries, start_period, start_interval } = check;
        self.needs(44, "healthcheck.start_interval", start_interval.is_some())?;
        Ok(HealthConfig {
            test: self.healthcheck_test(test)?,
            interval: self.nanoseconds(*interval)?,
            timeout: self.nanoseconds(*timeout)?,
            retries: self.signed("healthcheck.retries", *retries)?,
            start_period: self.nanoseconds(*start_period)?,
            start_interval: self.nanoseconds(*start_interval)?,
        })
    }

    fn healthcheck_test(&self, test: &HealthcheckTest) -> Result<Option<Vec<String>>> {
        Ok(match test {
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

    /// The engine counts in signed numbers.
    fn signed(&self, what: &str, size: Option<u64>) -> Result<Option<i64>> {
        let convert = |size: u64| {
            i64::try_from(size)
                .map_err(|_| self.fail(ErrorKind::Invalid, format!("{what} is too large")))
        };
        size.map(convert).transpose()
    }
}

/// A port as the engine calls it inside.
fn inside(port: &PortMapping) -> String {
    format!("{}/{}", port.container_port, port.protocol)
}

fn bindings(ports: &[PortMapping]) -> HashMap<String, Option<Vec<PortBinding>>> {
    let mut bindings = HashMap::<_, Option<Vec<_>>>::new();
    for port in ports {
        let PortMapping { container_port: _, protocol: _, host_ip, host_ports } = port;
        let outside = host_ports.map(|range| match range.first == range.last {
            true => range.first.to_string(),
            false => format!("{}-{}", range.first, range.last),
        });
        let binding = PortBinding {
            host_ip: Some(host_ip.clone().unwrap_or_default()),
            host_port: Some(outside.unwrap_or_default()),
        };
        bindings.entry(inside(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

fn limited(limits: &Limits) -> HostConfig {
    let Limits {
        nano_cpus,
        cpu_shares,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpu_count,
        cpu_percent,
        cpuset,
        memory,
        memory_swap,
        memory_reservation,
        memory_swappiness,
        pids,
        oom_kill_disable,
        oom_score_adj,
        cgroup_parent,
    } = limits;
    let number = |value: &i64| Some(*value).filter(|value| *value != 0);
    HostConfig {
        nano_cpus: number(nano_cpus),
        cpu_shares: number(cpu_shares),
        cpu_period: number(cpu_period),
        cpu_quota: number(cpu_quota),
        cpu_realtime_period: number(cpu_realtime_period),
        cpu_realtime_runtime: number(cpu_realtime_runtime),
        cpu_count: number(cpu_count),
        cpu_percent: number(cpu_percent),
        cpuset_cpus: Some(cpuset.clone()).filter(|cpus| !cpus.is_empty()),
        memory: number(memory),
        memory_swap: number(memory_swap),
        memory_reservation: number(memory_reservation),
        memory_swappiness: *memory_swappiness,
        pids_limit: *pids,
        // Engines report whether it was said, and Compose always says it.
        oom_kill_disable: Some(*oom_kill_disable),
        oom_score_adj: number(oom_score_adj),
        cgroup_parent: cgroup_parent.clone(),
        ..HostConfig::default()
    }
}

/// Security options as they are spelled, and whether the system's paths lie open: that is one for
/// the client to carry out.
fn security(options: &[String]) -> (Vec<String>, bool) {
    let is_paths = |option: &&String| *option == "systempaths=unconfined";
    let others = options.iter().filter(|option| !is_paths(option)).cloned().collect();
    (others, options.iter().any(|option| is_paths(&option)))
}

fn ulimit(limit: &Ulimit) -> ResourcesUlimits {
    let Ulimit { name, soft, hard } = limit;
    ResourcesUlimits { name: Some(name.clone()), soft: Some(*soft), hard: Some(*hard) }
}

fn log_config(logging: &Logging) -> HostConfigLogConfig {
    let Logging { driver, options } = logging;
    HostConfigLogConfig { typ: driver.clone(), config: map(options) }
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
