//! From the canonical tree to the typed model.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::at::At;
use super::normal::{CONTENT, text};
use super::read::entries;
use super::reading::Reading;
use super::{scalars, security};
use crate::hash::{Writer, host_parts};
use crate::model::{
    Attachment, Build, Condition, Config, Content, Dependency, Device, Environment, FileMount,
    GpuRequest, Healthcheck, Ipam, IpamPool, Logging, Mount, MountSource, Namespaces, Network,
    NetworkMode, Port, Propagation, Protocol, PullPolicy, Resources, RestartPolicy, Selinux,
    Service, Ulimit, Volume,
};
use crate::names::{built_image_name, resource_name};
use crate::spec::{NETWORK, Object, SERVICE, VOLUME};
use crate::yaml::{Node, Value};

/// Reads the services of a canonical project.
pub(super) struct Decoder<'a> {
    pub(super) project: &'a str,
    pub(super) root: &'a Node,
    pub(super) dir: &'a Path,
    pub(super) reading: &'a Reading<'a>,
}

impl Decoder<'_> {
    /// An active service.
    pub(super) fn service(&self, name: &str, at: &At<'_>) -> Service {
        let node = at.node;
        let built = || built_image_name(self.project, name);
        let image = filled(node, "image").unwrap_or_else(built);
        let limits = node.at("deploy.resources.limits");
        let reservations = node.at("deploy.resources.reservations");
        let (named, devices) = items(node, "devices").map(device).partition(is_cdi);
        let gpus = reserved(reservations).into_iter().chain(by_name(named)).chain(gpus(node));
        Service {
            image,
            build: node.at("build").map(build),
            pull_policy: filled(node, "pull_policy").and_then(|text| pull_policy(&text)),
            platform: filled(node, "platform"),
            is_wanted: ["scale", "deploy.replicas"]
                .iter()
                .all(|path| node.at(path).is_none_or(|count| count.value != Value::Int(0))),
            container_name: filled(node, "container_name"),
            hostname: filled(node, "hostname"),
            domainname: filled(node, "domainname"),
            command: words(node, "command"),
            entrypoint: words(node, "entrypoint"),
            environment: variables(node.at("environment")),
            ports: items(node, "ports").map(port).collect(),
            expose: texts(node, "expose"),
            mounts: items(node, "volumes").filter_map(mount).collect(),
            tmpfs: texts(node, "tmpfs"),
            secrets: self.files(node, "secrets"),
            configs: self.files(node, "configs"),
            devices,
            device_cgroup_rules: texts(node, "device_cgroup_rules"),
            gpus: gpus.collect(),
            group_add: texts(node, "group_add"),
            namespaces: Namespaces {
                ipc: filled(node, "ipc"),
                pid: filled(node, "pid"),
                uts: filled(node, "uts"),
                user: filled(node, "userns_mode"),
                cgroup: filled(node, "cgroup"),
                cgroup_parent: filled(node, "cgroup_parent"),
            },
            resources: resources(node, limits, reservations),
            shm_size: size(node, "shm_size"),
            cap_add: texts(node, "cap_add"),
            cap_drop: texts(node, "cap_drop"),
            security_opt: self.security_options(at),
            privileged: is_set(node, "privileged"),
            read_only: is_set(node, "read_only"),
            user: filled(node, "user"),
            working_dir: filled(node, "working_dir"),
            tty: is_set(node, "tty"),
            stdin_open: is_set(node, "stdin_open"),
            init: boolean(node, "init"),
            restart: self.restart(at),
            healthcheck: node.at("healthcheck").map(healthcheck),
            depends_on: depends_on(node),
            networks: networks(node),
            network_mode: filled(node, "network_mode").map(|mode| NetworkMode::from_text(&mode)),
            mac_address: filled(node, "mac_address"),
            links: texts(node, "links"),
            external_links: texts(node, "external_links"),
            extra_hosts: hosts(node),
            dns: texts(node, "dns"),
            dns_opt: texts(node, "dns_opt"),
            dns_search: texts(node, "dns_search"),
            labels: pairs(node, "labels"),
            annotations: pairs(node, "annotations"),
            logging: node.at("logging").map(|logging| Logging {
                driver: filled(logging, "driver").unwrap_or_default(),
                options: pairs(logging, "options"),
            }),
            ulimits: ulimits(node),
            sysctls: pairs(node, "sysctls"),
            storage_opt: pairs(node, "storage_opt"),
            stop_signal: filled(node, "stop_signal"),
            stop_grace_period: duration(node, "stop_grace_period"),
            runtime: filled(node, "runtime"),
            profiles: texts(node, "profiles"),
            config: service_config(node),
            ..Service::new(name, "")
        }
    }

    fn security_options(&self, at: &At<'_>) -> Vec<String> {
        let options = at.field("security_opt").and_then(|at| at.items()).unwrap_or_default();
        let option =
            |at: &At<'_>| Some(security::option(&at.node.to_text()?, at, self.dir, self.reading));
        options.iter().filter_map(option).collect()
    }

    /// Secrets or configs of a service.
    fn files(&self, node: &Node, section: &str) -> Vec<FileMount> {
        let defined = self.root.at(section).and_then(Node::as_mapping);
        let file = |node: &Node| {
            let name = filled(node, "source")?;
            let definition = defined?.get(&name)?;
            let content = match filled(definition, "file") {
                Some(path) => Content::File(path),
                None => Content::Text(
                    filled(definition, "content")
                        .or_else(|| filled(definition, CONTENT))
                        .unwrap_or_default(),
                ),
            };
            let target = filled(node, "target").unwrap_or_else(|| format!("/{name}"));
            let target = match (target.starts_with('/'), section) {
                (true, _) => target,
                (false, "secrets") => format!("/run/secrets/{target}"),
                (false, _) => format!("/{target}"),
            };
            let mode = filled(node, "mode").and_then(|mode| u32::from_str_radix(&mode, 8).ok());
            let (uid, gid) = (filled(node, "uid"), filled(node, "gid"));
            Some(FileMount { uid, gid, mode, ..FileMount::new(name, content, target) })
        };
        items(node, section).filter_map(file).collect()
    }

    /// `restart`, or what `deploy.restart_policy` says in its place.
    fn restart(&self, at: &At<'_>) -> Option<RestartPolicy> {
        if let Some(field) = at.field("restart").filter(|at| at.node.as_str() != Some("")) {
            let policy = field.node.as_str().and_then(restart_policy);
            if policy.is_none() {
                field.wrong_kind::<()>("no, always, unless-stopped, on-failure or on-failure:<n>");
            }
            return policy;
        }
        let policy = at.at("deploy.restart_policy")?;
        let max = policy.node.at("max_attempts").and_then(whole);
        let max = max.and_then(|max| u32::try_from(max).ok());
        match text(policy.node, "condition") {
            Some("none") => Some(RestartPolicy::No),
            Some("on-failure") => Some(RestartPolicy::OnFailure { max }),
            None | Some("" | "any" | "unless-stopped") => Some(RestartPolicy::Always),
            Some(_) => {
                let condition = policy.field("condition").unwrap_or(policy);
                condition.wrong_kind("none, on-failure or any")
            }
        }
    }

    /// A network of the project.
    pub(super) fn network(&self, key: &str, node: &Node) -> Network {
        Network {
            driver: filled(node, "driver"),
            driver_opts: pairs(node, "driver_opts"),
            external: is_set(node, "external"),
            internal: is_set(node, "internal"),
            attachable: is_set(node, "attachable"),
            labels: pairs(node, "labels"),
            enable_ipv4: boolean(node, "enable_ipv4"),
            enable_ipv6: boolean(node, "enable_ipv6"),
            ipam: ipam(node),
            config: config(&NETWORK, node),
            name: self.resource_name(key, node),
        }
    }

    /// The name at the engine; an empty one, as a variable may leave it, is none.
    fn resource_name(&self, key: &str, node: &Node) -> String {
        filled(node, "name").unwrap_or_else(|| resource_name(self.project, key))
    }

    /// A volume of the project.
    pub(super) fn volume(&self, key: &str, node: &Node) -> Volume {
        let mut hashed = node.clone();
        if filled(node, "driver").is_none() {
            super::normal::set(&mut hashed, "driver", Value::String("local".to_owned()));
        }
        Volume {
            name: self.resource_name(key, node),
            driver: filled(node, "driver"),
            driver_opts: pairs(node, "driver_opts"),
            external: is_set(node, "external"),
            labels: pairs(node, "labels"),
            config: config(&VOLUME, &hashed),
        }
    }
}

