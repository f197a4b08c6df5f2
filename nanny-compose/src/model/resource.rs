//! Networks and volumes.

use std::collections::BTreeMap;

/// A network of the project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Network {
    /// The name at the engine: `<project>_<key>` unless the file says otherwise.
    pub name: String,
    /// The driver; the engine's default if absent.
    pub driver: Option<String>,
    /// Options for the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Whether it must exist already and is never created or removed.
    pub external: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether containers outside the project may attach.
    pub attachable: bool,
    /// The file's own labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it has IPv4 addresses; the engine's default if absent.
    pub enable_ipv4: Option<bool>,
    /// Whether it has IPv6 addresses; the engine's default if absent.
    pub enable_ipv6: Option<bool>,
}

/// A named volume of the project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Volume {
    /// The name at the engine: `<project>_<key>` unless the file says otherwise.
    pub name: String,
    /// The driver; `local` if absent.
    pub driver: Option<String>,
    /// Options for the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Whether it must exist already and is never created or removed.
    pub external: bool,
    /// The file's own labels.
    pub labels: BTreeMap<String, String>,
}

impl Network {
    /// A network with the engine's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

impl Volume {
    /// A volume with the engine's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}
