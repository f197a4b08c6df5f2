//! What a service takes from other files: variables from `env_file`, labels from `label_file`.

use std::collections::BTreeMap;
use std::path::Path;

use super::at::At;
use super::normal::{child_mut, flag, set, text};
use super::read::entries;
use super::reading::Reading;
use crate::dotenv;
use crate::yaml::{Mapping, Node, Value};

/// Puts the variables of its `env_file`s into a canonical service. What `environment` names stays.
pub(super) fn resolve(service: &mut Node, at: &At<'_>, reading: &Reading<'_>) {
    let own: BTreeMap<String, Option<String>> = service
        .at("environment")
        .into_iter()
        .flat_map(entries)
        .map(|entry| (entry.key.text.clone(), entry.value.to_text()))
        .collect();
    let files = at.field("env_file").and_then(|at| at.items()).unwrap_or_default();
    let mut all = Mapping::default();
    for file in files {
        let earlier = |name: &str| all.get(name).and_then(Node::to_text);
        let known = |name: &str| {
            let own = || own.get(name).cloned().flatten();
            reading.variable(name).or_else(own).or_else(|| earlier(name))
        };
        for (name, value) in variables(&file, reading, &known) {
            let mut value = file.node.with(Value::String(value));
            value.secret = true;
            all.insert(file.node.key(name), value);
        }
    }
    put_beneath(service, "environment", all);
}

fn variables(
    file: &At<'_>,
    reading: &Reading<'_>,
    known: &dyn Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let required = file.node.at("required").is_none() || flag(file.node, "required");
    let Some(path_at) = file.field("path") else { return BTreeMap::new() };
    let parse = match text(file.node, "format") {
        None | Some("") => dotenv::parse,
        Some("raw") => dotenv::parse_raw,
        Some(_) => {
            let format = file.field("format").unwrap_or_else(|| file.clone());
            format.wrong_kind::<()>("'raw' or absent");
            return BTreeMap::new();
        }
    };
    read(&path_at, required, reading, &|text| parse(text, known)).unwrap_or_default()
}

/// Puts the labels of its `label_file`s into a canonical service. What `labels` names stays.
pub(super) fn resolve_labels(service: &mut Node, at: &At<'_>, reading: &Reading<'_>) {
    let files = at.field("label_file").and_then(|at| at.items()).unwrap_or_default();
    let mut all = Mapping::default();
    for file in files {
        // Compose knows no variables in these.
        let labels = read(&file, true, reading, &|text| dotenv::parse(text, &|_| None));
        for (name, value) in labels.unwrap_or_default() {
            all.insert(file.node.key(name), file.node.with(Value::String(value)));
        }
    }
    put_beneath(service, "labels", all);
}

/// Puts values beneath those that a field has: what the field names itself stays.
fn put_beneath(service: &mut Node, field: &str, mut values: Mapping) {
    if values.is_empty() {
        return;
    }
    if let Some(own) = child_mut(service, field).and_then(Node::as_mapping_mut) {
        for entry in std::mem::take(own).into_entries() {
            values.insert(entry.key, entry.value);
        }
    }
    set(service, field, Value::Mapping(values));
}

/// What a file of `KEY=value` lines says; what is wrong with it is reported at the place that
/// names it, or in the file.
fn read(
    at: &At<'_>,
    required: bool,
    reading: &Reading<'_>,
    parse: &dyn Fn(&str) -> Result<dotenv::Variables, dotenv::DotenvError>,
) -> Option<BTreeMap<String, String>> {
    let path = Path::new(at.node.as_str()?);
    let text = match reading.read(path) {
        Ok(text) => text,
        Err(reason) if reason.is_missing && !required => return None,
        Err(reason) => {
            let shown = if at.node.secret {
                "the file".to_owned()
            } else {
                format!("the file {}", path.display())
            };
            at.problem(format!("{shown} cannot be read: {}", reason.message));
            return None;
        }
    };
    let variables = parse(&text);
    if !at.node.secret {
        return Some(reading.checked(path, variables));
    }
    // A report in the file would show its path, which comes from a variable.
    match variables {
        Ok(variables) => Some(variables.values),
        Err(error) => {
            at.problem(format!("the file is not sound: {error}"));
            None
        }
    }
}
