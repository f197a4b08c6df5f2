//! Devices and GPUs.

use nanny_lib::backend::{DeviceMapping, ErrorKind, GpuDevices, Result};
use podman_api::models::{LinuxDevice, LinuxDeviceCgroup};

use super::Convert;

/// A qualified name of the Container Device Interface, `vendor/class=device`.
pub(crate) fn is_cdi(name: impl AsRef<str>) -> bool {
    let name = name.as_ref();
    !name.starts_with('/')
        && name
            .split_once('=')
            .is_some_and(|(kind, device)| kind.contains('/') && !device.is_empty())
}

/// Device nodes of the host and CDI devices, which Podman takes in one list.
pub(super) fn devices(devices: &[DeviceMapping], cdi: &[String]) -> Vec<LinuxDevice> {
    let nodes = devices.iter().map(|device| {
        let DeviceMapping { host, container, permissions } = device;
        // Compose files may name a CDI device where a path is expected.
        if is_cdi(host) { host.clone() } else { format!("{host}:{container}:{permissions}") }
    });
    let named = nodes.chain(cdi.iter().cloned());
    let device = |path| LinuxDevice {
        file_mode: None,
        gid: None,
        major: None,
        minor: None,
        path: Some(path),
        type_: None,
        uid: None,
    };
    named.map(device).collect()
}

/// The CDI names of what is asked for.
pub(super) fn gpus(convert: &Convert<'_>, gpus: &[GpuDevices]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for gpu in gpus {
        names.extend(request(convert, gpu)?);
    }
    Ok(names)
}

/// What a GPU of NVIDIA's can be asked to do; a CDI device can do all of it.
const CAPABILITIES: &[&str] = &[
    "gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display", "ngx", "amd",
];

fn request(convert: &Convert<'_>, gpu: &GpuDevices) -> Result<Vec<String>> {
    let GpuDevices { driver, count, device_ids, capabilities, options } = gpu;
    let fail = |kind, message: String| Err(convert.fail(kind, message));
    let lacks =
        |what: String| fail(ErrorKind::Unsupported, format!("{what}: Podman has no such thing"));
    // Without either, it would start without a GPU.
    if count.is_none_or(|count| count == 0) == device_ids.is_empty() {
        let message = "a GPU request names either a count or devices".to_owned();
        return fail(ErrorKind::Invalid, message);
    }
    if let Some(option) = options.keys().next() {
        return lacks(format!("GPU option {option:?}"));
    }
    let unknown = capabilities.iter().find(|name| !CAPABILITIES.contains(&name.as_str()));
    if let Some(unknown) = unknown {
        return lacks(format!("device capability {unknown:?}"));
    }
    let kind = match driver.as_str() {
        "" | "nvidia" => "nvidia.com/gpu",
        "amd" => "amd.com/gpu",
        "cdi" => match device_ids.iter().find(|id| !is_cdi(id)) {
            None if count.is_none() => return Ok(device_ids.clone()),
            _ => {
                let message =
                    "the driver cdi takes qualified names, vendor/class=device".to_owned();
                return fail(ErrorKind::Invalid, message);
            }
        },
        other => return fail(ErrorKind::Unsupported, format!("GPU driver {other:?}")),
    };
    if !device_ids.is_empty() {
        let name = |id: &String| if is_cdi(id) { id.clone() } else { format!("{kind}={id}") };
        return Ok(device_ids.iter().map(name).collect());
    }
    match count {
        Some(count @ 1..=64) => Ok((0..*count).map(|index| format!("{kind}={index}")).collect()),
        Some(-1) => Ok(vec![format!("{kind}=all")]),
        _ => fail(ErrorKind::Invalid, format!("{} GPUs", count.unwrap_or_default())),
    }
}

/// `c 1:3 mr`.
pub(super) fn cgroup_rules(
    convert: &Convert<'_>,
    rules: &[String],
) -> Result<Vec<LinuxDeviceCgroup>> {
    let rule = |rule: &String| {
        let unsound = || {
            let message = format!("device_cgroup_rules: {rule:?} is no rule such as 'c 1:3 mr'");
            convert.fail(ErrorKind::Invalid, message)
        };
        let words: Vec<_> = rule.split_whitespace().collect();
        let [kind @ ("a" | "b" | "c"), numbers, access] = words[..] else {
            return Err(unsound());
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(unsound)?;
        let number = |text: &str| match text {
            // Any.
            "*" => Ok(Some(-1)),
            text => text.parse().map(Some).map_err(|_| unsound()),
        };
        Ok(LinuxDeviceCgroup {
            access: Some(access.to_owned()),
            allow: Some(true),
            major: number(major)?,
            minor: number(minor)?,
            type_: Some(kind.to_owned()),
        })
    };
    rules.iter().map(rule).collect()
}
