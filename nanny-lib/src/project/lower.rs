//! From a Compose project to ours: names, labels and defaults are Compose's, and are data here.

use std::fmt::Write as _;

use nanny_compose::{labels as compose_labels, model};
use sha2::{Digest as _, Sha256};

use super::{Condition, Dependency, NetworkWanted, Part, Project, VolumeWanted, labels};
use crate::backend::{
    ContainerSpec, DeviceMapping, Environment, GpuDevices, Healthcheck, HealthcheckTest, HostPorts,
    Labels, Mount, MountKind, Namespaces, NetworkAttachment, NetworkSpec, PortMapping, Protocol,
    Recursion, RestartPolicy, Ulimit, VolumeSpec,
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
        hash_labels: vec![labels::SPEC_HASH.to_owned(), compose_labels::CONFIG_HASH.to_owned()],
        image_label: Some(compose_labels::IMAGE.to_owned()),
        parts,
        networks,
        volumes,
    })
}

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
        // A dependency that no selected profile activates is one the project can do without.
        let active = |name: &&String| self.compose.services.contains_key(*name);
        let names = service.depends_on.keys().filter(active);
        let depends_on = names.map(|name| dependency(name, service.depends_on[name])).collect();
        Part { spec, depends_on, restart: restart.unwrap_or_default() }
    }

    fn spec(&mut self, service: &model::Service) -> ContainerSpec {
        let compose = self.compose;
        let variables = service.environment.iter();
        let variables =
            variables.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
        let networks = service.networks_in_order().into_iter().map(|key| {
            NetworkAttachment::new(compose.network_name(key), compose.network_aliases(service, key))
        });
        ContainerSpec {
            name: compose.container_name(service),
            image: Some(service.image.clone()),
            entrypoint: service.entrypoint.clone(),
            command: service.command.clone(),
            environment: Environment(variables),
            labels: compose.container_labels(service),
            hostname: service.hostname.clone(),
            user: service.user.clone(),
            working_dir: service.working_dir.clone(),
            tty: service.tty,
            stdin_open: service.stdin_open,
            init: service.init,
            ports: service.ports.iter().filter_map(|port| self.port(service, port)).collect(),
            expose: service.expose.clone(),
            mounts: service.mounts.iter().map(|mount| self.mount(service, mount)).collect(),
            devices: service.devices.iter().map(device).collect(),
            gpus: service.gpus.iter().cloned().map(gpu_devices).collect(),
            group_add: service.group_add.clone(),
            cap_add: service.cap_add.clone(),
            cap_drop: service.cap_drop.clone(),
            security_opt: service.security_opt.clone(),
            namespaces: Namespaces { ipc: service.namespaces.ipc.clone(), ..Namespaces::default() },
            shm_size: service.shm_size,
            runtime: service.runtime.clone(),
            restart: None,
            healthcheck: service.healthcheck.as_ref().map(|check| self.healthcheck(service, check)),
            network_mode: service.network_mode.as_ref().map(ToString::to_string),
            networks: networks.collect(),
            extra_hosts: extra_hosts(service),
            ulimits: service.ulimits.iter().map(ulimit).collect(),
            stop_signal: service.stop_signal.clone(),
            stop_grace: service.stop_grace_period.or(self.manifest.stop_timeout),
            ..ContainerSpec::default()
        }
    }

    fn port(&mut self, service: &model::Service, port: &model::Port) -> Option<PortMapping> {
        let published = port.published.as_deref().filter(|text| !text.is_empty() && *text != "0");
        let host_ports = match published.map(port_range) {
            None => None,
            Some(Some((first, last))) => Some(HostPorts { first, last }),
            Some(None) => {
                self.fault(service, "ports", &format!("'{port}' is published at no port number"));
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

    fn mount(&mut self, service: &model::Service, mount: &model::Mount) -> Mount {
        let kind = match &mount.source {
            model::MountSource::Bind { path, create_host_path, .. } => MountKind::Bind {
                source: path.clone(),
                create_source: *create_host_path,
                propagation: mount.propagation.map(|found| found.as_str().to_owned()),
                selinux: mount.selinux.and_then(|found| found.as_str().chars().next()),
                recursive: Recursion::Enabled,
            },
            model::MountSource::Volume { key, .. } => {
                let name = self.compose.volume_name(key);
                MountKind::Volume { name, no_copy: mount.no_copy, subpath: None }
            }
            model::MountSource::Anonymous => MountKind::Anonymous,
            model::MountSource::Tmpfs { size, mode } => {
                MountKind::Tmpfs { size: *size, mode: *mode }
            }
            other => {
                self.fault(service, "volumes", &format!("{other:?} is not supported"));
                MountKind::Anonymous
            }
        };
        Mount { read_only: mount.read_only, ..Mount::new(mount.target.clone(), kind) }
    }

    fn healthcheck(&mut self, service: &model::Service, check: &model::Healthcheck) -> Healthcheck {
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
            ipam: None,
            labels: self.compose.network_labels(key, network),
        };
        // Compose takes a network whose key fits for its own, whichever project made it.
        let ours = Labels::from([(compose_labels::NETWORK.to_owned(), key.to_owned())]);
        let identity = if network.external { Labels::new() } else { ours };
        NetworkWanted::new(spec, network.external, identity)
    }

    fn volume(&self, key: &str, volume: &model::Volume) -> VolumeWanted {
        let spec = VolumeSpec {
            name: volume.name.clone(),
            driver: volume.driver.clone(),
            driver_options: volume.driver_opts.clone(),
            labels: self.compose.volume_labels(key, volume),
        };
        VolumeWanted::new(spec, volume.external)
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
    Sha256::digest(&json).iter().fold(String::with_capacity(64), |mut hex, byte| {
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
    Dependency { required: found.required, ..Dependency::new(name, condition) }
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
