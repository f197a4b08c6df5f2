//! One service, from its mapping to the model.

use std::collections::BTreeMap;

use super::at::At;
use super::context::Context;
use super::environment::{self, EnvFile};
use super::parts;
use super::{gpus, mounts, ports, words};
use crate::model::{Attachment, Environment, ImageSource, NetworkMode, Service};
use crate::names::built_image_name;

/// A service whose environment is still in parts: the files are read for active services only.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) service: Service,
    pub(super) environment: Environment,
    pub(super) env_files: Vec<EnvFile<'a>>,
    pub(super) at: At<'a>,
}

/// Reads a service; `None` if it is no mapping.
pub(super) fn read<'a>(name: &str, at: At<'a>, context: &Context<'_>) -> Option<Draft<'a>> {
    at.mapping()?;
    let word = |key: &str| at.field(key).and_then(|at| at.word());
    let strings = |key: &str| at.field(key).map(|at| at.unique_strings()).unwrap_or_default();
    let flag = |key: &str| at.field(key).and_then(|at| at.boolean());

    let mut service = Service::new(name, String::new());
    (service.image, service.image_source) = image(name, &at, context);
    service.container_name = at.field("container_name").and_then(|at| parts::container_name(&at));
    service.hostname = word("hostname");
    service.command = at.nullable_field("command").and_then(|at| command(&at));
    service.entrypoint = at.nullable_field("entrypoint").and_then(|at| command(&at));
    service.ports = at.field("ports").map(|at| ports::read(&at)).unwrap_or_default();
    service.expose = at.field("expose").map(|at| parts::expose(&at)).unwrap_or_default();
    service.mounts = at.field("volumes").map(|at| mounts::read(&at, context)).unwrap_or_default();
    service.devices = at.field("devices").map(|at| parts::devices(&at)).unwrap_or_default();
    service.group_add = at.field("group_add").map(|at| at.texts()).unwrap_or_default();
    service.ipc = at.field("ipc").and_then(|at| parts::ipc(&at));
    service.shm_size = at.field("shm_size").and_then(|at| at.bytes());
    service.cap_add = strings("cap_add");
    service.cap_drop = strings("cap_drop");
    service.security_opt = strings("security_opt");
    service.user = word("user");
    service.working_dir = word("working_dir");
    service.tty = flag("tty").unwrap_or(false);
    service.stdin_open = flag("stdin_open").unwrap_or(false);
    service.init = flag("init");
    service.restart = at.field("restart").and_then(|at| parts::restart(&at));
    service.healthcheck = at.field("healthcheck").and_then(|at| parts::healthcheck(&at));
    service.depends_on =
        at.field("depends_on").map(|at| parts::depends_on(&at)).unwrap_or_default();
    service.extra_hosts =
        at.field("extra_hosts").map(|at| parts::extra_hosts(&at)).unwrap_or_default();
    service.labels = at.field("labels").map(|at| at.text_pairs()).unwrap_or_default();
    service.ulimits = at.field("ulimits").map(|at| parts::ulimits(&at)).unwrap_or_default();
    service.stop_signal = word("stop_signal");
    service.stop_grace_period = at.field("stop_grace_period").and_then(|at| at.duration());
    service.runtime = word("runtime");
    let deploy = at.nullable_field("deploy");
    service.has_deploy = deploy.is_some();
    service.reservations = deploy.and_then(|at| gpus::read_deploy(&at));
    service.gpus = at.field("gpus").map(|at| gpus::read_gpus(&at)).unwrap_or_default();
    service.profiles = at.field("profiles").map(|at| at.strings()).unwrap_or_default();
    read_networks(&at, &mut service, context);

    let environment = at.field("environment").map(|at| variables(&at)).unwrap_or_default();
    let env_files =
        at.field("env_file").map(|at| environment::env_files(&at, context)).unwrap_or_default();
    Some(Draft { service, environment, env_files, at })
}

