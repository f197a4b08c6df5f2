//! Images, networks and volumes of the engine in memory.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::Engine;
use crate::backend::{
    BackendError, BuildProgress, BuildSpec, ContainerState, ErrorKind, ImageInfo, Images,
    NetworkInfo, NetworkSpec, Networks, PullProgress, Result, Selector, VolumeInfo, VolumeSpec,
    Volumes,
};

#[derive(Debug, Clone)]
pub(super) struct MemoryImages(pub(super) Arc<Engine>);

#[derive(Debug, Clone)]
pub(super) struct MemoryNetworks(pub(super) Arc<Engine>);

#[derive(Debug, Clone)]
pub(super) struct MemoryVolumes(pub(super) Arc<Engine>);

#[async_trait]
impl Images for MemoryImages {
    async fn inspect(&self, reference: &str) -> Result<Option<ImageInfo>> {
        self.0.call("inspect image", |world, _| {
            let is_here = world.images.as_ref().is_none_or(|images| images.contains(reference));
            Ok(is_here.then(|| ImageInfo::new(content_id(reference))))
        })
    }

    async fn pull(
        &self,
        reference: &str,
        _: Option<&str>,
        progress: &(dyn for<'a> Fn(PullProgress) + Send + Sync),
    ) -> Result<()> {
        const STEPS: u32 = 4;
        const STEP_BYTES: u64 = 25 << 20;
        let takes = self.0.call("pull", |world, _| {
            if world.registry.as_ref().is_none_or(|images| images.contains(reference)) {
                return Ok(world.pull_takes);
            }
            let message = "the registry has no such image";
            Err(BackendError::new(ErrorKind::NotFound, "pull", message).on(reference))
        })?;
        for step in 0..=STEPS {
            if step > 0 {
                tokio::time::sleep(takes / STEPS).await;
            }
            self.0.call("pull", |_, _| Ok(()))?;
            progress(PullProgress::new(
                u64::from(step) * STEP_BYTES,
                u64::from(STEPS) * STEP_BYTES,
            ));
        }
        self.0.call("pull", |world, _| {
            world.pulls.push(reference.to_owned());
            world.images.iter_mut().for_each(|images| {
                images.insert(reference.to_owned());
            });
            Ok(())
        })
    }

    async fn build(
        &self,
        spec: &BuildSpec,
        progress: &(dyn for<'a> Fn(BuildProgress) + Send + Sync),
    ) -> Result<()> {
        let takes = self.0.call("build", |world, _| Ok(world.pull_takes))?;
        progress(BuildProgress::new(0, 1));
        tokio::time::sleep(takes).await;
        self.0.call("build", |world, _| {
            world.builds.push(spec.clone());
            if let Some(images) = &mut world.images {
                images.extend(spec.tags.iter().cloned());
            }
            Ok(())
        })
    }
}

#[async_trait]
impl Networks for MemoryNetworks {
    async fn find(&self, name: &str) -> Result<Vec<NetworkInfo>> {
        self.0.call("find network", |world, _| {
            Ok(world.networks.get(name).cloned().into_iter().collect())
        })
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<NetworkInfo>> {
        self.0.call("list networks", |world, _| {
            let picked = world.networks.values().filter(|network| selector.picks(&network.labels));
            Ok(picked.cloned().collect())
        })
    }

    async fn create(&self, spec: &NetworkSpec) -> Result<()> {
        self.0.call("create network", |world, _| {
            if world.networks.contains_key(&spec.name) {
                let message = "the name is in use";
                return Err(BackendError::new(ErrorKind::Conflict, "create network", message)
                    .on(&spec.name));
            }
            let network = NetworkInfo::new(content_id(&spec.name), &spec.name, spec.labels.clone());
            world.networks.insert(spec.name.clone(), network);
            Ok(())
        })
    }

    async fn remove(&self, id: &str) -> Result<()> {
        self.0.call("remove network", |world, _| {
            let Some(name) = world.networks.values().find(|n| n.id == id).map(|n| n.name.clone())
            else {
                return Ok(());
            };
            // As in an engine, only what runs holds a network.
            let in_use: BTreeSet<_> = (world.containers.values())
                .filter(|container| {
                    let state = container.info.state;
                    state.holds() && state != ContainerState::Restarting
                })
                .flat_map(|container| &container.spec.networks)
                .map(|attachment| attachment.network.as_str())
                .collect();
            if in_use.contains(name.as_str()) {
                let message = "the network has active endpoints";
                return Err(
                    BackendError::new(ErrorKind::Conflict, "remove network", message).on(name)
                );
            }
            world.networks.remove(&name);
            Ok(())
        })
    }
}

#[async_trait]
impl Volumes for MemoryVolumes {
    async fn find(&self, name: &str) -> Result<Option<VolumeInfo>> {
        self.0.call("find volume", |world, _| Ok(world.volumes.get(name).cloned()))
    }

    async fn create(&self, spec: &VolumeSpec) -> Result<()> {
        self.0.call("create volume", |world, _| {
            let volume = VolumeInfo::new(&spec.name, spec.labels.clone());
            world.volumes.entry(spec.name.clone()).or_insert(volume);
            Ok(())
        })
    }
}

fn content_id(of: &str) -> String {
    Sha256::digest(of).iter().fold("sha256:".to_owned(), |mut id, byte| {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
        id
    })
}
