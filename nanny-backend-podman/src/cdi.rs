//! Which devices the machine's CDI files describe.
//!
//! Podman looks a name up only when it starts a container. Here that is asked before one is made, as
//! far as the files can be read: they may be kept elsewhere, and then Podman has the last word.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use nanny_lib::backend::{BackendError, ErrorKind, Result};
use serde::Deserialize;
use tokio::task::spawn_blocking;

/// Where Podman looks, unless its settings say otherwise.
const DIRECTORIES: &[&str] = &["/etc/cdi", "/var/run/cdi"];
/// No file of a machine's devices is longer, and no machine has more of them.
const MAX_BYTES: u64 = 4 << 20;
const MAX_FILES: usize = 100;
/// So many names are shown.
const SHOWN: usize = 16;

/// Fails if files describe devices of the kind of one of `names`, and not that one.
pub(crate) async fn check(container: &str, names: Vec<String>) -> Result<()> {
    let checked = spawn_blocking(move || {
        let known = known(DIRECTORIES.iter().map(Path::new));
        names.iter().find_map(|name| unknown(name, &known))
    });
    // A panic in there is no reason not to ask Podman.
    match checked.await.ok().flatten() {
        None => Ok(()),
        Some(message) => {
            Err(BackendError::new(ErrorKind::Unsupported, "create", message).on(container))
        }
    }
}

/// What to do about a device of `kind` that no file describes.
pub(crate) fn cure(kind: &str) -> String {
    let (program, file) = match kind {
        "nvidia.com/gpu" => ("nvidia-ctk", "nvidia.yaml"),
        "amd.com/gpu" => ("amd-ctk", "amd.json"),
        _ => return "have its vendor's tool describe it in /etc/cdi".to_owned(),
    };
    format!("`{program} cdi generate --output=/etc/cdi/{file}` describes what there is")
}

/// A CDI file, as far as we care.
#[derive(Deserialize)]
struct Described {
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    name: String,
}

/// All names in the files of `directories`; what cannot be read, or makes no sense, tells none.
fn known<'a>(directories: impl Iterator<Item = &'a Path>) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for directory in directories {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries.flatten().take(MAX_FILES) {
            let path = entry.path();
            let kind = path.extension().and_then(|extension| extension.to_str());
            let described = match kind {
                Some("json" | "yaml") => read(&path).ok(),
                _ => None,
            };
            let Some(Described { kind, devices }) = described else { continue };
            known.extend(devices.iter().map(|device| format!("{kind}={}", device.name)));
        }
    }
    known
}

/// Of YAML, JSON is a part.
fn read(path: &Path) -> io::Result<Described> {
    // A pipe is no file, and would never end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    serde_yaml::from_str(&text).map_err(io::Error::other)
}

/// What to say of `name`, if it is not `known` and others of its kind are.
fn unknown(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let (kind, _) = name.split_once('=')?;
    let of_kind = |other: &&String| other.split_once('=').is_some_and(|(other, _)| other == kind);
    let others: Vec<_> = known.iter().filter(of_kind).map(String::as_str).collect();
    if others.is_empty() || known.contains(name) {
        return None;
    }
    let more = if others.len() > SHOWN { " and more" } else { "" };
    let others = others[..others.len().min(SHOWN)].join(", ");
    let strategy = match kind {
        "nvidia.com/gpu" => ", by UUID with --device-name-strategy=uuid",
        _ => "",
    };
    Some(format!(
        "the CDI files in {} do not describe the device {name}, but {others}{more}; {}{strategy}",
        DIRECTORIES.join(" and "),
        cure(kind)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `nvidia-ctk` lays them out.
    const BY_INDEX: &str = "---
cdiVersion: 0.5.0
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
devices:
- containerEdits:
    deviceNodes: [{path: /dev/nvidia0}]
  name: \"0\"
- containerEdits:
    deviceNodes: [{path: /dev/nvidia0}]
  name: all
kind: nvidia.com/gpu
";

    fn files(files: &[(&str, &str)]) -> BTreeSet<String> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        known([directory.path(), Path::new("/nonexistent")].into_iter())
    }

    #[test]
    fn names_are_read_from_all_files() {
        let vendor = r#"{"kind": "vendor.example/gpu", "devices": [{"name": "x"}]}"#;
        let known = files(&[
            ("nvidia.yaml", BY_INDEX),
            ("vendor.json", vendor),
            ("notes.txt", BY_INDEX),
            ("broken.json", "{"),
            ("empty.yaml", ""),
        ]);
        let wanted = ["nvidia.com/gpu=0", "nvidia.com/gpu=all", "vendor.example/gpu=x"];
        assert_eq!(known.iter().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn a_name_that_files_of_its_kind_lack_is_told_with_the_cure() {
        let known = files(&[("nvidia.yaml", BY_INDEX)]);
        assert_eq!(unknown("nvidia.com/gpu=all", &known), None);
        let told = unknown("nvidia.com/gpu=GPU-1", &known).unwrap();
        assert_eq!(
            told,
            "the CDI files in /etc/cdi and /var/run/cdi do not describe the device \
             nvidia.com/gpu=GPU-1, but nvidia.com/gpu=0, nvidia.com/gpu=all; \
             `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` describes what there is, \
             by UUID with --device-name-strategy=uuid"
        );
    }

    #[test]
    fn of_a_kind_that_no_file_is_about_nothing_is_known() {
        let known = files(&[("nvidia.yaml", BY_INDEX)]);
        assert_eq!(unknown("amd.com/gpu=0", &known), None);
        assert_eq!(unknown("nvidia.com/gpu=0", &files(&[])), None);
    }
}
