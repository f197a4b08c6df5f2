//! The engine's networks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nanny_lib::backend::{
    AddressPool, BackendError, ErrorKind, Ipam, NetworkInfo, NetworkSpec, Networks, Result,
    Selector,
};
use podman_api::models::{LeaseRange, Network, Subnet};
use podman_api::opts::{NetworkCreateOpts, NetworkListFilter, NetworkListOpts};
use tokio::time::sleep;

use crate::backend::{LOOK, SOON};
use crate::connection::Connection;
use crate::error::is_passing;

#[derive(Debug, Clone)]
pub(crate) struct PodmanNetworks(pub(crate) Arc<Connection>);

const CHANGE: Duration = Duration::from_secs(30);
/// So often a create is tried.
const MOST_CREATES: u32 = 10;

#[async_trait]
impl Networks for PodmanNetworks {
    async fn find(&self, name: &str) -> Result<Vec<NetworkInfo>> {
        let mut found = self.all("find network", name, Some(name)).await?;
        // The engine's own filter also finds it within other names.
        found.retain(|network| network.name == name);
        Ok(found)
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<NetworkInfo>> {
        let mut all = self.all("list networks", "", None).await?;
        all.retain(|network| selector.picks(&network.labels));
        Ok(all)
    }

    async fn create(&self, spec: &NetworkSpec) -> Result<()> {
        let options = &to_options(spec)?;
        let create = || {
            self.0.ask("create network", &spec.name, CHANGE, |podman| async move {
                podman.networks().create(options).await.map(|_| ())
            })
        };
        for _ in 1..MOST_CREATES {
            match create().await {
                Err(error) if is_passing(&error) => sleep(SOON).await,
                created => return created,
            }
        }
        create().await
    }

    async fn remove(&self, id: &str) -> Result<()> {
        // By its identifier, Podman would remove one that is in use.
        let all = self.all("remove network", id, None).await?;
        let Some(network) = all.into_iter().find(|network| network.id == id) else {
            return Ok(());
        };
        let removed = self
            .0
            .ask("remove network", id, CHANGE, |podman| async move {
                podman.networks().get(network.name).delete().await.map(|_| ())
            })
            .await;
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl PodmanNetworks {
    async fn all(
        &self,
        operation: &'static str,
        subject: &str,
        name: Option<&str>,
    ) -> Result<Vec<NetworkInfo>> {
        let filter = name.map(|name| NetworkListFilter::Name(name.to_owned()));
        let options = NetworkListOpts::builder().filter(filter).build();
        let networks = self
            .0
            .ask(operation, subject, LOOK, |podman| async move {
                podman.networks().list(&options).await
            })
            .await?;
        Ok(networks.into_iter().filter_map(to_info).collect())
    }
}

fn to_info(network: Network) -> Option<NetworkInfo> {
    let labels = network.labels.unwrap_or_default().into_iter().collect();
    Some(NetworkInfo::new(network.id?, network.name?, labels))
}

/// What Compose files call options of Docker's bridge, and Podman calls otherwise.
const MTU: &str = "com.docker.network.driver.mtu";
const INTERFACE: &str = "com.docker.network.bridge.name";

fn to_options(spec: &NetworkSpec) -> Result<NetworkCreateOpts> {
    let NetworkSpec {
        name,
        driver,
        driver_options,
        internal,
        // Any container may join any network.
        attachable: _,
        ipv4,
        ipv6,
        ipam,
        labels,
    } = spec;
    let fail =
        |kind, message: &str| Err(BackendError::new(kind, "create network", message).on(name));
    if *ipv4 == Some(false) {
        return fail(ErrorKind::Unsupported, "a network without IPv4: Podman has no such thing");
    }
    let mut options = driver_options.clone();
    if let Some(mtu) = options.remove(MTU) {
        options.insert("mtu".to_owned(), mtu);
    }
    let interface = options.remove(INTERFACE);
    let mut body = NetworkCreateOpts::builder()
        .name(name)
        .driver(driver.as_deref().unwrap_or("bridge"))
        .internal(*internal)
        .dns_enabled(true)
        .ipv6_enabled(*ipv6 == Some(true))
        .options(options)
        .labels(labels);
    if let Some(interface) = interface {
        body = body.network_interface(interface);
    }
    let Some(Ipam { driver, pools }) = ipam else {
        return Ok(body.build());
    };
    if let Some(driver) = driver.as_deref().filter(|driver| *driver != "default") {
        body = body.ipam_options(BTreeMap::from([("driver", driver)]));
    }
    let mut subnets = Vec::new();
    for AddressPool { subnet, ip_range, gateway, reserved } in pools {
        if !reserved.is_empty() {
            return fail(ErrorKind::Unsupported, "aux_addresses: Podman has no such thing");
        }
        let Some(subnet) = subnet else {
            if ip_range.is_some() || gateway.is_some() {
                return fail(ErrorKind::Invalid, "ip_range and gateway need a subnet");
            }
            continue;
        };
        let lease_range = match ip_range.as_deref().map(|range| (range, ends(range))) {
            None => None,
            Some((_, Some((first, last)))) => Some(LeaseRange {
                start_ip: Some(first.to_string()),
                end_ip: Some(last.to_string()),
            }),
            Some((range, None)) => {
                return fail(ErrorKind::Invalid, &format!("ip_range: {range:?} is no range"));
            }
        };
        subnets.push(Subnet {
            subnet: Some(subnet.clone()),
            gateway: gateway.clone(),
            lease_range,
        });
    }
    Ok(body.subnets(subnets).build())
}

/// The first and the last address of `10.0.5.0/24`.
fn ends(range: &str) -> Option<(IpAddr, IpAddr)> {
    let (address, length) = range.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(address) => {
            let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
            let first = address.to_bits() & !hosts;
            let (first, last) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first | hosts));
            (length <= 32).then_some((first.into(), last.into()))
        }
        IpAddr::V6(address) => {
            let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
            let first = address.to_bits() & !hosts;
            let (first, last) = (Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(first | hosts));
            (length <= 128).then_some((first.into(), last.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use nanny_lib::backend::Labels;
    use serde_json::{Value, json};

    use super::*;
    use crate::config::PodmanConfig;

    // Podman 4.3.1, on a machine whose other containers come and go.
    #[tokio::test]
    async fn a_network_is_made_though_an_interface_goes_meanwhile() {
        const FAILED: &str = r#"{"cause":"no such network interface","message":"route ip+net: no such network interface","response":500}"#;
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("podman.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let engine = thread::spawn(move || {
            for (status, body) in [(500, FAILED), (500, FAILED), (200, r#"{"name":"x"}"#)] {
                let (mut client, _) = listener.accept().unwrap();
                let mut request = String::new();
                while !request.ends_with('}') {
                    let mut piece = [0; 4096];
                    let read = client.read(&mut piece).unwrap();
                    request += str::from_utf8(&piece[..read]).unwrap();
                }
                assert!(request.contains("/networks/create"), "{request}");
                let length = body.len();
                let head = format!("content-length: {length}\r\nconnection: close\r\n\r\n");
                write!(client, "HTTP/1.1 {status} So\r\n{head}{body}").unwrap();
            }
        });
        let config = PodmanConfig::new(format!("unix://{}", socket.display()));
        let networks = PodmanNetworks(Arc::new(Connection::new(&config).unwrap()));
        let spec = NetworkSpec { name: "x".to_owned(), ..NetworkSpec::default() };
        networks.create(&spec).await.unwrap();
        engine.join().unwrap();
    }

    fn body(spec: &NetworkSpec) -> Value {
        serde_json::from_str(&to_options(spec).unwrap().serialize().unwrap()).unwrap()
    }

    #[test]
    fn a_network_arrives_with_all_it_asks_for() {
        let map = |key: &str, value: &str| Labels::from([(key.to_owned(), value.to_owned())]);
        let plain = NetworkSpec { name: "n".to_owned(), ..NetworkSpec::default() };
        let defaults = json!({
            "name": "n", "driver": "bridge", "internal": false, "dns_enabled": true,
            "ipv6_enabled": false, "options": {}, "labels": {},
        });
        assert_eq!(body(&plain), defaults);
        let pool = AddressPool {
            subnet: Some("172.28.0.0/16".to_owned()),
            ip_range: Some("172.28.5.0/24".to_owned()),
            gateway: Some("172.28.5.254".to_owned()),
            reserved: Labels::new(),
        };
        let mut driver_options = map(MTU, "1400");
        driver_options.extend(map(INTERFACE, "br7"));
        let full = NetworkSpec {
            name: "n".to_owned(),
            driver: Some("macvlan".to_owned()),
            driver_options,
            internal: true,
            attachable: true,
            ipv4: Some(true),
            ipv6: Some(true),
            ipam: Some(Ipam { driver: Some("dhcp".to_owned()), pools: vec![pool] }),
            labels: map("l", "v"),
        };
        let wanted = json!({
            "name": "n", "driver": "macvlan", "internal": true, "dns_enabled": true,
            "ipv6_enabled": true, "options": {"mtu": "1400"}, "network_interface": "br7",
            "labels": {"l": "v"}, "ipam_options": {"driver": "dhcp"},
            "subnets": [{
                "subnet": "172.28.0.0/16", "gateway": "172.28.5.254",
                "lease_range": {"start_ip": "172.28.5.0", "end_ip": "172.28.5.255"},
            }],
        });
        assert_eq!(body(&full), wanted);
    }

    #[test]
    fn what_podman_has_not_is_refused_by_name() {
        let kind = |spec: &NetworkSpec| to_options(spec).map(|_| ()).unwrap_err().kind();
        let without = NetworkSpec { ipv4: Some(false), ..NetworkSpec::default() };
        assert_eq!(kind(&without), ErrorKind::Unsupported);
        let with_pool = |pool| NetworkSpec {
            ipam: Some(Ipam { driver: None, pools: vec![pool] }),
            ..NetworkSpec::default()
        };
        let reserved = Labels::from([("printer".to_owned(), "10.0.0.5".to_owned())]);
        let pool = AddressPool { reserved, ..AddressPool::default() };
        assert_eq!(kind(&with_pool(pool)), ErrorKind::Unsupported);
        let gateway = Some("10.0.0.1".to_owned());
        let pool = AddressPool { gateway, ..AddressPool::default() };
        assert_eq!(kind(&with_pool(pool)), ErrorKind::Invalid);
    }

    #[test]
    fn a_range_has_two_ends() {
        let ends = |range: &str| ends(range).map(|(a, b)| (a.to_string(), b.to_string()));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(ends("10.1.2.3/24"), pair("10.1.2.0", "10.1.2.255"));
        assert_eq!(ends("10.1.2.3/32"), pair("10.1.2.3", "10.1.2.3"));
        assert_eq!(ends("0.0.0.0/0"), pair("0.0.0.0", "255.255.255.255"));
        assert_eq!(ends("fd00::/126"), pair("fd00::", "fd00::3"));
        for wrong in ["10.1.2.3", "10.1.2.3/33", "fd00::/129", "x/8", ""] {
            assert_eq!(ends(wrong), None, "{wrong}");
        }
    }
}
