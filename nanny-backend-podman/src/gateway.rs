//! The host's address, as a container's `extra_hosts` may ask for it.

use std::net::IpAddr;

use nanny_lib::backend::{ContainerSpec, ErrorKind, Result};
use serde::Deserialize;

use crate::backend::LOOK;
use crate::connection::Connection;

/// What stands for the host's address. Podman has had this word since 4.7, and writes it down as it is
/// before.
pub(crate) const WORD: &str = ":host-gateway";
/// Podman's own network, unless its settings call it otherwise.
const USUAL: &str = "podman";

/// By which address a container of `spec` reaches the host, if it asks for that and there is one.
pub(crate) async fn look_up(
    connection: &Connection,
    spec: &ContainerSpec,
) -> Result<Option<IpAddr>> {
    if !spec.extra_hosts.iter().any(|host| host.ends_with(WORD)) {
        return Ok(None);
    }
    let mode = spec.network_mode.as_deref();
    let networks: Vec<&str> = match mode {
        Some("host") => return Ok(Some(IpAddr::from([127, 0, 0, 1]))),
        None if !spec.networks.is_empty() => {
            spec.networks.iter().map(|attachment| attachment.network.as_str()).collect()
        }
        None | Some("bridge" | "default") => vec![USUAL],
        Some("none") => return Ok(None),
        Some(mode) if mode.contains(':') => return Ok(None),
        Some(network) => vec![network],
    };
    let engine: Engine = connection.get("create", &spec.name, LOOK, "/info").await?;
    // The gateways of a user's networks lead to a namespace of Podman's.
    if engine.host.security.rootless {
        return Ok(None);
    }
    // An internal one may have none.
    for name in networks {
        let path = format!("/networks/{}/json", escaped(name));
        match connection.get::<Found>("create", &spec.name, LOOK, &path).await {
            Ok(network) => {
                if let Some(address) = network.gateway() {
                    return Ok(Some(address));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A name goes into a path.
fn escaped(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

#[derive(Debug, Deserialize)]
struct Engine {
    host: Host,
}

#[derive(Debug, Deserialize)]
struct Host {
    security: Security,
}

#[derive(Debug, Deserialize)]
struct Security {
    rootless: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Found {
    subnets: Option<Vec<Subnet>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subnet {
    gateway: Option<IpAddr>,
}

impl Found {
    /// That of IPv4, if there are both.
    fn gateway(&self) -> Option<IpAddr> {
        let subnets = self.subnets.iter().flatten();
        subnets.filter_map(|subnet| subnet.gateway).min_by_key(IpAddr::is_ipv6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_networks_gateway_is_that_of_ipv4_if_there_are_both() {
        let gateway = |text: &str| {
            let network: Found = serde_json::from_str(text).unwrap();
            network.gateway().map(|address| address.to_string())
        };
        let (six, four) = (r#"{"gateway": "fd00::1"}"#, r#"{"gateway": "10.1.0.1"}"#);
        assert_eq!(gateway(&format!(r#"{{"subnets": [{six}, {four}]}}"#)).unwrap(), "10.1.0.1");
        assert_eq!(gateway(&format!(r#"{{"subnets": [{six}]}}"#)).unwrap(), "fd00::1");
        for none in [r#"{"subnets": [{"subnet": "10.1.0.0/24"}]}"#, r#"{"subnets": null}"#, "{}"] {
            assert_eq!(gateway(none), None, "{none}");
        }
    }

    #[test]
    fn a_network_may_be_called_what_a_path_is_not() {
        assert_eq!(escaped("my_net-1.x"), "my_net-1.x");
        assert_eq!(escaped("../a b?"), "..%2Fa%20b%3F");
    }
}