fn image(name: &str, at: &At<'_>, context: &Context<'_>) -> (String, ImageSource) {
    let named = at.field("image").and_then(|at| at.word());
    let is_built = at.nullable_field("build").is_some();
    match (named, is_built) {
        (Some(image), false) => (image, ImageSource::Named),
        (Some(image), true) => (image, ImageSource::Built),
        (None, true) => (built_image_name(context.project, name), ImageSource::BuiltUnnamed),
        (None, false) => {
            // `extends`, which is refused, may bring one; an image that is no string is reported.
            let has_reason = at.field("extends").is_some()
                || at.field("image").is_some_and(|at| at.node.as_str().is_none());
            if context.is_active && !has_reason {
                at.problem_at_key("has no image; add 'image: …'");
            }
            (String::new(), ImageSource::Named)
        }
    }
}

/// A list of words, or a line that is split into words.
fn command(at: &At<'_>) -> Option<Vec<String>> {
    if at.node.as_sequence().is_some() {
        return Some(at.strings());
    }
    let Some(line) = at.node.as_str() else {
        return at.wrong_kind("a string or a list of strings");
    };
    match words::split(line) {
        Ok(split) => {
            if let Some(operator) = split.cut_at {
                at.warn(format!(
                    "Compose reads it only up to '{operator}'; for a shell, write: sh -c '…'"
                ));
            }
            Some(split.words)
        }
        Err(reason) => {
            at.problem(format!("the command {reason}"));
            None
        }
    }
}

fn variables(at: &At<'_>) -> Environment {
    let variables: Environment = at.pairs().into_iter().collect();
    if variables.contains("") {
        at.problem("a variable needs a name before the '='");
    }
    variables
}

fn read_networks(at: &At<'_>, service: &mut Service, context: &Context<'_>) {
    let networks = at.field("networks");
    let mode = at.field("network_mode");
    let joins_some = networks.as_ref().is_some_and(|at| !at.is_empty());
    if let (Some(mode), true) = (&mode, joins_some) {
        mode.problem("'network_mode' and 'networks' exclude each other; keep one of them");
    }
    service.network_mode = mode.as_ref().and_then(network_mode);
    service.networks = networks.map(|at| attachments(&at, context)).unwrap_or_default();
    if mode.as_ref().is_none_or(|at| at.node.as_str() == Some("")) && service.networks.is_empty() {
        context.use_network("default", at);
        service.networks.insert("default".to_owned(), Attachment::default());
    }
    if let (Some(NetworkMode::Host), Some(ports)) = (service.network_mode, at.field("ports")) {
        ports.warn("has no effect with 'network_mode: host': the container uses the host's ports");
    }
}

fn network_mode(at: &At<'_>) -> Option<NetworkMode> {
    match at.word()?.as_str() {
        "host" => Some(NetworkMode::Host),
        "none" => Some(NetworkMode::None),
        "bridge" => Some(NetworkMode::Bridge),
        text if text.starts_with("service:") || text.starts_with("container:") => {
            at.problem(
                "another container's network is not supported yet; use host, none or bridge",
            );
            None
        }
        _ => {
            at.problem(format!("{} is not supported; use host, none or bridge", at.shown()));
            None
        }
    }
}

fn attachments(at: &At<'_>, context: &Context<'_>) -> BTreeMap<String, Attachment> {
    let mut attachments = BTreeMap::new();
    if at.node.as_mapping().is_none() {
        for item in at.items() {
            if let Some(key) = item.string() {
                context.use_network(&key, &item);
                attachments.insert(key, Attachment::default());
            }
        }
        return attachments;
    }
    for (key, value) in at.entries() {
        context.use_network(&key.text, &value);
        let mut attachment = Attachment::default();
        if !value.node.is_null() && value.mapping().is_some() {
            attachment.is_explicit = true;
            let aliases = value.field("aliases").map(|at| at.unique_strings());
            attachment.aliases = aliases.unwrap_or_default();
            let priority = value.field("priority").and_then(|at| at.integer());
            attachment.priority = priority.unwrap_or(0);
        }
        attachments.insert(key.text.clone(), attachment);
    }
    attachments
}
