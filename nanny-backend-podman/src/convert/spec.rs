//! What is asked of the engine for one container.

mod devices;
mod mounts;
mod networks;
mod security;
mod signals;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use nanny_lib::backend::{
    BackendError, ContainerSpec, Dns, Environment, ErrorKind, Healthcheck, HealthcheckTest, Labels,
    Limits, Logging, Namespaces, PortMapping, RestartPolicy, Result, Ulimit,
};
use podman_api::models::{
    LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, Namespace, PortMapping as EnginePort,
    PosixRlimit, Schema2HealthConfig,
};
use podman_api::opts::{ContainerCreateOpts, ContainerCreateOptsBuilder, ContainerRestartPolicy};
use serde_json::{Map, Value, json};

pub(crate) use self::devices::is_cdi;
use self::devices::{cgroup_rules, devices, gpus};
use self::mounts::{Mounts, mounts};
use self::networks::{Networks, networks};
use self::security::{Security, security};
use super::info::CheckSettings;
use crate::gateway;

/// The annotation that notes which CDI devices a container was given.
pub(super) const DEVICES: &str = "dev.nanny.cdi-devices";

/// What a spec alone does not say.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// What the image is called in the engine's store.
    pub(crate) image: String,
    /// The image's own health check.
    pub(crate) check: Option<CheckSettings>,
    /// How many files and processes this machine allows at most, where it is the engine's.
    pub(crate) most: Most,
    /// By which address the container reaches the host, if it asks for that and there is one.
    pub(crate) gateway: Option<IpAddr>,
}

/// The limits of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Most {
    pub(crate) files: Option<u64>,
    pub(crate) processes: Option<u64>,
}

/// What words are turned into requests for: whom to blame.
struct Convert<'a> {
    /// The container's name.
    name: &'a str,
}

/// The CDI devices that `spec` asks for.
pub(crate) fn cdi_names(spec: &ContainerSpec) -> Result<Vec<String>> {
    let asked = gpus(&Convert { name: &spec.name }, &spec.gpus)?;
    let as_paths = spec.devices.iter().map(|device| &device.host).filter(|host| is_cdi(host));
    Ok(asked.into_iter().chain(as_paths.cloned()).collect())
}

