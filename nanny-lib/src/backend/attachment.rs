//! How a container is reached, and what it reaches.

use std::collections::BTreeMap;

use serde::Serialize;

use super::is_default;

/// One network that a container joins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NetworkAttachment {
    /// The network's name in the engine.
    pub network: String,
    /// Names by which others on that network find it.
    pub aliases: Vec<String>,
    /// Addresses it asks for. To ask for none in particular is not quite the same as not to ask:
    /// engines report the difference.
    #[serde(skip_serializing_if = "is_default")]
    pub addresses: Option<Addresses>,
    /// Its hardware address there.
    #[serde(skip_serializing_if = "is_default")]
    pub mac_address: Option<String>,
    /// What its interface is called inside.
    #[serde(skip_serializing_if = "is_default")]
    pub interface: Option<String>,
    /// The network with the highest one has the default gateway.
    #[serde(skip_serializing_if = "is_default")]
    pub gateway_priority: i64,
    /// Options of the network's driver.
    #[serde(skip_serializing_if = "is_default")]
    pub driver_options: BTreeMap<String, String>,
}

impl NetworkAttachment {
    /// `network`, with these aliases on it.
    #[must_use]
    pub fn new(network: impl Into<String>, aliases: Vec<String>) -> Self {
        Self { network: network.into(), aliases, ..Self::default() }
    }
}

/// Addresses that a container asks for on a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Addresses {
    /// Its IPv4 address; the engine's choice if absent.
    pub ipv4: Option<String>,
    /// Its IPv6 address; the engine's choice if absent.
    pub ipv6: Option<String>,
    /// Further addresses that are valid on the link only.
    pub link_local: Vec<String>,
}

/// How a container looks names up; where it says nothing, as the engine does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<String>,
    /// Options of the resolver.
    pub options: Vec<String>,
    /// Domains to search names in.
    pub search: Vec<String>,
}
