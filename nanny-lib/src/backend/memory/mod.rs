//! An engine in memory: honest enough for tests, examples, documentation and dry runs.

mod knobs;
mod resources;
mod streams;
#[cfg(test)]
mod tests;
mod world;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use self::resources::{MemoryImages, MemoryNetworks, MemoryVolumes};
use self::world::World;
use super::{
    BackendError, BackendInfo, Capabilities, ContainerBackend, ContainerInfo, ContainerSpec,
    ErrorKind, Event, FileInside, Images, LogLine, LogOptions, Networks, Result, Selector, Stats,
    Volumes,
};
use crate::name::ContainerId;

/// An engine that runs containers in memory: the whole contract, no process.
///
/// Containers run until they are stopped, unless told otherwise; the engine's own restart
/// policies, port conflicts and grace periods work as in a real one. It knows tokio's clock only,
/// so it can be tested on paused time. It spawns nothing. Clones are handles to the same engine.
///
/// ```
/// use nanny_lib::backend::{ContainerBackend, ContainerSpec, MemoryBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), nanny_lib::backend::BackendError> {
/// let engine = MemoryBackend::new();
/// let id = engine.create(&ContainerSpec::new("web", "example/web:1")).await?;
/// engine.start(&id).await?;
/// assert_eq!(engine.running(), ["web"]);
///
/// engine.exit("web", 1); // It crashes.
/// assert!(engine.running().is_empty());
/// # Ok(())
/// # }
/// ```
///
/// Every image is there, unless [`with_images`](Self::with_images) says otherwise. Networks and
/// volumes that a spec names must have been created, as the contract asks.
#[derive(Clone)]
pub struct MemoryBackend {
    info: BackendInfo,
    capabilities: Capabilities,
    engine: Arc<Engine>,
    images: MemoryImages,
    networks: MemoryNetworks,
    volumes: MemoryVolumes,
}

/// The state that all handles share, and the bell that rings when it changed.
#[derive(Debug)]
struct Engine {
    world: Mutex<World>,
    changed: watch::Sender<()>,
}

impl MemoryBackend {
    /// An engine with no container, called `memory`.
    #[must_use]
    pub fn new() -> Self {
        let engine = Arc::new(Engine {
            world: Mutex::new(World::new(Instant::now(), Timestamp::now())),
            changed: watch::Sender::new(()),
        });
        Self {
            info: BackendInfo::new("memory", "in this process"),
            capabilities: Capabilities {
                images: true,
                separate_stderr: true,
                health_checks: true,
                gpus: true,
                ports: true,
                survives_restart: false,
                restarts: true,
                files: true,
                builds: true,
            },
            images: MemoryImages(Arc::clone(&engine)),
            networks: MemoryNetworks(Arc::clone(&engine)),
            volumes: MemoryVolumes(Arc::clone(&engine)),
            engine,
        }
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("info", &self.info).finish_non_exhaustive()
    }
}

#[async_trait]
impl ContainerBackend for MemoryBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn ping(&self) -> Result<()> {
        self.engine.call("ping", |_, _| Ok(()))
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        if !spec.gpus.is_empty() && !self.capabilities.gpus {
            return Err(
                BackendError::new(ErrorKind::Unsupported, "create", "no GPUs here").on(&spec.name)
            );
        }
        self.engine.call("create", |world, now| world.create(spec, now))
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        self.engine.call("rename", |world, _| world.rename(id, name))
    }

    async fn put_files(&self, id: &ContainerId, files: &[FileInside]) -> Result<()> {
        self.engine.call("put files", |world, _| {
            let container = world.container("put files", id)?;
            let files = files.iter().map(|file| (file.path.clone(), file.clone()));
            container.files.extend(files);
            Ok(())
        })
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        match self.engine.call("start", |world, now| world.begin_start(id, now))? {
            Some(attempt) => {
                self.engine.until("start", |world| world.start_outcome(id, attempt)).await
            }
            None => Ok(()),
        }
    }

    async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<()> {
        match self.engine.call("stop", |world, now| world.begin_stop(id, grace, now))? {
            Some(run) => {
                self.engine.until("stop", |world| world.has_ended(id, run).then_some(Ok(()))).await
            }
            None => Ok(()),
        }
    }

    async fn kill(&self, id: &ContainerId) -> Result<()> {
        self.engine.call("kill", |world, now| world.kill(id, now))
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.engine.call("remove", |world, now| {
            world.remove(id, now);
            Ok(())
        })
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo> {
        self.engine.call("inspect", |world, _| Ok(world.container("inspect", id)?.info.clone()))
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<ContainerInfo>> {
        self.engine.call("list", |world, _| {
            let infos = world.containers.values().map(|container| &container.info);
            Ok(infos.filter(|info| selector.picks(&info.labels)).cloned().collect())
        })
    }

    fn watch(&self) -> BoxStream<'static, Event> {
        streams::watch(Arc::clone(&self.engine))
    }

    fn logs(&self, id: &ContainerId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        streams::logs(Arc::clone(&self.engine), id.clone(), options)
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let takes = self.engine.call("stats", |world, _| Ok(world.behaviour_of(id).stats_take))?;
        tokio::time::sleep(takes).await;
        self.engine.call("stats", |world, now| {
            let began = world.container("stats", id)?.began_run;
            Ok(began.map_or_else(Stats::default, |began| Stats {
                cpu: now.saturating_duration_since(began) / 20,
                memory_bytes: 64 << 20,
                memory_limit_bytes: None,
            }))
        })
    }

    fn images(&self) -> Option<&dyn Images> {
        Some(&self.images)
    }

    fn networks(&self) -> Option<&dyn Networks> {
        Some(&self.networks)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(&self.volumes)
    }
}

impl Engine {
    /// One request to the engine, answered at once.
    fn call<T>(
        &self,
        operation: &'static str,
        request: impl FnOnce(&mut World, Instant) -> Result<T>,
    ) -> Result<T> {
        self.by_hand(|world, now| match world.down {
            true => Err(unavailable(operation)),
            false => request(world, now),
        })
    }

    /// Waits until `answer` has something to say, or the engine goes away.
    async fn until<T>(
        &self,
        operation: &'static str,
        mut answer: impl FnMut(&mut World) -> Option<Result<T>>,
    ) -> Result<T> {
        loop {
            let changed = self.changed.subscribe();
            let due = {
                let mut world = self.settled();
                if world.down {
                    return Err(unavailable(operation));
                }
                if let Some(answer) = answer(&mut world) {
                    return answer;
                }
                world.next_due()
            };
            wait(changed, due).await;
        }
    }

    /// Changes the world past the engine's API, which may be down.
    fn by_hand<T>(&self, change: impl FnOnce(&mut World, Instant) -> T) -> T {
        let answer = change(&mut self.settled(), Instant::now());
        self.changed.send_replace(());
        answer
    }

    fn settled(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle(Instant::now());
        world
    }
}

/// Waits for a change, or for the time when something happens by itself.
async fn wait(mut changed: watch::Receiver<()>, due: Option<Instant>) {
    let due = async {
        match due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // The sender lives in the engine that the waiter holds.
        _ = changed.changed() => {}
        () = due => {}
    }
}

fn unavailable(operation: &'static str) -> BackendError {
    BackendError::new(ErrorKind::Unavailable, operation, "the engine is out of reach")
}
