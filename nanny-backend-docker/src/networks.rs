//! The engine's networks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{Ipam as EngineIpam, IpamConfig, Network, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;
use nanny_lib::backend::{
    AddressPool, BackendError, ErrorKind, Ipam, NetworkInfo, NetworkSpec, Networks, Result,
    Selector,
};
use tokio::sync::Mutex;

use crate::backend::LOOK;
use crate::connection::Connection;
use crate::convert::map;

#[derive(Debug, Clone)]
pub(crate) struct DockerNetworks {
    connection: Arc<Connection>,
    /// Held while one is made: looking and making are two requests.
    making: Arc<Mutex<()>>,
}

const CHANGE: Duration = Duration::from_secs(30);

#[async_trait]
impl Networks for DockerNetworks {
    async fn find(&self, name: &str) -> Result<Vec<NetworkInfo>> {
        Ok(self.named("find network", name).await?.into_iter().filter_map(to_info).collect())
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<NetworkInfo>> {
        let all = self.all("list networks", "", None).await?;
        Ok(all.into_iter().filter_map(to_info).filter(|n| selector.picks(&n.labels)).collect())
    }

    async fn create(&self, spec: &NetworkSpec) -> Result<()> {
        let _making = self.making.lock().await;
        let taken = || {
            let message = "a network of this name exists";
            Err(BackendError::new(ErrorKind::Conflict, "create network", message).on(&spec.name))
        };
        // The engine would make a second one of the same name, and starts would fail then.
        if !self.named("create network", &spec.name).await?.is_empty() {
            return taken();
        }
        let minor = self.connection.api_minor("create network", LOOK).await?;
        let request = to_request(spec, minor)?;
        let created = self
            .connection
            .ask("create network", &spec.name, CHANGE, |client| async move {
                client.create_network(request).await
            })
            .await?;
        // Somebody else may have looked and made at the same time. Which of the two is older says
        // nothing about which was seen: whoever sees both gives way, perhaps both do.
        if self.named("create network", &spec.name).await?.len() == 1 {
            return Ok(());
        }
        self.remove(&created.id).await?;
        taken()
    }

    async fn remove(&self, id: &str) -> Result<()> {
        if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) || id.is_empty() {
            return Ok(()); // No network has such an id.
        }
        let removed =
            self.connection
                .ask("remove network", id, CHANGE, |client| async move {
                    client.remove_network(id).await
                })
                .await;
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl DockerNetworks {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, making: Arc::default() }
    }

    /// Those called exactly `name`: the engine's own filter also finds it within other names.
    async fn named(&self, operation: &'static str, name: &str) -> Result<Vec<Network>> {
        let mut networks = self.all(operation, name, Some(name)).await?;
        networks.retain(|network| network.name.as_deref() == Some(name));
        Ok(networks)
    }

    async fn all(
        &self,
        operation: &'static str,
        subject: &str,
        name: Option<&str>,
    ) -> Result<Vec<Network>> {
        let filters = name.map(|name| HashMap::from([("name".to_owned(), vec![name.to_owned()])]));
        self.connection
            .ask(operation, subject, LOOK, |client| async move {
                client.list_networks(Some(ListNetworksOptions { filters })).await
            })
            .await
    }
}

/// The request for `spec`, for an engine of API 1.`minor`.
fn to_request(spec: &NetworkSpec, minor: usize) -> Result<NetworkCreateRequest> {
    let NetworkSpec {
        name,
        driver,
        driver_options,
        internal,
        attachable,
        ipv4,
        ipv6,
        ipam,
        labels,
    } = spec;
    if *ipv4 == Some(false) && minor < 47 {
        let message =
            format!("a network without IPv4: needs API 1.47, and this engine has 1.{minor}");
        let error = BackendError::new(ErrorKind::Unsupported, "create network", message);
        return Err(error.on(name));
    }
    Ok(NetworkCreateRequest {
        name: name.clone(),
        driver: driver.clone(),
        internal: Some(*internal),
        attachable: Some(*attachable),
        enable_ipv4: *ipv4,
        enable_ipv6: *ipv6,
        ipam: ipam.as_ref().map(to_ipam),
        options: map(driver_options),
        labels: map(labels),
        ..NetworkCreateRequest::default()
    })
}

fn to_ipam(ipam: &Ipam) -> EngineIpam {
    let pools = ipam.pools.iter().map(|pool| {
        let AddressPool { subnet, ip_range, gateway, reserved } = pool;
        IpamConfig {
            subnet: subnet.clone(),
            ip_range: ip_range.clone(),
            gateway: gateway.clone(),
            auxiliary_addresses: map(reserved),
        }
    });
    let pools: Vec<_> = pools.collect();
    let config = (!pools.is_empty()).then_some(pools);
    EngineIpam { driver: ipam.driver.clone(), config, options: None }
}

fn to_info(network: Network) -> Option<NetworkInfo> {
    let labels = network.labels.unwrap_or_default().into_iter().collect();
    Some(NetworkInfo::new(network.id?, network.name?, labels))
}

#[cfg(test)]
mod tests {
    use nanny_lib::backend::Labels;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_network_arrives_with_all_it_asks_for() {
        let map = |key: &str, value: &str| Labels::from([(key.to_owned(), value.to_owned())]);
        let plain = NetworkSpec { name: "n".to_owned(), ..NetworkSpec::default() };
        let request = serde_json::to_value(to_request(&plain, 41).unwrap()).unwrap();
        assert_eq!(request, json!({"Name": "n", "Internal": false, "Attachable": false}));
        let pool = AddressPool {
            subnet: Some("172.28.0.0/16".to_owned()),
            ip_range: Some("172.28.5.0/24".to_owned()),
            gateway: Some("172.28.5.254".to_owned()),
            reserved: map("printer", "172.28.1.5"),
        };
        let full = NetworkSpec {
            name: "n".to_owned(),
            driver: Some("bridge".to_owned()),
            driver_options: map("o", "v"),
            internal: true,
            attachable: true,
            ipv4: Some(true),
            ipv6: Some(false),
            ipam: Some(Ipam { driver: Some("default".to_owned()), pools: vec![pool] }),
            labels: map("l", "v"),
        };
        assert_eq!(
            serde_json::to_value(to_request(&full, 41).unwrap()).unwrap(),
            json!({
                "Name": "n", "Driver": "bridge", "Options": {"o": "v"}, "Internal": true,
                "Attachable": true, "EnableIPv4": true, "EnableIPv6": false, "Labels": {"l": "v"},
                "IPAM": {"Driver": "default", "Config": [{
                    "Subnet": "172.28.0.0/16", "IPRange": "172.28.5.0/24",
                    "Gateway": "172.28.5.254", "AuxiliaryAddresses": {"printer": "172.28.1.5"},
                }]},
            })
        );
    }

    #[test]
    fn a_network_without_ipv4_needs_a_new_engine() {
        let spec = NetworkSpec { ipv4: Some(false), ..NetworkSpec::default() };
        let error = to_request(&spec, 46).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("1.47"), "{error}");
        to_request(&spec, 47).unwrap();
    }
}