/// The configuration of a service, whose label counts files that it is shown without.
fn service_config(node: &Node) -> Config {
    let config = config(&SERVICE, node);
    if texts(node, "label_file").is_empty() {
        return config;
    }
    let mut hashed = String::new();
    Writer::Labelled.object(&SERVICE, node, &mut hashed);
    config.hashed_as(hashed)
}

/// The configuration as Compose hashes it.
fn config(object: &Object, node: &Node) -> Config {
    let mut json = String::new();
    Writer::Hashed.object(object, node, &mut json);
    Config::new(json)
}

/// A text that is there and not empty.
fn filled(node: &Node, key: &str) -> Option<String> {
    text(node, key).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn is_set(node: &Node, key: &str) -> bool {
    boolean(node, key) == Some(true)
}

fn boolean(node: &Node, key: &str) -> Option<bool> {
    match node.as_mapping()?.get(key)?.value {
        Value::Bool(value) => Some(value),
        _ => None,
    }
}

fn whole(node: &Node) -> Option<i64> {
    match node.value {
        Value::Int(value) => i64::try_from(value).ok(),
        _ => None,
    }
}

fn number(node: &Node, key: &str) -> i64 {
    node.as_mapping().and_then(|node| node.get(key)).and_then(whole).unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, reason = "Compose keeps single precision")]
