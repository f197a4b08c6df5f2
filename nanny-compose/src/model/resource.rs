//! Networks and volumes.

use std::collections::BTreeMap;

use super::Config;

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
    /// How its addresses are given out.
    pub ipam: Ipam,
    /// The configuration as Compose hashes it.
    pub config: Config,
}

/// How a network's addresses are given out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ipam {
    /// The driver; the engine's default if absent.
    pub driver: Option<String>,
    /// The address ranges.
    pub pools: Vec<IpamPool>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// An address range of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IpamPool {
    /// The range, as CIDR.
    pub subnet: Option<String>,
    /// The part of it that containers get.
    pub ip_range: Option<String>,
    /// The gateway's address.
    pub gateway: Option<String>,
    /// Addresses that others have, by host name.
    pub aux_addresses: BTreeMap<String, String>,
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
    /// The configuration as Compose hashes it, which for a volume names the default driver.
    pub config: Config,
}

impl Network {
    /// A network with the engine's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let config = Config::of_network(&name);
        Self { name, config, ..Self::default() }
    }
}

impl Volume {
    /// A volume with the engine's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        let config = Config::of_volume(&name);
        Self { name, config, ..Self::default() }
    }
}
