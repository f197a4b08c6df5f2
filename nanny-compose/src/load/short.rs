//! Short forms, and the long ones they stand for.

use std::borrow::Cow;

use super::at::At;
use super::mounts::{self, Fields};
use super::ports;
use crate::spec::Short;
use crate::yaml::{Mapping, Node, Value};

/// The long form of a value, which may be written so already; `None` after a report.
pub(super) fn expand<'a>(short: Short, at: &At<'a>) -> Option<Cow<'a, Node>> {
    let text = at.node.as_str();
    let long = match (short, text) {
        (Short::Build, Some(_)) => single("context", at),
        (Short::Mount, Some(text)) => mounts::long_form(text, at)?,
        (Short::Device, Some(text)) => device(text, at)?,
        (Short::Reference, Some(_)) => single("source", at),
        (Short::EnvFile | Short::Include, Some(_)) => single("path", at),
        (Short::Extends, Some(_)) => single("service", at),
        (Short::Gpus, Some("all")) => {
            let mut all = Fields::of(at);
            all.set("count", Value::Int(-1));
            at.node.with(Value::Sequence(vec![all.finish()]))
        }
        (Short::Gpus, Some(_)) => return at.wrong_kind("'all' or a list"),
        (Short::DependsOn | Short::Names, _) if at.node.as_sequence().is_some() => {
            names(short, at)?
        }
        (Short::External, _) if at.node.as_mapping().is_some() => {
            at.warn(
                "'external.name' is an old form; write 'external: true' and a 'name' beside it",
            );
            at.node.with(Value::Bool(true))
        }
        _ => return Some(Cow::Borrowed(at.node)),
    };
    Some(Cow::Owned(long))
}

/// The long forms of a port in the short one: one for each port of a range, of which there may be
/// no more than `most`.
pub(super) fn ports(item: &At<'_>, most: usize) -> Vec<Node> {
    let text = match &item.node.value {
        Value::Mapping(_) => return vec![item.node.clone()],
        Value::String(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        _ => {
            item.wrong_kind::<()>("a port such as 8080:80, or a mapping");
            return Vec::new();
        }
    };
    let ports = match ports::parse(&text) {
        Ok(ports) if ports.len() <= most => ports,
        Ok(_) => {
            item.problem("with this there are too many ports; list fewer");
            return Vec::new();
        }
        Err(reason) => {
            item.problem(format!("{} is not a port: {reason}", item.shown()));
            return Vec::new();
        }
    };
    let long = |port: crate::model::Port| {
        let mut fields = Fields::of(item);
        fields.set("mode", Value::String("ingress".to_owned()));
        if let Some(ip) = port.host_ip {
            fields.set("host_ip", Value::String(ip));
        }
        fields.set("target", Value::Int(port.target.into()));
        if let Some(published) = port.published {
            fields.set("published", Value::String(published));
        }
        fields.set("protocol", Value::String(port.protocol.as_str().to_owned()));
        fields.finish()
    };
    ports.into_iter().map(long).collect()
}

fn single(key: &str, at: &At<'_>) -> Node {
    let mut fields = Fields::of(at);
    fields.set(key, at.node.value.clone());
    fields.finish()
}

fn device(text: &str, at: &At<'_>) -> Option<Node> {
    let parts: Vec<_> = text.split(':').collect();
    let (source, mut target, permissions) = match parts.as_slice() {
        [source] => (*source, *source, "rwm"),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] => (*source, *target, *permissions),
        _ => {
            at.problem(format!("{} is not a device: too many colons", at.shown()));
            return None;
        }
    };
    if target.is_empty() {
        target = source;
    }
    let mut fields = Fields::of(at);
    fields.set("source", Value::String(source.to_owned()));
    fields.set("target", Value::String(target.to_owned()));
    fields.set("permissions", Value::String(permissions.to_owned()));
    Some(fields.finish())
}

/// A list of names as a mapping: to nothing, or to what a dependency is without more words.
fn names(short: Short, at: &At<'_>) -> Option<Node> {
    let mut mapping = Mapping::default();
    for item in at.items()? {
        let name = item.string()?;
        if mapping.get(&name).is_some() {
            item.problem(format!("{} is listed twice; keep one", item.shown()));
            return None;
        }
        let value = if short == Short::DependsOn {
            let mut fields = Fields::of(&item);
            fields.set("condition", Value::String("service_started".to_owned()));
            fields.set("required", Value::Bool(true));
            fields.finish()
        } else {
            item.node.with(Value::Null)
        };
        mapping.insert(item.node.key(name), value);
    }
    Some(at.node.with(Value::Mapping(mapping)))
}