fn decimal(node: &Node, key: &str) -> f32 {
    match node.as_mapping().and_then(|node| node.get(key)).map(|node| &node.value) {
        Some(Value::Float(value)) => *value as f32,
        _ => 0.0,
    }
}

fn size(node: &Node, key: &str) -> Option<u64> {
    u64::try_from(number(node, key)).ok().filter(|size| *size > 0)
}

fn duration(node: &Node, key: &str) -> Option<Duration> {
    scalars::duration(text(node, key)?)
}

fn items<'a>(node: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> {
    let items = node.as_mapping().and_then(|node| node.get(key)).and_then(Node::as_sequence);
    items.into_iter().flatten()
}

fn texts(node: &Node, key: &str) -> Vec<String> {
    items(node, key).filter_map(Node::to_text).collect()
}

/// Words of a command, where an empty list says something.
fn words(node: &Node, key: &str) -> Option<Vec<String>> {
    let words = node.as_mapping()?.get(key)?.as_sequence()?;
    Some(words.iter().filter_map(Node::to_text).collect())
}

fn pairs(node: &Node, key: &str) -> BTreeMap<String, String> {
    let pairs = node.as_mapping().and_then(|node| node.get(key)).into_iter().flat_map(entries);
    pairs.map(|entry| (entry.key.text.clone(), entry.value.to_text().unwrap_or_default())).collect()
}

fn variables(node: Option<&Node>) -> Environment {
    let pairs = node.into_iter().flat_map(entries);
    pairs.map(|entry| (entry.key.text.clone(), entry.value.to_text())).collect()
}

fn port(node: &Node) -> Port {
    let protocol = match text(node, "protocol") {
        Some("udp") => Protocol::Udp,
        Some("sctp") => Protocol::Sctp,
        _ => Protocol::Tcp,
    };
    Port {
        host_ip: filled(node, "host_ip"),
        published: node.at("published").and_then(Node::to_text).filter(|text| !text.is_empty()),
        target: u16::try_from(number(node, "target")).unwrap_or_default(),
        protocol,
    }
}

fn mount(node: &Node) -> Option<Mount> {
    let kind = text(node, "type")?;
    let empty = node.with(Value::Null);
    let bind = node.at("bind").unwrap_or(&empty);
    let volume = node.at("volume").unwrap_or(&empty);
    let tmpfs = node.at("tmpfs").unwrap_or(&empty);
    let has_options = node.at(kind).is_some();
    let source = match kind {
        "bind" => MountSource::Bind {
            path: filled(node, "source")?,
            // Without any options it is mounted as the short form is.
            create_host_path: node.at("bind").is_none() || is_set(bind, "create_host_path"),
            recursive: filled(bind, "recursive"),
        },
        "tmpfs" => MountSource::Tmpfs {
            size: size(tmpfs, "size"),
            mode: u32::try_from(number(tmpfs, "mode")).ok().filter(|mode| *mode != 0),
        },
        _ => match filled(node, "source") {
            Some(key) => MountSource::Volume { key, subpath: filled(volume, "subpath") },
            None => MountSource::Anonymous,
        },
    };
    let selinux = match text(bind, "selinux") {
        Some("z") => Some(Selinux::Shared),
        Some("Z") => Some(Selinux::Private),
        _ => None,
    };
    Some(Mount {
        read_only: is_set(node, "read_only"),
        selinux,
        propagation: text(bind, "propagation").and_then(Propagation::from_word),
        no_copy: is_set(volume, "nocopy"),
        volume_labels: pairs(volume, "labels"),
        has_options,
        consistency: filled(node, "consistency"),
        ..Mount::new(source, text(node, "target").unwrap_or_default())
    })
}