/// The body of a create request for `spec`.
pub(crate) fn to_body(spec: &ContainerSpec, around: &Surroundings) -> Result<Vec<u8>> {
    // Taken apart whole: what is new in a spec must not compile until something is made of it.
    let ContainerSpec {
        name,
        // Looked up before, and checked against the platform.
        image: _,
        platform: _,
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
    let convert = Convert { name };
    if name.is_empty() {
        // The engine would make one up.
        return Err(convert.fail(ErrorKind::Invalid, "a container needs a name"));
    }
    convert.cannot("domainname", domainname.is_some())?;
    convert.cannot("links", !links.is_empty())?;
    let Networks { mode, joined } = networks(&convert, spec)?;
    let Mounts { mounts, volumes } = mounts(&convert, wanted_mounts, tmpfs)?;
    let cdi = gpus(&convert, wanted_gpus)?;
    let Security { no_new_privileges, seccomp, apparmor, selinux, mask, unmask } =
        security(&convert, security_opt)?;
    let (set, unset) = convert.environment(environment)?;
    let mut annotations = annotations.clone();
    if !cdi.is_empty() {
        annotations.insert(DEVICES.to_owned(), cdi.join(","));
    }

    let mut body = ContainerCreateOpts::builder()
        .name(name)
        .image(&around.image)
        .env(set)
        .unset_env(unset)
        .labels(labels)
        .annotations(annotations)
        .hostname(hostname)
        .user(user)
        .work_dir(working_dir)
        // Not every image has it, and Docker makes it then.
        .create_working_dir(working_dir.is_some())
        .terminal(*tty)
        .stdin(*stdin_open)
        .portmappings(convert.ports(ports)?)
        .mounts(mounts)
        .volumes(volumes)
        .storage_opts(storage_options)
        .read_only_fs(*read_only)
        .devices(devices(wanted_devices, &cdi))
        .device_cgroup_rule(cgroup_rules(&convert, device_cgroup_rules)?)
        .groups(group_add)
        .add_capabilities(capabilities(cap_add))
        .drop_capabilities(capabilities(cap_drop))
        .apparmor_profile(apparmor)
        .selinux_opts(selinux)
        .seccomp_profile_path(seccomp)
        .mask(mask)
        .unmask(unmask)
        .privileged(*privileged)
        .sysctl(sysctls)
        .net_namespace(mode)
        .networks(joined)
        .dns_server(servers)
        .dns_option(options)
        .dns_search(search)
        .hosts_add(convert.hosts(extra_hosts, around.gateway)?)
        .oci_runtime(runtime)
        .r_limits(rlimits(ulimits, around.most))
        .cgroup_parent(&limits.cgroup_parent)
        .image_volume_mode(podman_api::opts::ImageVolumeMode::Anonymous);
    if let Some(entrypoint) = entrypoint {
        body = body.entrypoint(entrypoint);
    }
    if let Some(command) = command {
        body = body.command(command);
    }
    if let Some(init) = init {
        body = body.init(*init);
    }
    for (mode, set) in [
        (ipc, ContainerCreateOptsBuilder::ipc_namespace as fn(_, _) -> _),
        (pid, ContainerCreateOptsBuilder::pid_namespace),
        (uts, ContainerCreateOptsBuilder::uts_namespace),
        (userns, ContainerCreateOptsBuilder::user_namespace),
        (cgroup, ContainerCreateOptsBuilder::cgroup_namespace),
    ] {
        if let Some(mode) = mode {
            body = set(body, namespace(mode));
        }
    }
    // It would be that of a namespace of its own.
    let own_ipc =
        !ipc.as_deref().is_some_and(|ipc| matches!(ipc, "host" | "none") || ipc.contains(':'));
    if let Some(size) = shm_size.filter(|_| own_ipc) {
        body = body.shm_size(convert.signed("shm_size", size)?);
    }
    if let Some(policy) = restart {
        body = restart_policy(body, *policy);
    }
    // An image's check is sent even if the spec is silent: by itself, Podman would take it without
    // defaults, and a check without a number of retries is unhealthy at once.
    let inherited = || around.check.as_ref().map(|_| Healthcheck::new(HealthcheckTest::Inherit));
    if let Some(check) = healthcheck.clone().or_else(inherited) {
        body = body.health_config(convert.healthcheck(&check, around)?);
    }
    if let Some(signal) = stop_signal {
        body = body.stop_signal(signals::number(&convert, signal)?);
    }
    if let Some(grace) = stop_grace {
        // Cut off, as Compose does: our own stops say how long they wait.
        body = body.stop_timeout(grace.as_secs());
    }
    if limits.oom_score_adj != 0 {
        body = body.oom_score_adj(limits.oom_score_adj);
    }
    body = body.resource_limits(convert.resources(limits)?);
    let (body, expose) = (body.build(), convert.exposed(expose)?);
    let log = convert.log(logging.as_ref())?;
    mended(&body, no_new_privileges, &expose, log.as_ref()).map_err(|error| {
        convert.fail(ErrorKind::Invalid, "the spec cannot be put into words").caused_by(error)
    })
}

/// The body, with what the typed client has wrong names for, or none.
fn mended(
    body: &ContainerCreateOpts,
    no_new_privileges: bool,
    expose: &BTreeMap<u16, String>,
    log: Option<&Value>,
) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_value(body)?.get_mut("params").map(Value::take);
    let mut body: Map<String, Value> = serde_json::from_value(body.unwrap_or_default())?;
    body.insert("no_new_privileges".to_owned(), json!(no_new_privileges));
    body.insert("expose".to_owned(), json!(expose));
    body.insert("log_configuration".to_owned(), json!(log));
    serde_json::to_vec(&body)
}

/// Whole seconds, rounded up: a grace period must not get shorter.
pub(crate) fn whole_seconds(duration: Duration) -> usize {
    let up = u64::from(duration.subsec_nanos() > 0);
    usize::try_from(duration.as_secs().saturating_add(up)).unwrap_or(usize::MAX)
}

