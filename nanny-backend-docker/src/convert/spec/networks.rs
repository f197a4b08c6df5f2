//! Networks: how many an engine takes at once, and where it keeps hardware addresses, is a matter of
//! its age.

use std::collections::HashMap;

use bollard::models::{EndpointIpamConfig, EndpointSettings};
use nanny_lib::backend::{Addresses, ContainerSpec, ErrorKind, NetworkAttachment, Result};

use super::{Convert, map, some};

/// What a create request says about networks, and what has to follow it.
pub(super) struct Networks {
    /// The network mode: the primary network, unless another mode is asked for.
    pub(super) mode: Option<String>,
    /// The networks of the create request.
    pub(super) first: HashMap<String, EndpointSettings>,
    /// Those to connect after it.
    pub(super) connect: Vec<(String, EndpointSettings)>,
    /// The container's own hardware address, where the engine keeps one.
    pub(super) mac_address: Option<String>,
}

/// From this API on, an engine takes several networks at once, and each has its hardware address.
const SEVERAL: usize = 44;
/// The option of a network driver that names the interface.
const INTERFACE: &str = "com.docker.network.endpoint.ifname";

pub(super) fn networks(convert: &Convert<'_>, spec: &ContainerSpec) -> Result<Networks> {
    let ContainerSpec { network_mode, networks, mac_address, links, .. } = spec;
    if network_mode.is_some() && !networks.is_empty() {
        let message = "network_mode and networks exclude each other";
        return Err(convert.fail(ErrorKind::Invalid, message));
    }
    if let Some(service) = network_mode.as_deref().and_then(|mode| mode.strip_prefix("service:")) {
        let message = format!("network_mode names service {service:?} instead of a container");
        return Err(convert.fail(ErrorKind::Invalid, message));
    }
    let endpoints = networks
        .iter()
        .map(|attachment| Ok((attachment.network.clone(), endpoint(convert, attachment, links)?)));
    let mut endpoints = endpoints.collect::<Result<Vec<_>>>()?;
    let primary = networks.first().map(|attachment| attachment.network.clone());
    let mode = network_mode.clone().or(primary);
    if convert.minor < SEVERAL {
        let connect = endpoints.split_off(endpoints.len().min(1));
        let (first, mac_address) = (endpoints.into_iter().collect(), mac_address.clone());
        return Ok(Networks { mode, first, connect, mac_address });
    }
    if let Some(address) = mac_address {
        place(convert, address, &mut endpoints, mode.as_deref())?;
    }
    let first = endpoints.into_iter().collect();
    Ok(Networks { mode, first, connect: Vec::new(), mac_address: None })
}

/// Gives the primary network the container's own hardware address.
fn place(
    convert: &Convert<'_>,
    address: &str,
    endpoints: &mut Vec<(String, EndpointSettings)>,
    mode: Option<&str>,
) -> Result<()> {
    if endpoints.is_empty() {
        // Even a network mode has an endpoint then; whether it takes an address, the engine says.
        let mode = mode.unwrap_or("default").to_owned();
        endpoints.push((mode, EndpointSettings::default()));
    }
    let primary = &mut endpoints[0].1.mac_address;
    if primary.as_ref().is_some_and(|own| own != address) {
        let message = "mac_address differs from that of the primary network";
        return Err(convert.fail(ErrorKind::Invalid, message));
    }
    *primary = Some(address.to_owned());
    Ok(())
}

fn endpoint(
    convert: &Convert<'_>,
    attachment: &NetworkAttachment,
    links: &[String],
) -> Result<EndpointSettings> {
    let NetworkAttachment {
        network: _,
        aliases,
        addresses,
        mac_address,
        interface,
        gateway_priority,
        driver_options,
    } = attachment;
    convert.needs(SEVERAL, "mac_address of a network", mac_address.is_some())?;
    convert.needs(48, "gw_priority", *gateway_priority != 0)?;
    convert.needs(49, "interface_name", interface.is_some())?;
    let mut driver_options = driver_options.clone();
    if let Some(name) = interface {
        driver_options.insert(INTERFACE.to_owned(), name.clone());
    }
    let of =
        |pick: fn(&Addresses) -> &Option<String>| addresses.as_ref().and_then(|a| pick(a).clone());
    Ok(EndpointSettings {
        aliases: some(aliases.clone()),
        links: some(links.to_vec()),
        ipam_config: addresses.as_ref().map(ipam),
        // Said twice, and the second time oddly, because Compose does and old engines report it.
        ip_address: of(|addresses| &addresses.ipv4),
        ipv6_gateway: of(|addresses| &addresses.ipv6),
        mac_address: mac_address.clone(),
        driver_opts: map(&driver_options),
        gw_priority: Some(*gateway_priority).filter(|priority| *priority != 0),
        ..EndpointSettings::default()
    })
}

fn ipam(addresses: &Addresses) -> EndpointIpamConfig {
    let Addresses { ipv4, ipv6, link_local } = addresses;
    EndpointIpamConfig {
        ipv4_address: ipv4.clone(),
        ipv6_address: ipv6.clone(),
        link_local_ips: some(link_local.clone()),
    }
}
