//! The engines of the simulation, as one nanny sees them.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    BackendError, BackendInfo, BuildProgress, BuildSpec, Capabilities, ContainerBackend,
    ContainerInfo, ContainerSpec, ErrorKind, Event, EventKind, FileInside, ImageInfo, Images,
    LogLine, LogOptions, NetworkInfo, NetworkSpec, Networks, PullProgress, Result, Selector, Stats,
    VolumeInfo, VolumeSpec, Volumes,
};
use tokio::sync::{mpsc, oneshot};

use super::engine::{Op, Reply};
use super::play::Stage;

/// A connection of one nanny to one engine. What it sent arrives even if it was dropped since.
pub(super) struct SimBackend {
    info: BackendInfo,
    capabilities: Capabilities,
    stage: Stage,
    engine: usize,
    epoch: u32,
}

/// So soon a broken connection to a builder is noticed.
const NOTICED: Duration = Duration::from_secs(60);

impl SimBackend {
    pub(super) fn new(stage: Stage, engine: usize, epoch: u32) -> Self {
        let mut capabilities = Capabilities::default();
        capabilities.images = true;
        capabilities.health_checks = true;
        capabilities.gpus = true;
        capabilities.survives_restart = true;
        capabilities.files = true;
        capabilities.builds = true;
        let info = BackendInfo::new(["one", "two"][engine], "");
        Self { info, capabilities, stage, engine, epoch }
    }

    /// Sends a call, and waits for its reply, which may never come.
    async fn call(&self, op: Op) -> Result<Reply> {
        let (reply, replied) = oneshot::channel();
        let number = self.stage.with(|play| play.send(self.epoch, self.engine, op, reply));
        let _waiting = Waiting { stage: self.stage.clone(), number };
        match replied.await {
            Ok(result) => result,
            Err(_) => std::future::pending().await,
        }
    }

    async fn change(&self, op: Op) -> Result<()> {
        self.call(op).await.map(drop)
    }
}

/// Waits for the reply to a call, until it is dropped.
struct Waiting {
    stage: Stage,
    number: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.stage.with(|play| play.forget(self.number));
    }
}

fn unlike(reply: &Reply) -> BackendError {
    BackendError::new(ErrorKind::Other, "simulated", format!("an unfitting reply: {reply:?}"))
}

#[async_trait]
impl ContainerBackend for SimBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn ping(&self) -> Result<()> {
        self.change(Op::Ping).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        match self.call(Op::Create(Box::new(spec.clone()))).await? {
            Reply::Made(id) => Ok(id),
            other => Err(unlike(&other)),
        }
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        self.change(Op::Rename(id.clone(), name.to_owned())).await
    }

    async fn put_files(&self, id: &ContainerId, files: &[FileInside]) -> Result<()> {
        self.change(Op::Fill(id.clone(), files.len())).await
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.change(Op::Start(id.clone())).await
    }

    async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<()> {
        let grace = grace.unwrap_or(Duration::from_secs(10));
        self.change(Op::Stop(id.clone(), grace)).await
    }

    async fn kill(&self, id: &ContainerId) -> Result<()> {
        self.change(Op::Kill(id.clone())).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.change(Op::Remove(id.clone())).await
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo> {
        match self.call(Op::Inspect(id.clone())).await? {
            Reply::Container(info) => Ok(*info),
            other => Err(unlike(&other)),
        }
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<ContainerInfo>> {
        match self.call(Op::List).await? {
            Reply::Containers(mut list) => {
                list.retain(|container| selector.picks(&container.labels));
                Ok(list)
            }
            other => Err(unlike(&other)),
        }
    }

    fn watch(&self) -> BoxStream<'static, Event> {
        let (listener, events) = mpsc::unbounded_channel();
        self.stage.with(|play| play.listen(self.epoch, self.engine, listener));
        let events = stream::unfold(events, |mut events| async {
            events.recv().await.map(|event| (event, events))
        });
        // It never ends: a nanny that has died hears nothing.
        events.chain(stream::pending()).boxed()
    }

    fn logs(&self, _: &ContainerId, _: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        stream::empty().boxed()
    }

    async fn stats(&self, _: &ContainerId) -> Result<Stats> {
        Ok(Stats::default())
    }

    fn images(&self) -> Option<&dyn Images> {
        Some(self)
    }

    fn networks(&self) -> Option<&dyn Networks> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }
}

#[async_trait]
impl Images for SimBackend {
    async fn inspect(&self, reference: &str) -> Result<Option<ImageInfo>> {
        match self.call(Op::Image(reference.to_owned())).await? {
            Reply::Image(here) => Ok(here.then(|| ImageInfo::new(format!("id of {reference}")))),
            other => Err(unlike(&other)),
        }
    }

    async fn pull(
        &self,
        reference: &str,
        _: Option<&str>,
        progress: &(dyn for<'a> Fn(PullProgress) + Send + Sync),
    ) -> Result<()> {
        progress(PullProgress::new(1, 2));
        self.change(Op::Pull(reference.to_owned())).await
    }

    async fn build(
        &self,
        spec: &BuildSpec,
        progress: &(dyn for<'a> Fn(BuildProgress) + Send + Sync),
    ) -> Result<()> {
        progress(BuildProgress::default());
        for tag in &spec.tags {
            // A builder may be silent for long, but a connection that broke is noticed.
            let built = tokio::time::timeout(NOTICED, self.change(Op::Pull(tag.clone()))).await;
            built.unwrap_or_else(|_| Err(super::engine::error(ErrorKind::Unavailable)))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Networks for SimBackend {
    async fn find(&self, name: &str) -> Result<Vec<NetworkInfo>> {
        match self.call(Op::FindNetworks(name.to_owned())).await? {
            Reply::Networks(networks) => Ok(networks),
            other => Err(unlike(&other)),
        }
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<NetworkInfo>> {
        match self.call(Op::ListNetworks).await? {
            Reply::Networks(mut networks) => {
                networks.retain(|network| selector.picks(&network.labels));
                Ok(networks)
            }
            other => Err(unlike(&other)),
        }
    }

    async fn create(&self, spec: &NetworkSpec) -> Result<()> {
        self.change(Op::CreateNetwork(spec.clone())).await
    }

    async fn remove(&self, id: &str) -> Result<()> {
        self.change(Op::RemoveNetwork(id.to_owned())).await
    }
}

#[async_trait]
impl Volumes for SimBackend {
    async fn find(&self, name: &str) -> Result<Option<VolumeInfo>> {
        match self.call(Op::FindVolume(name.to_owned())).await? {
            Reply::Volume(here) => Ok(here.then(|| VolumeInfo::new(name, Default::default()))),
            other => Err(unlike(&other)),
        }
    }

    async fn create(&self, spec: &VolumeSpec) -> Result<()> {
        self.change(Op::CreateVolume(spec.name.clone())).await
    }
}

impl fmt::Debug for SimBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimBackend({}, {})", self.info.name, self.epoch)
    }
}

/// What a listener hears first, and after every outage.
pub(super) fn resync() -> Event {
    Event { kind: EventKind::Resync, container: None }
}