impl Convert<'_> {
    fn fail(&self, kind: ErrorKind, message: impl Into<String>) -> BackendError {
        BackendError::new(kind, "create", message).on(self.name)
    }

    /// Refuses `field`, if it is `used`: the engine would drop it and say nothing.
    fn cannot(&self, field: &str, used: bool) -> Result<()> {
        let message = || format!("{field}: Podman has no such thing");
        if used { Err(self.fail(ErrorKind::Unsupported, message())) } else { Ok(()) }
    }

    /// The variables that are set, and those of the image that are taken away.
    fn environment<'a>(
        &self,
        environment: &'a Environment,
    ) -> Result<(BTreeMap<&'a str, &'a str>, Vec<&'a str>)> {
        let (mut set, mut unset) = (BTreeMap::new(), Vec::new());
        for (name, value) in &environment.0 {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message = "an environment variable has no proper name";
                return Err(self.fail(ErrorKind::Invalid, message));
            }
            match value {
                Some(value) => drop(set.insert(name.as_str(), value.as_str())),
                None => unset.push(name.as_str()),
            }
        }
        Ok((set, unset))
    }

    /// Names of other hosts, with the address for what stands for the host's.
    fn hosts(&self, hosts: &[String], gateway: Option<IpAddr>) -> Result<Vec<String>> {
        let convert = |host: &String| match (host.strip_suffix(gateway::WORD), gateway) {
            (None, _) => Ok(host.clone()),
            (Some(name), Some(address)) => Ok(format!("{name}:{address}")),
            (Some(name), None) => {
                let message = format!(
                    "extra_hosts: no network of the container has a host-gateway for {name}; \
                     Podman itself may have host.containers.internal for it"
                );
                Err(self.fail(ErrorKind::Unsupported, message))
            }
        };
        hosts.iter().map(convert).collect()
    }

    fn ports(&self, ports: &[PortMapping]) -> Result<Vec<EnginePort>> {
        let convert = |port: &PortMapping| {
            let PortMapping { container_port, protocol, host_ip, host_ports } = port;
            if let Some(range) = host_ports.filter(|range| range.first != range.last) {
                let message = format!(
                    "any host port of {}-{}: Podman takes one port",
                    range.first, range.last
                );
                return Err(self.fail(ErrorKind::Unsupported, message));
            }
            Ok(EnginePort {
                container_port: Some(*container_port),
                host_ip: host_ip.clone(),
                host_port: host_ports.map(|range| range.first),
                protocol: Some(protocol.to_string()),
                range: None,
            })
        };
        ports.iter().map(convert).collect()
    }

    fn exposed(&self, expose: &[String]) -> Result<BTreeMap<u16, String>> {
        let mut exposed = BTreeMap::<u16, String>::new();
        for port in expose {
            let (numbers, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
            let (Ok(first), Ok(last), "tcp" | "udp" | "sctp") =
                (first.parse::<u16>(), last.parse::<u16>(), protocol)
            else {
                return Err(self.fail(ErrorKind::Invalid, format!("cannot expose port {port:?}")));
            };
            for number in first..=last {
                let protocols = exposed.entry(number).or_default();
                if !protocols.is_empty() {
                    protocols.push(',');
                }
                protocols.push_str(protocol);
            }
        }
        Ok(exposed)
    }

    fn healthcheck(
        &self,
        check: &Healthcheck,
        around: &Surroundings,
    ) -> Result<Schema2HealthConfig> {
        let Healthcheck { test, interval, timeout, retries, start_period, start_interval } = check;
        self.cannot("healthcheck.start_interval", start_interval.is_some())?;
        let own = around.check.clone().unwrap_or_default();
        let words = |first: &str, words: &[String]| {
            std::iter::once(first.to_owned()).chain(words.iter().cloned()).collect::<Vec<_>>()
        };
        let test = match test {
            HealthcheckTest::Inherit => own.test.clone().ok_or_else(|| {
                let message = "healthcheck: neither the spec nor the image has a test";
                self.fail(ErrorKind::Invalid, message)
            })?,
            HealthcheckTest::Disabled => words("NONE", &[]),
            HealthcheckTest::Command(command) => words("CMD", command),
            HealthcheckTest::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
            other => {
                return Err(self.fail(ErrorKind::Unsupported, format!("healthcheck {other:?}")));
            }
        };
        // The spec, then the image, then what Docker and Podman's command line have by default; the
        // API has none.
        let first = |wanted: i64, own: i64, default: i64| {
            [wanted, own].into_iter().find(|set| *set > 0).unwrap_or(default)
        };
        let time = |wanted: &Option<Duration>, own, default| {
            Ok(first(self.nanoseconds(wanted.unwrap_or_default())?, own, default))
        };
        let retries = self.signed("healthcheck.retries", retries.unwrap_or_default())?;
        Ok(Schema2HealthConfig {
            test: Some(test),
            interval: Some(time(interval, own.interval, HEALTH_TIME)?),
            timeout: Some(time(timeout, own.timeout, HEALTH_TIME)?),
            retries: Some(first(retries, own.retries.into(), HEALTH_RETRIES)),
            start_period: Some(time(start_period, own.start_period, 0)?),
        })
    }

    fn nanoseconds(&self, duration: Duration) -> Result<i64> {
        i64::try_from(duration.as_nanos())
            .map_err(|_| self.fail(ErrorKind::Invalid, "a time of the healthcheck is too long"))
    }

    /// The engine counts in signed numbers.
    fn signed(&self, what: &str, size: u64) -> Result<i64> {
        i64::try_from(size)
            .map_err(|_| self.fail(ErrorKind::Invalid, format!("{what} is too large")))
    }

    fn resources(&self, limits: &Limits) -> Result<LinuxResources> {
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
            oom_score_adj: _,
            cgroup_parent: _,
        } = limits;
        self.cannot("cpu_count", *cpu_count != 0)?;
        self.cannot("cpu_percent", *cpu_percent != 0)?;
        if *nano_cpus != 0 && (*cpu_period != 0 || *cpu_quota != 0) {
            let message = "cpus excludes cpu_period and cpu_quota";
            return Err(self.fail(ErrorKind::Invalid, message));
        }
        let number = |value: i64| Some(value).filter(|value| *value != 0);
        let positive = |what: &str, value: i64| {
            let negative = || self.fail(ErrorKind::Invalid, format!("{what} is negative"));
            number(value).map(|value| u64::try_from(value).map_err(|_| negative())).transpose()
        };
        let by_cpus = *nano_cpus != 0;
        let cpu = LinuxCpu {
            cpus: Some(cpuset.clone()).filter(|cpus| !cpus.is_empty()),
            mems: None,
            period: if by_cpus { Some(CPU_PERIOD) } else { positive("cpu_period", *cpu_period)? },
            quota: if by_cpus { Some(nano_cpus / NANO_PER_PERIOD) } else { number(*cpu_quota) },
            realtime_period: positive("cpu_rt_period", *cpu_realtime_period)?,
            realtime_runtime: number(*cpu_realtime_runtime),
            shares: positive("cpu_shares", *cpu_shares)?,
        };
        let memory = LinuxMemory {
            limit: number(*memory),
            swap: number(*memory_swap),
            reservation: number(*memory_reservation),
            swappiness: memory_swappiness
                .map(|percent| {
                    u64::try_from(percent)
                        .map_err(|_| self.fail(ErrorKind::Invalid, "mem_swappiness is negative"))
                })
                .transpose()?,
            disable_oom_killer: oom_kill_disable.then_some(true),
            kernel: None,
            kernel_tcp: None,
            use_hierarchy: None,
        };
        Ok(LinuxResources {
            block_io: None,
            cpu: Some(cpu),
            devices: None,
            hugepage_limits: None,
            memory: Some(memory),
            network: None,
            // Where nothing is said, Podman allows 2048. As on Docker, zero is no limit.
            pids: Some(LinuxPids { limit: Some(pids.filter(|limit| *limit != 0).unwrap_or(-1)) }),
            rdma: None,
            unified: None,
        })
    }

    /// Docker's usual drivers are Podman's file, which it begins anew when it is full.
    fn log(&self, logging: Option<&Logging>) -> Result<Option<Value>> {
        let Some(Logging { driver, options }) = logging else {
            return Ok(None);
        };
        let driver = match driver.as_deref() {
            None => None,
            Some("json-file" | "local" | "k8s-file") => Some("k8s-file"),
            Some(known @ ("journald" | "none" | "passthrough")) => Some(known),
            Some(other) => {
                let message = format!("logging: Podman has no driver {other:?}");
                return Err(self.fail(ErrorKind::Unsupported, message));
            }
        };
        let (mut size, mut files, mut kept) = (None, 1, Labels::new());
        for (option, value) in options {
            let unsound =
                || self.fail(ErrorKind::Invalid, format!("logging: {option} is {value:?}"));
            match option.as_str() {
                "max-size" => size = Some(bytes(value).ok_or_else(unsound)?),
                "max-file" => {
                    let number = value.parse::<i64>().ok().filter(|number| *number > 0);
                    files = number.ok_or_else(unsound)?;
                }
                "tag" | "path" => drop(kept.insert(option.clone(), value.clone())),
                // Nobody reads what was rotated away.
                "compress" => {}
                _ => {
                    let message = format!("logging: Podman has no option {option:?}");
                    return Err(self.fail(ErrorKind::Unsupported, message));
                }
            }
        }
        let size = size.map(|size: i64| size.saturating_mul(files));
        let path = kept.remove("path");
        Ok(Some(
            json!({ "driver": driver, "size": size.unwrap_or(0), "path": path, "options": kept }),
        ))
    }
}

