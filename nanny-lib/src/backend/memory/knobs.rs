//! What a test or an example does behind the engine's back.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::MemoryBackend;
use crate::backend::{
    BackendError, BuildSpec, Capabilities, ContainerSpec, ContainerState, EngineHealth, Exit,
    FileInside, LogStream,
};
use crate::name::ContainerId;

/// How the engine is set up.
impl MemoryBackend {
    /// Gives the backend another name than `memory`, for tests with several.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.info.name = name.into();
        self
    }

    /// Claims other capabilities. Without `gpus`, specs that ask for one are refused.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Has only these images; others have to be pulled.
    #[must_use]
    pub fn with_images(self, images: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let images = images.into_iter().map(Into::into).collect();
        self.engine.by_hand(|world, _| world.images = Some(images));
        self
    }

    /// Only these images can be pulled; other pulls fail with
    /// [`NotFound`](crate::backend::ErrorKind::NotFound).
    #[must_use]
    pub fn with_registry(self, images: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let images = images.into_iter().map(Into::into).collect();
        self.engine.by_hand(|world, _| world.registry = Some(images));
        self
    }

    /// How long a pull takes; no time by default.
    #[must_use]
    pub fn with_pull_time(self, takes: Duration) -> Self {
        self.engine.by_hand(|world, _| world.pull_takes = takes);
        self
    }

    /// How long starts take, of containers that have no time of their own; no time by default.
    #[must_use]
    pub fn with_start_time(self, takes: Duration) -> Self {
        self.engine.by_hand(|world, _| world.defaults.start_takes = takes);
        self
    }

    /// How long containers need to obey a stop, if they have no time of their own; no time by
    /// default.
    #[must_use]
    pub fn with_stop_time(self, takes: Duration) -> Self {
        self.engine.by_hand(|world, _| world.defaults.stop_takes = takes);
        self
    }
}

/// How the container of a name behaves, whether it exists yet or not.
impl MemoryBackend {
    /// Its starts take this long.
    pub fn start_takes(&self, name: &str, takes: Duration) {
        self.engine.by_hand(|world, _| world.behaviour(name).start_takes = takes);
    }

    /// A reading of what it uses takes this long.
    pub fn stats_take(&self, name: &str, takes: Duration) {
        self.engine.by_hand(|world, _| world.behaviour(name).stats_take = takes);
    }

    /// It needs this long to obey a stop; longer than the grace period means that it is killed.
    pub fn stop_takes(&self, name: &str, takes: Duration) {
        self.engine.by_hand(|world, _| world.behaviour(name).stop_takes = takes);
    }

    /// It exits by itself with `code`, so long after each start.
    pub fn exits_after(&self, name: &str, after: Duration, code: i64) {
        self.engine.by_hand(|world, _| world.behaviour(name).exits = Some((after, code)));
    }

    /// It runs until it is stopped: takes [`exits_after`](Self::exits_after) back.
    pub fn runs_on(&self, name: &str) {
        self.engine.by_hand(|world, _| world.behaviour(name).exits = None);
    }

    /// Its starts fail with `error`; `None` lets them succeed again.
    pub fn start_fails(&self, name: &str, error: impl Into<Option<BackendError>>) {
        let error = error.into();
        self.engine.by_hand(|world, _| world.behaviour(name).start_error = error);
    }

    /// It writes these lines at each start, instead of two that say so.
    pub fn prints(&self, name: &str, lines: impl IntoIterator<Item = (LogStream, String)>) {
        let lines = lines.into_iter().collect();
        self.engine.by_hand(|world, _| world.behaviour(name).prints = Some(lines));
    }

    /// Its own health check says this, now and after each start; `None`: it has no check.
    pub fn set_health(&self, name: &str, health: impl Into<Option<EngineHealth>>) {
        let health = health.into();
        self.engine.by_hand(|world, _| world.set_health(name, health));
    }
}

/// What happens without the nanny. All of it works while the engine is out of reach, too.
impl MemoryBackend {
    /// The container's process ends with `code`; a restart policy may answer.
    pub fn exit(&self, name: &str, code: i64) {
        self.engine.by_hand(|world, now| {
            if let Some(id) = world.id_of(name) {
                world.crash(&id, Exit::with_code(code), now);
            }
        });
    }