fn device(node: &Node) -> Device {
    let field = |key: &str| filled(node, key).unwrap_or_default();
    let permissions = filled(node, "permissions").unwrap_or_else(|| "rwm".to_owned());
    Device { source: field("source"), target: field("target"), permissions }
}

/// Whether a device is a name of the Container Device Interface, `vendor/class=device`.
fn is_cdi(device: &Device) -> bool {
    let is_name = |name: &str| {
        let is_part = |part: &str| !part.is_empty() && !part.starts_with('/');
        name.split_once('=').is_some_and(|(kind, device)| {
            is_part(device) && kind.split_once('/').is_some_and(|(v, c)| is_part(v) && is_part(c))
        })
    };
    device.source == device.target && is_name(&device.source)
}

/// The request for the devices of these names, if there are any.
fn by_name(devices: Vec<Device>) -> Option<GpuRequest> {
    let device_ids: Vec<_> = devices.into_iter().map(|device| device.source).collect();
    let driver = Some("cdi".to_owned());
    (!device_ids.is_empty()).then(|| GpuRequest { driver, device_ids, ..GpuRequest::default() })
}

fn reserved(reservations: Option<&Node>) -> Vec<GpuRequest> {
    reservations.into_iter().flat_map(|node| items(node, "devices")).map(gpu_request).collect()
}

/// `gpus`, which get the capability that Compose adds.
fn gpus(node: &Node) -> Vec<GpuRequest> {
    let request = |node: &Node| {
        let mut request = gpu_request(node);
        if !request.capabilities.iter().any(|capability| capability == "gpu") {
            request.capabilities.push("gpu".to_owned());
        }
        request
    };
    items(node, "gpus").map(request).collect()
}

fn gpu_request(node: &Node) -> GpuRequest {
    GpuRequest {
        driver: filled(node, "driver"),
        count: node.at("count").and_then(whole),
        device_ids: texts(node, "device_ids"),
        capabilities: texts(node, "capabilities"),
        options: pairs(node, "options"),
    }
}

fn resources(node: &Node, limits: Option<&Node>, reservations: Option<&Node>) -> Resources {
    let either = |own: i64, of: Option<&Node>, key: &str| match of.map_or(0, |n| number(n, key)) {
        0 => own,
        deployed => deployed,
    };
    let cpus = limits.map_or(0.0, |limits| decimal(limits, "cpus"));
    let present = |key: &str| node.as_mapping().and_then(|node| node.get(key)).and_then(whole);
    let pids = either(number(node, "pids_limit"), limits, "pids");
    Resources {
        cpu_count: number(node, "cpu_count"),
        cpu_percent: decimal(node, "cpu_percent"),
        cpu_period: number(node, "cpu_period"),
        cpu_quota: number(node, "cpu_quota"),
        cpu_rt_period: number(node, "cpu_rt_period"),
        cpu_rt_runtime: number(node, "cpu_rt_runtime"),
        cpu_shares: number(node, "cpu_shares"),
        cpus: if cpus == 0.0 { decimal(node, "cpus") } else { cpus },
        cpuset: filled(node, "cpuset"),
        mem_limit: either(number(node, "mem_limit"), limits, "memory"),
        mem_reservation: either(number(node, "mem_reservation"), reservations, "memory"),
        memswap_limit: number(node, "memswap_limit"),
        mem_swappiness: present("mem_swappiness").filter(|value| *value != 0),
        pids_limit: Some(pids).filter(|pids| *pids != 0),
        oom_kill_disable: is_set(node, "oom_kill_disable"),
        oom_score_adj: number(node, "oom_score_adj"),
    }
}

fn healthcheck(node: &Node) -> Healthcheck {
    Healthcheck {
        test: texts(node, "test"),
        interval: duration(node, "interval"),
        timeout: duration(node, "timeout"),
        retries: node.at("retries").and_then(whole).and_then(|count| u64::try_from(count).ok()),
        start_period: duration(node, "start_period"),
        start_interval: duration(node, "start_interval"),
        disabled: is_set(node, "disable"),
    }
}

fn restart_policy(text: &str) -> Option<RestartPolicy> {
    Some(match text.split_once(':') {
        None => match text {
            "no" => RestartPolicy::No,
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            "on-failure" => RestartPolicy::OnFailure { max: None },
            _ => return None,
        },
        Some(("on-failure", max)) => RestartPolicy::OnFailure { max: Some(max.parse().ok()?) },
        Some(_) => return None,
    })
}

