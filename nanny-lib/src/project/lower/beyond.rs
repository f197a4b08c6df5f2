//! What a file says of a part beyond its container: its image, its files, and whom it goes with.

use nanny_compose::{labels as compose_labels, model};

use super::Lowering;
use crate::backend::{BuildSpec, Environment, FileInside, Labels};
use crate::project::{Join, LateHash, Namespace, Part, PullPolicy};

impl Lowering<'_> {
    /// `part`, with everything that is not its container's.
    pub(super) fn beyond(&mut self, service: &model::Service, part: Part) -> Part {
        let joins = joins(service);
        let shares = !joins.is_empty();
        let late = || LateHash::new(compose_labels::CONFIG_HASH, service.config.hashed_json());
        Part {
            is_wanted: service.is_wanted,
            pull: service.pull_policy.map_or(PullPolicy::Missing, pull_policy),
            build: service.build.as_ref().map(|build| self.build(service, build)),
            files: self.files(service),
            joins,
            late_hash: shares.then(late),
            ..part
        }
    }

    /// An image that is built carries the labels by which Compose knows it.
    fn build(&self, service: &model::Service, build: &model::Build) -> BuildSpec {
        let by_compose = format!("{}-{}", self.compose.name, service.name);
        let known = [
            (compose_labels::PROJECT, self.compose.name.as_str()),
            (compose_labels::SERVICE, service.name.as_str()),
            (compose_labels::VERSION, compose_labels::COMPOSE_VERSION),
        ];
        let known = known.map(|(label, value)| (label.to_owned(), value.to_owned()));
        let args =
            build.args.iter().map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        let hosts = build.extra_hosts.iter().flat_map(|(host, addresses)| {
            addresses.iter().map(move |address| format!("{host}:{address}"))
        });
        let mut unsupported = build.unsupported.clone();
        if build.is_remote() {
            unsupported.push("a context that is no directory of this machine".to_owned());
        }
        BuildSpec {
            tags: [&service.image].into_iter().chain(&build.tags).cloned().collect(),
            is_unnamed: service.image == by_compose,
            dockerfile: build.dockerfile.as_str().into(),
            dockerfile_inline: build.dockerfile_inline.clone(),
            args: Environment(args.collect()),
            target: build.target.clone(),
            labels: build.labels.clone().into_iter().chain(known).collect(),
            platform: service.platform.clone(),
            network: build.network.clone(),
            no_cache: build.no_cache,
            pull: build.pull,
            shm_size: build.shm_size,
            cache_from: build.cache_from.clone(),
            extra_hosts: hosts.collect(),
            unsupported,
            ..BuildSpec::new(&service.image, &build.context)
        }
    }

    /// Secrets and configs whose content is in the file or in a variable. What is empty is left out,
    /// as Compose does.
    fn files(&mut self, service: &model::Service) -> Vec<FileInside> {
        let secrets = service.secrets.iter().map(|file| ("secrets", file));
        let configs = service.configs.iter().map(|file| ("configs", file));
        let mut files = Vec::new();
        for (field, file) in secrets.chain(configs) {
            let model::Content::Text(text) = &file.content else { continue };
            if text.is_empty() {
                continue;
            }
            let field = format!("{field}.{}", file.name);
            if service.read_only {
                let message = "what is not a file of its own cannot be put into a container that \
                               is read-only; keep it in a file";
                self.fault(service, &field, message);
            }
            let mut inside = FileInside::new(&file.target, text.as_bytes());
            inside.mode = file.mode.unwrap_or(inside.mode);
            if file.uid.is_some() || file.gid.is_some() {
                let mut number = |what, id: &Option<String>| {
                    let id = id.as_deref().filter(|id| !id.is_empty());
                    id.map_or(Some(0), |id| {
                        let number = id.parse().ok();
                        if number.is_none() {
                            let message = format!("{what} must be a number");
                            self.fault(service, &format!("{field}.{what}"), &message);
                        }
                        number
                    })
                };
                inside.owner = number("uid", &file.uid).zip(number("gid", &file.gid));
            }
            files.push(inside);
        }
        files
    }
}

/// What tells a network or volume that was made from these files from another of its name.
pub(super) fn expected(labels: &Labels, external: bool) -> Labels {
    if external {
        return Labels::new();
    }
    let telling = [compose_labels::PROJECT, compose_labels::CONFIG_HASH];
    let found = telling.into_iter().filter_map(|label| labels.get_key_value(label));
    found.map(|(label, value)| (label.clone(), value.clone())).collect()
}

fn joins(service: &model::Service) -> Vec<Join> {
    let network = match &service.network_mode {
        Some(model::NetworkMode::Service(name)) => Some(name.as_str()),
        _ => None,
    };
    let of = |mode: &'_ Option<String>| {
        mode.as_deref().and_then(|mode| mode.strip_prefix("service:")).map(str::to_owned)
    };
    let shared = [
        (Namespace::Network, network.map(str::to_owned)),
        (Namespace::Ipc, of(&service.namespaces.ipc)),
        (Namespace::Pid, of(&service.namespaces.pid)),
    ];
    let joins =
        shared.into_iter().filter_map(|(namespace, part)| Some(Join::new(namespace, part?)));
    joins.collect()
}

fn pull_policy(policy: model::PullPolicy) -> PullPolicy {
    match policy {
        model::PullPolicy::Always => PullPolicy::Always,
        model::PullPolicy::Never => PullPolicy::Never,
        model::PullPolicy::Build => PullPolicy::Build,
        _ => PullPolicy::Missing,
    }
}
