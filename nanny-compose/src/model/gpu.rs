//! What a service asks of the GPUs.

use std::collections::BTreeMap;

/// One request for devices, from `deploy.resources.reservations.devices` or `gpus`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuRequest {
    /// The driver, such as `nvidia` or `cdi`; the engine's default if absent.
    pub driver: Option<String>,
    /// How many devices, -1 for all. Never together with `device_ids`.
    pub count: Option<i64>,
    /// Which devices, by index or UUID (for `cdi`: by CDI name).
    pub device_ids: Vec<String>,
    /// What the devices must be able to do: `gpu`, `compute`, `utility`, ….
    pub capabilities: Vec<String>,
    /// Options for the driver.
    pub options: BTreeMap<String, String>,
}

impl GpuRequest {
    /// A `count` that stands for all devices.
    pub const ALL: i64 = -1;

    /// A request for so many devices that can do so much.
    pub fn of_count(count: i64) -> Self {
        Self { count: Some(count), ..Self::default() }
    }

    /// Whether all devices are asked for.
    pub fn wants_all(&self) -> bool {
        self.count == Some(Self::ALL)
    }
}