/// In nanoseconds.
const HEALTH_TIME: i64 = 30_000_000_000;
const HEALTH_RETRIES: i64 = 3;
/// The scheduler's usual period, in microseconds.
const CPU_PERIOD: u64 = 100_000;
/// So many billionths of a processor are one microsecond of each period.
const NANO_PER_PERIOD: i64 = 10_000;

/// A mode of a namespace: `host`, or `container:<id>`.
fn namespace(mode: &str) -> Namespace {
    let (mode, value) = match mode.split_once(':') {
        Some((mode, value)) => (mode, Some(value.to_owned())),
        None => (mode, None),
    };
    Namespace { nsmode: Some(mode.to_owned()), value }
}

fn restart_policy(
    body: ContainerCreateOptsBuilder,
    policy: RestartPolicy,
) -> ContainerCreateOptsBuilder {
    match policy {
        RestartPolicy::Always => body.restart_policy(ContainerRestartPolicy::Always),
        RestartPolicy::UnlessStopped => body.restart_policy(ContainerRestartPolicy::UnlessStopped),
        // To the engine, a limit of zero is none.
        RestartPolicy::OnFailure { max_retries: Some(0) } => {
            body.restart_policy(ContainerRestartPolicy::No)
        }
        RestartPolicy::OnFailure { max_retries } => {
            let body = body.restart_policy(ContainerRestartPolicy::OnFailure);
            match max_retries {
                Some(retries) => body.restart_tries(u64::from(retries)),
                None => body,
            }
        }
        _ => body.restart_policy(ContainerRestartPolicy::No),
    }
}