fn depends_on(node: &Node) -> BTreeMap<String, Dependency> {
    let entries = node.at("depends_on").into_iter().flat_map(entries);
    let dependency = |node: &Node| Dependency {
        condition: match text(node, "condition") {
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::CompletedSuccessfully,
            _ => Condition::Started,
        },
        restart: is_set(node, "restart"),
        required: boolean(node, "required") != Some(false),
    };
    entries.map(|entry| (entry.key.text.clone(), dependency(&entry.value))).collect()
}

fn networks(node: &Node) -> BTreeMap<String, Attachment> {
    let entries = node.at("networks").into_iter().flat_map(entries);
    let attachment = |node: &Node| Attachment {
        aliases: texts(node, "aliases"),
        priority: number(node, "priority"),
        gw_priority: number(node, "gw_priority"),
        ipv4_address: filled(node, "ipv4_address"),
        ipv6_address: filled(node, "ipv6_address"),
        link_local_ips: texts(node, "link_local_ips"),
        mac_address: filled(node, "mac_address"),
        interface_name: filled(node, "interface_name"),
        driver_opts: pairs(node, "driver_opts"),
        is_explicit: node.as_mapping().is_some(),
    };
    entries.map(|entry| (entry.key.text.clone(), attachment(&entry.value))).collect()
}

fn hosts(node: &Node) -> BTreeMap<String, Vec<String>> {
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in texts(node, "extra_hosts") {
        let (host, address) = host_parts(&line);
        hosts.entry(host.to_owned()).or_default().push(address.to_owned());
    }
    hosts
}

fn ulimits(node: &Node) -> BTreeMap<String, Ulimit> {
    let entries = node.at("ulimits").into_iter().flat_map(entries);
    let ulimit = |node: &Node| match whole(node) {
        Some(both) => Ulimit::both(both),
        None => Ulimit { soft: number(node, "soft"), hard: number(node, "hard") },
    };
    entries.map(|entry| (entry.key.text.clone(), ulimit(&entry.value))).collect()
}

fn pull_policy(text: &str) -> Option<PullPolicy> {
    const DAY: Duration = Duration::from_secs(86_400);
    Some(match text {
        "always" => PullPolicy::Always,
        "missing" | "if_not_present" => PullPolicy::Missing,
        "never" => PullPolicy::Never,
        "build" => PullPolicy::Build,
        "daily" => PullPolicy::Every(DAY),
        "weekly" => PullPolicy::Every(7 * DAY),
        _ => PullPolicy::Every(scalars::duration(text.strip_prefix("every_")?)?),
    })
}

fn build(node: &Node) -> Build {
    const UNSUPPORTED: [&str; 11] = [
        "additional_contexts",
        "cache_to",
        "entitlements",
        "isolation",
        "privileged",
        "provenance",
        "sbom",
        "secrets",
        "ssh",
        "ulimits",
        "platforms",
    ];
    let is_there = |key: &str| match node.at(key).map(|node| &node.value) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Sequence(items)) if key == "platforms" => items.len() > 1,
        Some(Value::Sequence(items)) => !items.is_empty(),
        Some(Value::Mapping(mapping)) => !mapping.is_empty(),
        Some(_) => true,
    };
    Build {
        context: filled(node, "context").unwrap_or_default(),
        dockerfile: filled(node, "dockerfile").unwrap_or_else(|| "Dockerfile".to_owned()),
        dockerfile_inline: filled(node, "dockerfile_inline"),
        args: variables(node.at("args")),
        target: filled(node, "target"),
        labels: pairs(node, "labels"),
        tags: texts(node, "tags"),
        platforms: texts(node, "platforms"),
        network: filled(node, "network"),
        no_cache: is_set(node, "no_cache"),
        pull: is_set(node, "pull"),
        shm_size: size(node, "shm_size"),
        cache_from: texts(node, "cache_from"),
        extra_hosts: hosts(node),
        unsupported: UNSUPPORTED
            .iter()
            .filter(|key| is_there(key))
            .map(|key| (*key).to_owned())
            .collect(),
    }
}

fn ipam(node: &Node) -> Ipam {
    let Some(ipam) = node.at("ipam") else { return Ipam::default() };
    let pool = |node: &Node| IpamPool {
        subnet: filled(node, "subnet"),
        ip_range: filled(node, "ip_range"),
        gateway: filled(node, "gateway"),
        aux_addresses: pairs(node, "aux_addresses"),
    };
    Ipam {
        driver: filled(ipam, "driver"),
        pools: items(ipam, "config").map(pool).collect(),
        options: BTreeMap::new(),
    }
}
