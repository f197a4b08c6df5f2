//! From a Compose project to ours: names, labels and defaults are Compose's, and are data here.

mod beyond;

use std::fmt::Write as _;

use nanny_compose::{labels as compose_labels, model};
use sha2::{Digest as _, Sha256};

use super::{Condition, Dependency, HashLabel, NetworkWanted, Part, Project, VolumeWanted, labels};
use crate::backend::{
    AddressPool, Addresses, ContainerSpec, DeviceMapping, Dns, Environment, GpuDevices,
    Healthcheck, HealthcheckTest, HostPorts, Ipam, Labels, Limits, Logging, Mount, MountKind,
    Namespaces, NetworkAttachment, NetworkSpec, PortMapping, Protocol, Recursion, RestartPolicy,
    Ulimit, VolumeSpec,
};
use crate::manifest::{Manifest, Problem, RestartMode};

/// What runs the service of `manifest`, as its Compose file says.
///
/// Containers carry Compose's labels and ours: the service, and a hash of the spec by which a
/// change of the files is recognised. Those of a service that needs a GPU are created with no
/// restart policy, unless the manifest says `restart_policy: keep`: [`Part::restart`] has what the
/// file asks for.
///
/// # Errors
///
/// Everything the file asks for that no backend can be told.
pub fn from_compose(
    compose: &model::Project,
    manifest: &Manifest,
) -> Result<Project, Vec<Problem>> {
    let mut lowering = Lowering { compose, manifest, faults: Vec::new() };
    let services = compose.services.iter();
    let parts = services.map(|(key, service)| (key.clone(), Box::new(lowering.part(service))));
    let parts = parts.collect();
    let networks =
        compose.networks.iter().map(|(key, found)| lowering.network(key, found)).collect();
    let volumes = compose.volumes.iter().map(|(key, found)| lowering.volume(key, found)).collect();
    if !lowering.faults.is_empty() {
        return Err(lowering.problems());
    }
    let (label, value) = compose.selector();
    Ok(Project {
        name: compose.name.clone(),
        selector: Labels::from([(label.to_owned(), value.to_owned())]),
        part_label: compose_labels::SERVICE.to_owned(),
        excluded: Labels::from([(compose_labels::ONEOFF.to_owned(), "True".to_owned())]),
        hash_labels: vec![
            HashLabel::new(labels::SPEC_HASH),
            HashLabel {
                label: compose_labels::CONFIG_HASH.to_owned(),
                maker: Some((compose_labels::VERSION.to_owned(), COMPOSE_VERSIONS.to_owned())),
            },
        ],
        image_label: Some(compose_labels::IMAGE.to_owned()),
        parts,
        inactive: compose.inactive.clone(),
        networks,
        volumes,
    })
}

/// The versions of Compose whose config hashes are known: what others made is left as it is, for
/// a new dialect is no change of the files.
const COMPOSE_VERSIONS: &str = "2.40.";

struct Lowering<'a> {
    compose: &'a model::Project,
    manifest: &'a Manifest,
    faults: Vec<String>,
}

