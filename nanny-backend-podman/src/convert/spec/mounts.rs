//! Mounts and volumes, which Podman takes in two lists.

use std::collections::BTreeMap;

use nanny_lib::backend::{ErrorKind, Mount, MountKind, Recursion, Result};
use podman_api::models::{ContainerMount, NamedVolume};

use super::Convert;

/// What is mounted, in Podman's two lists.
pub(super) struct Mounts {
    pub(super) mounts: Vec<ContainerMount>,
    pub(super) volumes: Vec<NamedVolume>,
}

pub(super) fn mounts(
    convert: &Convert<'_>,
    wanted: &[Mount],
    tmpfs: &BTreeMap<String, String>,
) -> Result<Mounts> {
    let mut sorted = Mounts { mounts: Vec::new(), volumes: Vec::new() };
    for mount in wanted {
        let Mount { target, read_only, has_options: _, volume_labels, kind } = mount;
        convert.cannot("labels of a volume within a mount", !volume_labels.is_empty())?;
        let access = if *read_only { "ro" } else { "rw" };
        let mut options = vec![access.to_owned()];
        match kind {
            MountKind::Bind {
                source,
                // Made before, where we can.
                create_source: _,
                propagation,
                selinux,
                consistency: _,
                recursive,
            } => {
                options.push(recursion(convert, *recursive)?.to_owned());
                options.extend(propagation.clone());
                options.extend(selinux.map(String::from));
                sorted.mounts.push(entry("bind", source, target, options));
            }
            MountKind::Volume { name, no_copy, subpath } => {
                convert.cannot("volume subpath", subpath.is_some())?;
                if *no_copy {
                    options.push("nocopy".to_owned());
                }
                sorted.volumes.push(volume(name, target, options));
            }
            MountKind::Anonymous => sorted.volumes.push(volume("", target, options)),
            MountKind::Tmpfs { size, mode } => {
                options.push("noexec".to_owned());
                options.extend(size.map(|bytes| format!("size={bytes}")));
                options.extend(mode.map(|mode| format!("mode={mode:o}")));
                sorted.mounts.push(entry("tmpfs", "tmpfs", target, options));
            }
            other => {
                return Err(convert.fail(ErrorKind::Unsupported, format!("mount {other:?}")));
            }
        }
    }
    for (target, options) in tmpfs {
        let options = options.split(',').filter(|option| !option.is_empty());
        let mut options: Vec<_> = options.map(str::to_owned).collect();
        // As on Docker, nothing in it runs unless that is asked for.
        if !options.iter().any(|option| matches!(option.as_str(), "exec" | "noexec")) {
            options.push("noexec".to_owned());
        }
        sorted.mounts.push(entry("tmpfs", "tmpfs", target, options));
    }
    Ok(sorted)
}

fn entry(kind: &str, source: &str, target: &str, options: Vec<String>) -> ContainerMount {
    ContainerMount {
        _type: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        destination: Some(target.to_owned()),
        options: Some(options),
        uid_mappings: None,
        gid_mappings: None,
    }
}

fn volume(name: &str, target: &str, options: Vec<String>) -> NamedVolume {
    NamedVolume {
        dest: Some(target.to_owned()),
        is_anonymous: Some(name.is_empty()),
        name: Some(name.to_owned()),
        options: Some(options),
    }
}

fn recursion(convert: &Convert<'_>, recursive: Recursion) -> Result<&'static str> {
    match recursive {
        Recursion::Enabled => Ok("rbind"),
        Recursion::Disabled => Ok("bind"),
        other => {
            let message = format!("recursive bind {other:?}: Podman has no such thing");
            Err(convert.fail(ErrorKind::Unsupported, message))
        }
    }
}
