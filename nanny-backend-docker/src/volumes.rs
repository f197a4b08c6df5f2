//! The engine's named volumes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::VolumeCreateRequest;
use nanny_lib::backend::{ErrorKind, Result, VolumeInfo, VolumeSpec, Volumes};

use crate::backend::LOOK;
use crate::connection::Connection;
use crate::convert::map;

#[derive(Debug, Clone)]
pub(crate) struct DockerVolumes(pub(crate) Arc<Connection>);

const CHANGE: Duration = Duration::from_secs(30);

#[async_trait]
impl Volumes for DockerVolumes {
    async fn find(&self, name: &str) -> Result<Option<VolumeInfo>> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        // A name goes into a path. The engine allows no other characters, so it has no such volume.
        if !name.bytes().all(is_plain) || name.is_empty() || name.starts_with('.') {
            return Ok(None);
        }
        let inspected =
            self.0
                .ask("find volume", name, LOOK, |client| async move {
                    client.inspect_volume(name).await
                })
                .await;
        match inspected {
            Ok(volume) => {
                Ok(Some(VolumeInfo::new(volume.name, volume.labels.into_iter().collect())))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, spec: &VolumeSpec) -> Result<()> {
        let VolumeSpec { name, driver, driver_options, labels } = spec;
        let request = VolumeCreateRequest {
            name: Some(name.clone()),
            driver: driver.clone(),
            driver_opts: map(driver_options),
            labels: map(labels),
            ..VolumeCreateRequest::default()
        };
        self.0
            .ask("create volume", &spec.name, CHANGE, |client| async move {
                client.create_volume(request).await.map(|_| ())
            })
            .await
    }
}