impl Lowering<'_> {
    fn part(&mut self, service: &model::Service) -> Part {
        let restart = service.restart.map(restart_policy);
        let ours = self.manifest.gpu_required && self.manifest.restart == RestartMode::Nanny;
        let mut spec = self.spec(service);
        spec.restart = if ours { Some(RestartPolicy::No) } else { restart };
        spec.labels.insert(labels::SERVICE.to_owned(), self.manifest.name.as_str().to_owned());
        if let (true, Some(asked)) = (ours, service.restart) {
            spec.labels.insert(labels::RESTART.to_owned(), asked.to_string());
        }
        spec.labels.insert(labels::SPEC_HASH.to_owned(), spec_hash(&spec));
        // A dependency that no selected profile activates, or that is to have no container, is one
        // the project can do without.
        let active = |name: &&String| {
            self.compose.services.get(*name).is_some_and(|service| service.is_wanted)
        };
        let names = service.depends_on.keys().filter(active);
        let depends_on = names.map(|name| dependency(name, service.depends_on[name])).collect();
        let part = Part { depends_on, restart: restart.unwrap_or_default(), ..Part::new(spec) };
        self.beyond(service, part)
    }

    fn spec(&mut self, service: &model::Service) -> ContainerSpec {
        let compose = self.compose;
        let variables = service.environment.iter();
        let variables =
            variables.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
        let namespaces = &service.namespaces;
        ContainerSpec {
            name: compose.container_name(service),
            image: Some(service.image.clone()),
            platform: service.platform.clone(),
            entrypoint: service.entrypoint.clone(),
            command: service.command.clone(),
            environment: Environment(variables),
            labels: compose.container_labels(service),
            annotations: service.annotations.clone(),
            hostname: service.hostname.clone(),
            domainname: service.domainname.clone(),
            user: service.user.clone(),
            working_dir: service.working_dir.clone(),
            tty: service.tty,
            stdin_open: service.stdin_open,
            init: service.init,
            ports: service.ports.iter().filter_map(|port| self.port(service, port)).collect(),
            expose: service.expose.clone(),
            mounts: self.mounts(service),
            tmpfs: service.tmpfs.iter().map(|memory| tmpfs(memory)).collect(),
            storage_options: service.storage_opt.clone(),
            read_only: service.read_only,
            devices: service.devices.iter().map(device).collect(),
            device_cgroup_rules: service.device_cgroup_rules.clone(),
            gpus: service.gpus.iter().cloned().map(gpu_devices).collect(),
            group_add: service.group_add.clone(),
            cap_add: service.cap_add.clone(),
            cap_drop: service.cap_drop.clone(),
            security_opt: self.security(service),
            privileged: service.privileged,
            sysctls: service.sysctls.clone(),
            namespaces: Namespaces {
                ipc: namespaces.ipc.clone(),
                pid: namespaces.pid.clone(),
                uts: namespaces.uts.clone(),
                userns: namespaces.user.clone(),
                cgroup: namespaces.cgroup.clone(),
            },
            shm_size: service.shm_size,
            runtime: service.runtime.clone(),
            restart: None,
            logging: service.logging.as_ref().map(logging),
            healthcheck: service.healthcheck.as_ref().map(|check| self.healthcheck(service, check)),
            network_mode: service.network_mode.as_ref().map(ToString::to_string),
            networks: self.attachments(service),
            mac_address: service.mac_address.clone(),
            links: compose.container_links(service),
            dns: Dns {
                servers: service.dns.clone(),
                options: service.dns_opt.clone(),
                search: service.dns_search.clone(),
            },
            extra_hosts: extra_hosts(service),
            ulimits: service.ulimits.iter().map(ulimit).collect(),
            limits: limits(service),
            stop_signal: service.stop_signal.clone(),
            stop_grace: service.stop_grace_period.or(self.manifest.stop_timeout),
        }
    }

    /// Its security options; a seccomp profile is whole by now, unless it could not be read.
    fn security(&mut self, service: &model::Service) -> Vec<String> {
        for option in &service.security_opt {
            let name =
                option.strip_prefix("seccomp").and_then(|rest| rest.strip_prefix(['=', ':']));
            if let Some(name) = name
                && !matches!(name, "unconfined" | "builtin")
                && !name.starts_with('{')
            {
                let message = format!("the seccomp profile '{name}' cannot be read");
                self.fault(service, "security_opt", &message);
            }
        }
        service.security_opt.clone()
    }

    /// Its networks, the primary one first.
    fn attachments(&self, service: &model::Service) -> Vec<NetworkAttachment> {
        let attachment = |key: &str| {
            let aliases = self.compose.network_aliases(service, key);
            let plain = NetworkAttachment::new(self.compose.network_name(key), aliases);
            let Some(wanted) = service.networks.get(key).filter(|wanted| wanted.is_explicit) else {
                return plain;
            };
            NetworkAttachment {
                addresses: Some(Addresses {
                    ipv4: wanted.ipv4_address.clone(),
                    ipv6: wanted.ipv6_address.clone(),
                    link_local: wanted.link_local_ips.clone(),
                }),
                mac_address: wanted.mac_address.clone(),
                interface: wanted.interface_name.clone(),
                gateway_priority: wanted.gw_priority,
                driver_options: wanted.driver_opts.clone(),
                ..plain
            }
        };
        service.networks_in_order().into_iter().map(attachment).collect()
    }

    fn port(&mut self, service: &model::Service, port: &model::Port) -> Option<PortMapping> {
        let published = port.published.as_deref().filter(|text| !text.is_empty() && *text != "0");
        let host_ports = match published.map(port_range) {
            None => None,
            Some(Some((first, last))) => Some(HostPorts { first, last }),
            Some(None) => {
                let message = format!("{} is published at no port number", port.target);
                self.fault(service, "ports", &message);
                return None;
            }
        };
        let protocol = protocol(port.protocol);
        Some(PortMapping {
            protocol,
            host_ip: port.host_ip.clone(),
            host_ports,
            ..PortMapping::new(port.target)
        })
    }

    /// Its volumes, and the secrets and configs that are files of the host; of several at one
    /// place the first one counts.
    fn mounts(&mut self, service: &model::Service) -> Vec<Mount> {
        let volumes = service.mounts.iter().map(|mount| self.mount(service, mount));
        let mut mounts: Vec<_> = volumes.collect();
        let secrets = service.secrets.iter().map(|secret| (secret, true));
        // Of a config, Compose gives no options, and engines report the difference.
        let configs = service.configs.iter().map(|config| (config, false));
        for (file, has_options) in secrets.chain(configs) {
            let model::Content::File(path) = &file.content else { continue };
            if mounts.iter().any(|mount| mount.target == file.target) {
                continue;
            }
            let kind = MountKind::bind(path, false);
            let plain = Mount::new(&file.target, kind);
            mounts.push(Mount { read_only: true, has_options, ..plain });
        }
        mounts
    }

    fn mount(&mut self, service: &model::Service, mount: &model::Mount) -> Mount {
        let kind = match &mount.source {
            model::MountSource::Bind { path, create_host_path, recursive } => {
                let recursive = self.recursion(service, recursive.as_deref());
                let propagation = mount.propagation.map(|found| found.as_str().to_owned());
                let selinux = mount.selinux.and_then(|found| found.as_str().chars().next());
                // Where the engine can be told of one or the other only, Compose drops the letter.
                let is_plain =
                    *create_host_path && propagation.is_none() && recursive == Recursion::Enabled;
                MountKind::Bind {
                    source: path.clone(),
                    create_source: *create_host_path,
                    propagation,
                    selinux: selinux.filter(|_| is_plain),
                    consistency: mount.consistency.clone(),
                    recursive,
                }
            }
            model::MountSource::Volume { key, subpath } => MountKind::Volume {
                name: self.compose.volume_name(key),
                no_copy: mount.no_copy,
                subpath: subpath.clone(),
            },
            model::MountSource::Anonymous => {
                if mount.no_copy {
                    let message = "'nocopy' is not supported for a volume without a name; name it";
                    self.fault(service, "volumes", message);
                }
                MountKind::Anonymous
            }
            model::MountSource::Tmpfs { size, mode } => {
                MountKind::Tmpfs { size: *size, mode: *mode }
            }
            other => {
                self.fault(service, "volumes", &format!("{other:?} is not supported"));
                MountKind::Anonymous
            }
        };
        Mount {
            target: mount.target.clone(),
            read_only: mount.read_only,
            has_options: mount.has_options,
            volume_labels: mount.volume_labels.clone(),
            kind,
        }
    }

    fn recursion(&mut self, service: &model::Service, word: Option<&str>) -> Recursion {
        match word {
            None | Some("enabled") => Recursion::Enabled,
            Some("disabled") => Recursion::Disabled,
            Some("writable") => Recursion::Writable,
            Some("readonly") => Recursion::ReadOnly,
            Some(other) => {
                self.fault(service, "volumes", &format!("'{other}' is no kind of recursion"));
                Recursion::Enabled
            }
        }
    }

    fn healthcheck(&mut self, service: &model::Service, check: &model::Healthcheck) -> Healthcheck {
        if check.start_interval.is_some() && check.start_period.is_none() {
            self.fault(
                service,
                "healthcheck.start_interval",
                "means nothing without a start_period",
            );
        }
        let test = match check.test.split_first() {
            _ if check.is_off() => HealthcheckTest::Disabled,
            None => HealthcheckTest::Inherit,
            Some((kind, words)) if kind == "CMD" => HealthcheckTest::Command(words.to_vec()),
            Some((kind, words)) if kind == "CMD-SHELL" => HealthcheckTest::Shell(words.join(" ")),
            Some((kind, _)) => {
                let message = format!("'{kind}' must be CMD, CMD-SHELL or NONE");
                self.fault(service, "healthcheck.test", &message);
                HealthcheckTest::Inherit
            }
        };
        Healthcheck {
            interval: check.interval,
            timeout: check.timeout,
            retries: check.retries,
            start_period: check.start_period,
            start_interval: check.start_interval,
            ..Healthcheck::new(test)
        }
    }

    fn network(&self, key: &str, network: &model::Network) -> NetworkWanted {
        let spec = NetworkSpec {
            name: network.name.clone(),
            driver: network.driver.clone(),
            driver_options: network.driver_opts.clone(),
            internal: network.internal,
            attachable: network.attachable,
            ipv4: network.enable_ipv4,
            ipv6: network.enable_ipv6,
            ipam: ipam(&network.ipam),
            labels: self.compose.network_labels(key, network),
        };
        // Compose takes a network whose key fits for its own, whichever project made it.
        let ours = Labels::from([(compose_labels::NETWORK.to_owned(), key.to_owned())]);
        let identity = if network.external { Labels::new() } else { ours };
        let expected = beyond::expected(&spec.labels, network.external);
        let (label, project) = self.compose.selector();
        let maker = Labels::from([(label.to_owned(), project.to_owned())]);
        NetworkWanted { expected, maker, ..NetworkWanted::new(spec, network.external, identity) }
    }

    fn volume(&self, key: &str, volume: &model::Volume) -> VolumeWanted {
        let spec = VolumeSpec {
            name: volume.name.clone(),
            driver: volume.driver.clone(),
            driver_options: volume.driver_opts.clone(),
            labels: self.compose.volume_labels(key, volume),
        };
        let expected = beyond::expected(&spec.labels, volume.external);
        VolumeWanted { expected, ..VolumeWanted::new(spec, volume.external) }
    }

    fn fault(&mut self, service: &model::Service, field: &str, message: &str) {
        self.faults.push(format!("services.{}.{field}: {message}", service.name));
    }

    fn problems(self) -> Vec<Problem> {
        let Self { compose, faults, .. } = self;
        let file = compose.config_files.first().unwrap_or(&compose.working_dir);
        let problem = |message| Problem::new(&compose.working_dir, file, (1, 1), message);
        faults.into_iter().map(problem).collect()
    }
}

