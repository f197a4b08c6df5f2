//! Networks of a container.

use std::collections::BTreeMap;

use nanny_lib::backend::{Addresses, ContainerSpec, ErrorKind, NetworkAttachment, Result};
use podman_api::models::{Namespace, PerNetworkOptions};

use super::{Convert, namespace};

/// What a create request says about networks.
pub(super) struct Networks {
    pub(super) mode: Namespace,
    pub(super) joined: BTreeMap<String, PerNetworkOptions>,
}

/// What Podman calls its default network in a request, whatever its name is.
const DEFAULT: &str = "default";

pub(super) fn networks(convert: &Convert<'_>, spec: &ContainerSpec) -> Result<Networks> {
    let ContainerSpec { network_mode, networks, mac_address, .. } = spec;
    let invalid = |message: String| Err(convert.fail(ErrorKind::Invalid, message));
    if network_mode.is_some() && !networks.is_empty() {
        return invalid("network_mode and networks exclude each other".to_owned());
    }
    let bridge = || namespace("bridge");
    let mut joined = BTreeMap::new();
    let mode = match network_mode.as_deref() {
        None | Some("bridge" | "default") => bridge(),
        Some(mode @ ("host" | "none")) => namespace(mode),
        Some(mode) if mode.starts_with("container:") => namespace(mode),
        Some(mode) if mode.contains(':') => {
            return invalid(format!("network_mode {mode:?} names no container"));
        }
        Some(network) => {
            joined.insert(
                network.to_owned(),
                endpoint(convert, &NetworkAttachment::default(), None)?,
            );
            bridge()
        }
    };
    // Podman joins them in any order; their interfaces are in ours.
    let taken = |name: &str| networks.iter().any(|n| n.interface.as_deref() == Some(name));
    let mut free = (0..).map(|n| format!("eth{n}")).filter(|name| !taken(name));
    for attachment in networks {
        let interface = attachment.interface.clone().or_else(|| free.next());
        joined.insert(attachment.network.clone(), endpoint(convert, attachment, interface)?);
    }
    if let Some(address) = mac_address {
        if mode.nsmode.as_deref() != Some("bridge") {
            return invalid("mac_address: there is no network of its own".to_owned());
        }
        let primary = networks.first().map(|attachment| attachment.network.clone());
        let primary = primary.or_else(|| joined.keys().next().cloned());
        let primary = primary.unwrap_or_else(|| DEFAULT.to_owned());
        let plain = endpoint(convert, &NetworkAttachment::default(), None)?;
        let own = &mut joined.entry(primary).or_insert(plain).static_mac;
        if own.as_ref().is_some_and(|own| own != address) {
            return invalid("mac_address differs from that of the primary network".to_owned());
        }
        *own = Some(address.clone());
    }
    Ok(Networks { mode, joined })
}

fn endpoint(
    convert: &Convert<'_>,
    attachment: &NetworkAttachment,
    interface_name: Option<String>,
) -> Result<PerNetworkOptions> {
    let NetworkAttachment {
        network: _,
        aliases,
        addresses,
        mac_address,
        interface: _,
        gateway_priority,
        driver_options,
    } = attachment;
    convert.cannot("gw_priority", *gateway_priority != 0)?;
    convert.cannot("driver_opts of a network", !driver_options.is_empty())?;
    let Addresses { ipv4, ipv6, link_local } = addresses.clone().unwrap_or_default();
    convert.cannot("link_local_ips", !link_local.is_empty())?;
    let static_ips: Vec<_> = ipv4.into_iter().chain(ipv6).collect();
    Ok(PerNetworkOptions {
        aliases: (!aliases.is_empty()).then(|| aliases.clone()),
        interface_name,
        static_ips: (!static_ips.is_empty()).then_some(static_ips),
        static_mac: mac_address.clone(),
    })
}
