//! Mounts: the engine takes them in two forms.

use bollard::models::{
    Mount as EngineMount, MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions,
    MountType, MountVolumeOptions,
};
use nanny_lib::backend::{ErrorKind, Mount, MountKind, Recursion, Result};

use super::{Convert, map};

/// Mounts in the form `source:target:options`, in which the engine makes what is missing, and those
/// that need the other form. It is Compose that decides which, and engines report it.
pub(super) fn mounts(
    convert: &Convert<'_>,
    mounts: &[Mount],
) -> Result<(Vec<String>, Vec<EngineMount>)> {
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for mount in mounts {
        match brief(convert, mount)? {
            Some(bind) => short.push(bind),
            None => long.push(full(convert, mount)?),
        }
    }
    Ok((short, long))
}

/// The short form of a mount, if it has one.
fn brief(convert: &Convert<'_>, mount: &Mount) -> Result<Option<String>> {
    let (source, relabel) = match &mount.kind {
        MountKind::Bind {
            source,
            create_source: true,
            propagation: None,
            recursive: Recursion::Enabled,
            selinux,
            consistency: _,
        } => (source, selinux.as_ref()),
        MountKind::Volume { name, no_copy: false, subpath: None }
            if mount.volume_labels.is_empty() =>
        {
            (name, None)
        }
        _ => return Ok(None),
    };
    let target = &mount.target;
    if source.contains(':') || target.contains(':') {
        let message = format!("a mount of {source:?} at {target:?}: ':' in a path");
        return Err(convert.fail(ErrorKind::Unsupported, message));
    }
    let access = if mount.read_only { "ro" } else { "rw" };
    let relabel = relabel.map_or(String::new(), |letter| format!(",{letter}"));
    Ok(Some(format!("{source}:{target}:{access}{relabel}")))
}

fn full(convert: &Convert<'_>, mount: &Mount) -> Result<EngineMount> {
    let Mount { target, read_only, has_options, volume_labels, kind } = mount;
    let plain = EngineMount {
        target: Some(target.clone()),
        read_only: Some(*read_only),
        ..EngineMount::default()
    };
    Ok(match kind {
        MountKind::Bind { source, create_source, propagation, selinux, consistency, recursive } => {
            if selinux.is_some() {
                let message = format!(
                    "SELinux relabelling of {source:?}: not together with propagation or recursion, \
                     nor without creating it"
                );
                return Err(convert.fail(ErrorKind::Unsupported, message));
            }
            let by_default = MountBindOptions::default();
            let options = MountBindOptions {
                propagation: propagation.as_deref().map(|p| spread(convert, p)).transpose()?,
                // Engines before API 1.42 do not know this one, and fail if the source is missing.
                create_mountpoint: create_source.then_some(true),
                ..recursion(convert, *recursive)?
            };
            EngineMount {
                typ: Some(MountType::BIND),
                source: Some(source.clone()),
                consistency: consistency.clone(),
                bind_options: (*has_options || options != by_default).then_some(options),
                ..plain
            }
        }
        MountKind::Volume { name, no_copy, subpath } => {
            convert.needs(45, "volume subpath", subpath.is_some())?;
            EngineMount {
                typ: Some(MountType::VOLUME),
                source: Some(name.clone()),
                volume_options: Some(MountVolumeOptions {
                    no_copy: Some(*no_copy),
                    subpath: subpath.clone(),
                    labels: map(volume_labels),
                    ..MountVolumeOptions::default()
                }),
                ..plain
            }
        }
        MountKind::Anonymous => {
            let labels = map(volume_labels);
            let options = MountVolumeOptions { labels, ..MountVolumeOptions::default() };
            EngineMount {
                typ: Some(MountType::VOLUME),
                volume_options: has_options.then_some(options),
                ..plain
            }
        }
        MountKind::Tmpfs { size, mode } => {
            let options = MountTmpfsOptions {
                size_bytes: convert.signed("tmpfs size", *size)?,
                mode: mode.map(i64::from),
                ..MountTmpfsOptions::default()
            };
            let by_default = MountTmpfsOptions::default();
            EngineMount {
                typ: Some(MountType::TMPFS),
                tmpfs_options: (*has_options || options != by_default).then_some(options),
                ..plain
            }
        }
        other => {
            return Err(convert.fail(ErrorKind::Unsupported, format!("mount {other:?}")));
        }
    })
}

fn spread(convert: &Convert<'_>, word: &str) -> Result<MountBindOptionsPropagationEnum> {
    Ok(match word {
        "private" => MountBindOptionsPropagationEnum::PRIVATE,
        "rprivate" => MountBindOptionsPropagationEnum::RPRIVATE,
        "shared" => MountBindOptionsPropagationEnum::SHARED,
        "rshared" => MountBindOptionsPropagationEnum::RSHARED,
        "slave" => MountBindOptionsPropagationEnum::SLAVE,
        "rslave" => MountBindOptionsPropagationEnum::RSLAVE,
        _ => {
            let message = format!("no mount propagation {word:?}");
            return Err(convert.fail(ErrorKind::Invalid, message));
        }
    })
}

fn recursion(convert: &Convert<'_>, recursive: Recursion) -> Result<MountBindOptions> {
    let mut options = MountBindOptions::default();
    match recursive {
        Recursion::Enabled => return Ok(options),
        Recursion::Disabled => options.non_recursive = Some(true),
        Recursion::Writable => options.read_only_non_recursive = Some(true),
        Recursion::ReadOnly => options.read_only_force_recursive = Some(true),
        other => {
            let message = format!("recursive bind {other:?}");
            return Err(convert.fail(ErrorKind::Unsupported, message));
        }
    }
    convert.needs(44, "recursive bind, writable or readonly", recursive != Recursion::Disabled)?;
    Ok(options)
}
