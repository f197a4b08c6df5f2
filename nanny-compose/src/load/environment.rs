//! A service's variables: `environment`, and the `env_file`s beneath it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::at::At;
use super::context::Context;
use super::reading::Reading;
use crate::dotenv;
use crate::model::Environment;

/// One file of `env_file`.
#[derive(Debug)]
pub(super) struct EnvFile<'a> {
    path: PathBuf,
    is_required: bool,
    is_raw: bool,
    at: At<'a>,
}

/// The files of `env_file`, in their order.
pub(super) fn env_files<'a>(at: &At<'a>, context: &Context<'_>) -> Vec<EnvFile<'a>> {
    if at.node.as_str().is_some() {
        return env_file(at.clone(), context).into_iter().collect();
    }
    at.items().into_iter().filter_map(|item| env_file(item, context)).collect()
}

fn env_file<'a>(at: At<'a>, context: &Context<'_>) -> Option<EnvFile<'a>> {
    if at.node.as_mapping().is_none() {
        let path = PathBuf::from(context.resolve_path(&at.word()?, &at)?);
        return Some(EnvFile { path, is_required: true, is_raw: false, at });
    }
    let is_required = at.field("required").and_then(|at| at.boolean()).unwrap_or(true);
    let is_raw = at.field("format").is_some_and(|at| is_raw(&at));
    let Some(at) = at.field("path") else {
        at.problem("'path' is missing");
        return None;
    };
    let path = PathBuf::from(context.resolve_path(&at.word()?, &at)?);
    Some(EnvFile { path, is_required, is_raw, at })
}

fn is_raw(at: &At<'_>) -> bool {
    match at.string().as_deref() {
        Some("raw") => true,
        Some("") | None => false,
        Some(_) => at.wrong_kind::<()>("'raw' or absent").is_some(),
    }
}

/// The whole environment: what `environment` leaves open comes from outside, what it does not
/// name from the files.
pub(super) fn resolve(
    mut own: Environment,
    env_files: &[EnvFile<'_>],
    reading: &Reading<'_>,
) -> Environment {
    for (name, value) in own.values_mut() {
        if value.is_none() {
            *value = reading.variable(name);
        }
    }
    let mut all = Environment::default();
    for file in env_files {
        let known =
            |name: &str| reading.variable(name).or_else(|| own.get(name).map(str::to_owned));
        for (name, value) in variables(file, reading, &known) {
            all.insert(name, Some(value));
        }
    }
    for (name, value) in own.iter() {
        all.insert(name, value.map(str::to_owned));
    }
    all
}

fn variables(
    file: &EnvFile<'_>,
    reading: &Reading<'_>,
    known: &dyn Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let text = match reading.read(&file.path) {
        Ok(text) => text,
        Err(reason) if reason.is_missing && !file.is_required => return BTreeMap::new(),
        Err(reason) => {
            let shown = if file.at.node.secret {
                "the file".to_owned()
            } else {
                format!("the file {}", file.path.display())
            };
            file.at.problem(format!("{shown} cannot be read: {}", reason.message));
            return BTreeMap::new();
        }
    };
    let parse = if file.is_raw { dotenv::parse_raw } else { dotenv::parse };
    let variables = parse(&text, known);
    if !file.at.node.secret {
        return reading.checked(&file.path, variables);
    }
    // A report in the file would show its path, which comes from a variable.
    match variables {
        Ok(variables) => variables.values,
        Err(error) => {
            file.at.problem(format!("the file is not sound: {error}"));
            BTreeMap::new()
        }
    }
}
