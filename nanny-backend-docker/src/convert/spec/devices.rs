//! Devices and GPUs.

use std::collections::HashMap;

use bollard::models::{DeviceMapping as EngineDevice, DeviceRequest};
use nanny_lib::backend::{DeviceMapping, ErrorKind, GpuDevices, Result};

use super::{Convert, some};

pub(super) fn devices(devices: &[DeviceMapping]) -> impl Iterator<Item = EngineDevice> {
    devices.iter().map(|device| {
        let DeviceMapping { host, container, permissions } = device;
        EngineDevice {
            path_on_host: Some(host.clone()),
            path_in_container: Some(container.clone()),
            cgroup_permissions: Some(permissions.clone()),
        }
    })
}

pub(super) fn gpus(convert: &Convert<'_>, gpus: &[GpuDevices]) -> Result<Vec<DeviceRequest>> {
    gpus.iter().map(|gpu| request(convert, gpu)).collect()
}

fn request(convert: &Convert<'_>, gpu: &GpuDevices) -> Result<DeviceRequest> {
    let GpuDevices { driver, count, device_ids, capabilities, options } = gpu;
    // Without either, the engine would start it without a GPU, and say nothing.
    if count.is_none_or(|count| count == 0) == device_ids.is_empty() {
        let message = "a GPU request names either a count or devices";
        return Err(convert.fail(ErrorKind::Invalid, message));
    }
    let options = options.clone().into_iter().collect::<HashMap<_, _>>();
    Ok(DeviceRequest {
        driver: Some(driver.clone()).filter(|driver| !driver.is_empty()),
        count: count.filter(|_| device_ids.is_empty()),
        device_ids: some(device_ids.clone()),
        // One set of capabilities, of several that would do. By name, none is asked for.
        capabilities: some(some(capabilities.clone())),
        options: (!options.is_empty()).then_some(options),
    })
}