/// SHA-256 over everything a container is made from, in hex.
pub(crate) fn spec_hash(spec: &ContainerSpec) -> String {
    // Strings, numbers, maps with text keys: there is nothing in a spec that JSON cannot say.
    let json = serde_json::to_vec(spec).unwrap_or_default();
    hex(&Sha256::digest(&json))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn dependency(name: &str, found: model::Dependency) -> Dependency {
    let condition = match found.condition {
        model::Condition::Healthy => Condition::Healthy,
        model::Condition::CompletedSuccessfully => Condition::Completed,
        _ => Condition::Started,
    };
    let Dependency { part, condition, .. } = Dependency::new(name, condition);
    Dependency { part, condition, required: found.required, restart: found.restart }
}

fn restart_policy(policy: model::RestartPolicy) -> RestartPolicy {
    match policy {
        model::RestartPolicy::Always => RestartPolicy::Always,
        model::RestartPolicy::UnlessStopped => RestartPolicy::UnlessStopped,
        model::RestartPolicy::OnFailure { max } => RestartPolicy::OnFailure { max_retries: max },
        _ => RestartPolicy::No,
    }
}

fn protocol(protocol: model::Protocol) -> Protocol {
    match protocol {
        model::Protocol::Udp => Protocol::Udp,
        model::Protocol::Sctp => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

/// `8000` or `8000-8010`.
fn port_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

fn device(device: &model::Device) -> DeviceMapping {
    DeviceMapping {
        host: device.source.clone(),
        container: device.target.clone(),
        permissions: device.permissions.clone(),
    }
}

fn gpu_devices(request: model::GpuRequest) -> GpuDevices {
    GpuDevices {
        driver: request.driver.unwrap_or_default(),
        count: request.count,
        device_ids: request.device_ids,
        capabilities: request.capabilities,
        options: request.options,
    }
}

/// A path, and after a colon its options.
fn tmpfs(memory: &str) -> (String, String) {
    let (path, options) = memory.split_once(':').unwrap_or((memory, ""));
    (path.to_owned(), options.to_owned())
}

fn logging(logging: &model::Logging) -> Logging {
    let driver = Some(logging.driver.clone()).filter(|driver| !driver.is_empty());
    Logging { driver, options: logging.options.clone() }
}

#[expect(clippy::cast_possible_truncation, reason = "so does Compose, in single precision too")]
fn limits(service: &model::Service) -> Limits {
    let resources = &service.resources;
    Limits {
        nano_cpus: (resources.cpus * 1e9) as i64,
        cpu_shares: resources.cpu_shares,
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_realtime_period: resources.cpu_rt_period,
        cpu_realtime_runtime: resources.cpu_rt_runtime,
        cpu_count: resources.cpu_count,
        cpu_percent: (resources.cpu_percent * 100.0) as i64,
        cpuset: resources.cpuset.clone().unwrap_or_default(),
        memory: resources.mem_limit,
        memory_swap: resources.memswap_limit,
        memory_reservation: resources.mem_reservation,
        memory_swappiness: resources.mem_swappiness,
        pids: resources.pids_limit,
        oom_kill_disable: resources.oom_kill_disable,
        oom_score_adj: resources.oom_score_adj,
        cgroup_parent: service.namespaces.cgroup_parent.clone(),
    }
}

/// Options of the driver are not among it: Compose sends none.
fn ipam(ipam: &model::Ipam) -> Option<Ipam> {
    let pools = ipam.pools.iter().map(|pool| AddressPool {
        subnet: pool.subnet.clone(),
        ip_range: pool.ip_range.clone(),
        gateway: pool.gateway.clone(),
        reserved: pool.aux_addresses.clone(),
    });
    let ipam = Ipam { driver: ipam.driver.clone(), pools: pools.collect() };
    (ipam != Ipam::default()).then_some(ipam)
}

fn ulimit((name, limit): (&String, &model::Ulimit)) -> Ulimit {
    Ulimit::new(name, limit.soft, limit.hard)
}

fn extra_hosts(service: &model::Service) -> Vec<String> {
    let lines = service.extra_hosts.iter().flat_map(|(host, addresses)| {
        addresses.iter().map(move |address| format!("{host}:{address}"))
    });
    lines.collect()
}

#[cfg(test)]
mod tests;
