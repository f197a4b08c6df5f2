//! The engine's networks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{Network, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;
use nanny_lib::backend::{
    BackendError, ErrorKind, NetworkInfo, NetworkSpec, Networks, Result, Selector,
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
        let request = NetworkCreateRequest {
            name: spec.name.clone(),
            driver: spec.driver.clone(),
            internal: Some(spec.internal),
            attachable: Some(spec.attachable),
            enable_ipv6: spec.ipv6,
            options: map(&spec.driver_options),
            labels: map(&spec.labels),
            ..NetworkCreateRequest::default()
        };
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

fn to_info(network: Network) -> Option<NetworkInfo> {
    let labels = network.labels.unwrap_or_default().into_iter().collect();
    Some(NetworkInfo::new(network.id?, network.name?, labels))
}
