//! The projects of others.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::theirs;

/// All Compose files beneath `folder`, each with a name for its test.
pub(crate) fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in
            fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display()))
        {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if is_compose(&path) {
                let name = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
                found.push((name, path));
            }
        }
    }
    found.sort();
    found
}

fn is_compose(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.contains("compose") && (name.ends_with(".yml") || name.ends_with(".yaml"))
}

/// Writes the project of `file` to `directory`, as Compose resolves it, so that it can be created
/// here: with an image that is there, and without what would meet others of the same name.
pub(crate) fn adopt(file: &Path, directory: &Path, project: &str) -> Result<(), String> {
    let at = file.display().to_string();
    let folder = file.parent().ok_or("it has no folder")?;
    let arguments = ["-f", &at, "--profile", "*", "config", "--format", "json"];
    let resolved = theirs::compose(folder, &arguments)?;
    let start = resolved.find('{').ok_or("no configuration")?;
    let mut values = serde_json::Deserializer::from_str(&resolved[start..]).into_iter::<Value>();
    let mut config = values.next().ok_or("none")?.map_err(|error| error.to_string())?;
    if config["services"].as_object().is_none_or(serde_json::Map::is_empty) {
        return Err("it has no services".to_owned());
    }
    let own = config["name"].as_str().unwrap_or_default().to_owned();
    config.as_object_mut().ok_or("no mapping")?.remove("name");
    for (key, service) in objects(&mut config, "services") {
        service.insert("image".to_owned(), json!(theirs::IMAGE));
        for key in ["build", "platform", "runtime", "pull_policy", "profiles"] {
            service.remove(key);
        }
        if let Some(name) = service.get_mut("container_name") {
            *name = json!(format!("{project}-{key}"));
        }
    }
    for kind in ["networks", "volumes"] {
        for (_, resource) in objects(&mut config, kind) {
            // The name that it has by default, or one of its own that must not be anybody else's.
            let name = resource.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            resource.remove("external");
            let key = name.strip_prefix(&format!("{own}_")).unwrap_or(&name);
            resource.insert("name".to_owned(), json!(format!("{project}_{key}")));
        }
    }
    fs::write(directory.join("compose.yaml"), config.to_string()).map_err(|error| error.to_string())
}

fn objects<'a>(
    config: &'a mut Value,
    section: &str,
) -> impl Iterator<Item = (&'a String, &'a mut serde_json::Map<String, Value>)> {
    let section = config.get_mut(section).and_then(Value::as_object_mut);
    section.into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_object_mut()?)))
}