/// As soon as one limit is set, Podman sets those for files and processes to what a machine may refuse.
fn rlimits(ulimits: &[Ulimit], most: Most) -> Vec<PosixRlimit> {
    // `-1`, none, is the largest there is.
    let value = |limit: i64| Some(u64::try_from(limit).unwrap_or(u64::MAX));
    let wanted = ulimits.iter().map(|limit| {
        let Ulimit { name, soft, hard } = limit;
        PosixRlimit { type_: Some(name.clone()), soft: value(*soft), hard: value(*hard) }
    });
    let mut limits: Vec<_> = wanted.collect();
    if limits.is_empty() {
        return limits;
    }
    for (name, most) in [("nofile", most.files), ("nproc", most.processes)] {
        let is_set = ulimits.iter().any(|limit| limit.name == name);
        if let Some(most) = most.filter(|most| !is_set && *most < PODMANS_MOST) {
            limits.push(PosixRlimit {
                type_: Some(name.to_owned()),
                soft: Some(most),
                hard: Some(most),
            });
        }
    }
    limits
}

/// What Podman allows where it is not told otherwise.
const PODMANS_MOST: u64 = 1 << 20;

/// `SYS_NICE` is `CAP_SYS_NICE`.
fn capabilities(names: &[String]) -> Vec<String> {
    let canonical = |name: &String| {
        let name = name.to_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    names.iter().map(canonical).collect()
}

/// A size as Docker's log drivers take it: `10m`.
fn bytes(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches('b');
    let (digits, unit) = match digits.chars().last()? {
        'k' => (&digits[..digits.len() - 1], 1 << 10),
        'm' => (&digits[..digits.len() - 1], 1 << 20),
        'g' => (&digits[..digits.len() - 1], 1 << 30),
        _ => (digits, 1),
    };
    digits.parse::<i64>().ok().filter(|number| *number > 0)?.checked_mul(unit)
}

#[cfg(test)]
mod tests;