    /// The kernel kills the container for want of memory.
    pub fn run_out_of_memory(&self, name: &str) {
        self.engine.by_hand(|world, now| {
            if let Some(id) = world.id_of(name) {
                let exit = Exit { code: Some(137), out_of_memory: true, ..Exit::default() };
                world.crash(&id, exit, now);
            }
        });
    }

    /// Somebody starts the container; a failure shows in its state.
    pub fn start_by_hand(&self, name: &str) {
        self.engine.by_hand(|world, now| {
            if let Some(id) = world.id_of(name) {
                drop(world.begin_start(&id, now));
            }
        });
    }

    /// Somebody stops the container.
    pub fn stop_by_hand(&self, name: &str) {
        self.engine.by_hand(|world, now| {
            if let Some(id) = world.id_of(name) {
                drop(world.begin_stop(&id, None, now));
            }
        });
    }

    /// Somebody removes the container, running or not.
    pub fn remove_by_hand(&self, name: &str) {
        self.engine.by_hand(|world, now| {
            if let Some(id) = world.id_of(name) {
                world.remove(&id, now);
            }
        });
    }

    /// The container writes `text`, one or more lines.
    pub fn print(&self, name: &str, stream: LogStream, text: &str) {
        self.engine.by_hand(|world, now| {
            if let Some(id) = world.id_of(name) {
                world.write(&id, stream, text, now);
            }
        });
    }

    /// The engine is out of reach: every call fails with
    /// [`Unavailable`](crate::backend::ErrorKind::Unavailable), and its containers run on.
    pub fn go_down(&self) {
        self.engine.by_hand(|world, _| world.down = true);
    }

    /// The engine can be reached again; streams of events say `Resync`.
    pub fn come_back(&self) {
        self.engine.by_hand(|world, _| {
            world.down = false;
            world.connection += 1;
        });
    }
}

/// What an independent observer sees.
impl MemoryBackend {
    /// Names of the containers that run, or have not quite ended, in order.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let mut names: Vec<_> = self.engine.by_hand(|world, _| {
            let infos = world.containers.values().map(|container| &container.info);
            let runs = |state| {
                matches!(
                    state,
                    ContainerState::Running | ContainerState::Paused | ContainerState::Stopping
                )
            };
            infos.filter(|info| runs(info.state)).map(|info| info.name.clone()).collect()
        });
        names.sort();
        names
    }

    /// How many times the container of this name began to run.
    #[must_use]
    pub fn runs(&self, name: &str) -> u64 {
        self.engine.by_hand(|world, _| {
            world.id_of(name).and_then(|id| world.containers.get(&id)).map_or(0, |c| c.runs)
        })
    }

    /// The identifier of the container of this name.
    #[must_use]
    pub fn id_of(&self, name: &str) -> Option<ContainerId> {
        self.engine.by_hand(|world, _| world.id_of(name))
    }

    /// What the container of this name was created from.
    #[must_use]
    pub fn spec_of(&self, name: &str) -> Option<ContainerSpec> {
        self.engine.by_hand(|world, _| {
            let id = world.id_of(name)?;
            world.containers.get(&id).map(|container| container.spec.clone())
        })
    }

    /// The files that were put into the container of this name, by path.
    #[must_use]
    pub fn files_of(&self, name: &str) -> BTreeMap<String, FileInside> {
        self.engine.by_hand(|world, _| {
            let container = world.id_of(name).and_then(|id| world.containers.get(&id));
            container.map(|container| container.files.clone()).unwrap_or_default()
        })
    }

    /// The images that were pulled, in order.
    #[must_use]
    pub fn pulls(&self) -> Vec<String> {
        self.engine.by_hand(|world, _| world.pulls.clone())
    }

    /// The images that were built, in order.
    #[must_use]
    pub fn builds(&self) -> Vec<BuildSpec> {
        self.engine.by_hand(|world, _| world.builds.clone())
    }

    /// The time of day in the engine: it follows tokio's clock.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.engine.by_hand(|world, now| world.wall(now))
    }
}
