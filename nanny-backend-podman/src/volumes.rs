//! The engine's named volumes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nanny_lib::backend::{ErrorKind, Result, VolumeInfo, VolumeSpec, Volumes};
use podman_api::opts::VolumeCreateOpts;

use crate::backend::LOOK;
use crate::connection::Connection;

#[derive(Debug, Clone)]
pub(crate) struct PodmanVolumes(pub(crate) Arc<Connection>);

const CHANGE: Duration = Duration::from_secs(30);

#[async_trait]
impl Volumes for PodmanVolumes {
    async fn find(&self, name: &str) -> Result<Option<VolumeInfo>> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        // A name goes into a path. The engine allows no other characters, so it has no such volume.
        if !name.bytes().all(is_plain) || name.is_empty() || name.starts_with('.') {
            return Ok(None);
        }
        let inspected = self
            .0
            .ask("find volume", name, LOOK, |podman| async move {
                podman.volumes().get(name).inspect().await
            })
            .await;
        match inspected {
            // Podman also finds a volume by the beginning of its name.
            Ok(volume) if volume.name != name => Ok(None),
            Ok(volume) => {
                let labels = volume.labels.into_iter().collect();
                Ok(Some(VolumeInfo::new(name, labels)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, spec: &VolumeSpec) -> Result<()> {
        let VolumeSpec { name, driver, driver_options, labels } = spec;
        let options = VolumeCreateOpts::builder()
            .name(name)
            .driver(driver)
            .options(driver_options)
            .labels(labels)
            .build();
        let created = self
            .0
            .ask("create volume", name, CHANGE, |podman| async move {
                podman.volumes().create(&options).await.map(|_| ())
            })
            .await;
        match created {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }
}
