//! The backend: one short method per operation.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use futures_util::future::join_all;
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    BackendError, BackendInfo, Capabilities, ContainerBackend, ContainerInfo, ContainerSpec,
    ContainerState, ErrorKind, Event, FileInside, Images, LogLine, LogOptions, Networks, Result,
    Selector, Stats, Volumes,
};
use rustix::process::Signal;

use crate::cgroup::Group;
use crate::config::ProcessConfig;
use crate::error::{conflict, from_io, not_found, timed_out};
use crate::home::{Home, Life, Request, Sight, UNKNOWN_RUN};
use crate::record::Phase;
use crate::shim::{Reply, launch_heir, launch_start};
use crate::spec::{GRACE, check_name, to_saved};
use crate::store::{Found, Store};
use crate::{events, kernel, logs, signal};

/// Plain processes, as containers.
///
/// Cheap to clone. Several may share one directory, in one program or in several.
#[derive(Debug, Clone)]
pub struct ProcessBackend {
    info: BackendInfo,
    capabilities: Capabilities,
    config: Arc<ProcessConfig>,
    store: Arc<Store>,
}

/// How long the file system may take to answer.
pub(crate) const LOOK: Duration = Duration::from_secs(5);
/// How long a start may take.
const START: Duration = Duration::from_secs(45);
/// How long it may take until a process has a shim again.
const ADOPT: Duration = Duration::from_secs(2);
/// Added to the time that a process may take to obey.
const STOP: Duration = Duration::from_secs(15);
const REMOVE: Duration = Duration::from_secs(30);
/// Between two looks at something that is on its way.
const SOON: Duration = Duration::from_millis(10);

impl ProcessBackend {
    /// A backend on the directory that `config` names. Nothing is touched yet.
    #[must_use]
    pub fn new(mut config: ProcessConfig) -> Self {
        // The shim works elsewhere.
        if let Ok(absolute) = std::path::absolute(&config.directory) {
            config.directory = absolute;
        }
        let mut capabilities = Capabilities::default();
        capabilities.separate_stderr = true;
        capabilities.gpus = true;
        capabilities.survives_restart = !is_in_container();
        Self {
            info: BackendInfo::new("process", config.directory.to_string_lossy()),
            capabilities,
            store: Arc::new(Store::new(config.directory.clone())),
            config: Arc::new(config),
        }
    }

    /// Does `work`, which reads and writes files, where it holds nobody up.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        subject: &str,
        limit: Duration,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || work(&store));
        match tokio::time::timeout(limit, done).await {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => {
                let message = "it could not be carried out";
                Err(BackendError::new(ErrorKind::Other, operation, message)
                    .on(subject)
                    .caused_by(panic))
            }
            Err(_) => Err(timed_out(operation, subject, "the file system does not answer")),
        }
    }

    async fn look(&self, operation: &'static str, home: &Home) -> Result<Sight> {
        let home = home.clone();
        let id = home.id.clone();
        self.blocking(operation, id.as_str(), LOOK, move |store| store.look(operation, &home)).await
    }

    async fn find(&self, operation: &'static str, id: &ContainerId) -> Result<Found> {
        let home = self.store.home(operation, id)?;
        self.blocking(operation, id.as_str(), LOOK, move |store| store.find(operation, &home)).await
    }

    /// Starts the container, by a shim.
    async fn launch(&self, home: &Home) -> Result<Option<Reply>> {
        let (config, home) = (Arc::clone(&self.config), home.clone());
        let id = home.id.clone();
        self.blocking("start", id.as_str(), START + LOOK, move |_| {
            launch_start(&config, &home, START).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => not_found("start", &home.id),
                _ => from_io("start", home.id.as_str(), "the shim cannot be started", &error),
            })
        })
        .await
    }

    /// Gives the container a new shim.
    async fn relaunch(&self, operation: &'static str, home: &Home) -> Result<Option<Reply>> {
        let (config, home) = (Arc::clone(&self.config), home.clone());
        let id = home.id.clone();
        self.blocking(operation, id.as_str(), ADOPT + LOOK, move |_| {
            launch_heir(&config, &home, ADOPT).map_err(|error| {
                from_io(operation, home.id.as_str(), "the shim cannot be started", &error)
            })
        })
        .await
    }

    /// Gives those a new shim that have lost theirs: nobody reads what they print, and they wait.
    async fn adopt(&self, found: &[Found]) {
        let orphans = found.iter().filter(|found| found.life == Life::Orphaned);
        join_all(orphans.map(|orphan| async {
            let id = &orphan.info.id;
            let Ok(home) = self.store.home("list", id) else { return };
            match self.relaunch("adopt", &home).await {
                Ok(_) => tracing::warn!(container = %id, "a process had lost its shim"),
                Err(error) => tracing::warn!(container = %id, %error, "a process is without shim"),
            }
        }))
        .await;
    }

    /// Kills the first process of the container, by which all the others end.
    async fn kill_first(&self, operation: &'static str, home: &Home) -> Result<()> {
        let record = self.look(operation, home).await?.record;
        // It is one only in the phases in which the program runs, or is about to.
        if let Some(main) = record.main.filter(|_| record.main_lives()) {
            main.signal(Signal::KILL);
        }
        Ok(())
    }

    /// Whether there are GPUs, for who asked for one: without, it would run on the processor.
    fn has_gpus(&self) -> bool {
        let signs = &self.config.gpu_signs;
        signs.is_empty() || signs.iter().any(|sign| sign.exists())
    }

    /// Sees that the run of the container ends that there is now: by its shim, or by us.
    async fn end(&self, operation: &'static str, home: &Home, request: Request) -> Result<()> {
        let mut first = self.look(operation, home).await?.record.run;
        let grace = match request {
            Request::Stop { grace, .. } => grace,
            Request::Kill => Duration::ZERO,
        };
        if request == Request::Kill {
            // Whatever its shim is doing.
            self.kill_first(operation, home).await?;
        }
        let mut told = None;
        let ended = async {
            loop {
                let sight = self.look(operation, home).await?;
                if first == UNKNOWN_RUN {
                    first = sight.record.run;
                }
                match (sight.record.phase, sight.life) {
                    _ if sight.record.run != first => return Ok(()),
                    (Phase::Created | Phase::Ended, _) | (_, Life::None) => {
                        return Ok(());
                    }
                    // It is not known yet what there is to be ended.
                    (Phase::Starting, Life::Shim) => {}
                    // Another one than was told may be there by now.
                    (_, Life::Shim) if told == Some(sight.record.shim) => {
                        none_left(operation, home, &sight)?;
                    }
                    (_, Life::Shim) => {
                        // One that is just ending hears nothing, and is seen to end.
                        let _ = home.tell(first, request);
                        told = Some(sight.record.shim);
                    }
                    (_, Life::Orphaned) => {
                        let reply = self.relaunch(operation, home).await?;
                        if let Some(Reply::Failed(why)) = reply
                            && self.look(operation, home).await?.life == Life::Orphaned
                        {
                            let error = BackendError::new(ErrorKind::Other, operation, why);
                            return Err(error.on(&home.id));
                        }
                    }
                }
                tokio::time::sleep(SOON).await;
            }
        };
        let late = |_| timed_out(operation, home.id.as_str(), "it does not end");
        tokio::time::timeout(grace.saturating_add(STOP), ended).await.map_err(late)?
    }
}

#[async_trait]
impl ContainerBackend for ProcessBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn ping(&self) -> Result<()> {
        self.blocking("ping", "", LOOK, |store| {
            let place = store.root().to_string_lossy();
            store.open().map_err(|error| from_io("ping", &place, "the directory", &error))
        })
        .await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let saved = to_saved(spec, self.config.log_bytes)?;
        let names = self.store.names("create", &spec.name).await?;
        let name = spec.name.clone();
        self.blocking("create", &spec.name, LOOK, move |store| {
            if let Some(group) = Group::of("", &saved.bounds) {
                group.check().map_err(|why| {
                    let message = format!("limits on memory, processors or processes: {why}");
                    BackendError::new(ErrorKind::Unsupported, "create", message).on(&name)
                })?;
            }
            store.tidy(&names);
            store.create(&name, &saved, &names)
        })
        .await
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        let home = self.store.home("rename", id)?;
        check_name("rename", name)?;
        let names = self.store.names("rename", name).await?;
        let new = name.to_owned();
        self.blocking("rename", name, LOOK, move |store| store.rename(&home, &new, &names)).await
    }

    async fn put_files(&self, id: &ContainerId, _files: &[FileInside]) -> Result<()> {
        self.find("put files", id).await?;
        let message = "a plain process has no files of its own";
        Err(BackendError::new(ErrorKind::Unsupported, "put files", message).on(id))
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        let home = self.store.home("start", id)?;
        let started = async {
            loop {
                let found = self.find("start", id).await?;
                match found.info.state {
                    // Without a shim it gets one, or a new start if only a part of it is left.
                    ContainerState::Running if found.life == Life::Shim => return Ok(()),
                    ContainerState::Stopping => {
                        return Err(conflict("start", id.as_str(), "it is being stopped"));
                    }
                    // By somebody else.
                    ContainerState::Restarting => {
                        tokio::time::sleep(SOON).await;
                        continue;
                    }
                    _ => {}
                }
                if found.names_gpus && !self.has_gpus() {
                    let message = "it asks for a GPU, and there is no NVIDIA driver here";
                    return Err(BackendError::new(ErrorKind::Unsupported, "start", message).on(id));
                }
                match self.launch(&home).await? {
                    Some(Reply::Runs) => return Ok(()),
                    Some(Reply::Busy) => tokio::time::sleep(SOON).await,
                    Some(Reply::Gone) => return Err(not_found("start", id)),
                    Some(Reply::Failed(why)) => {
                        return Err(BackendError::new(ErrorKind::Other, "start", why).on(id));
                    }
                    None => {
                        let has_begun = self.find("start", id).await?.record.run > found.record.run;
                        let message = if has_begun {
                            "its shim was killed before it had begun"
                        } else {
                            "its shim does not answer; a program that starts processes calls \
                             `shim::main` if it is asked to be one"
                        };
                        return Err(BackendError::new(ErrorKind::Other, "start", message).on(id));
                    }
                }
            }
        };
        let late = |_| timed_out("start", id.as_str(), "it has not begun in time");
        tokio::time::timeout(START, started).await.map_err(late)?
    }

    async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<()> {
        let home = self.store.home("stop", id)?;
        let of_spec = {
            let home = home.clone();
            let saved = move |store: &Store| {
                store.look("stop", &home)?;
                Ok(store.saved(&home))
            };
            self.blocking("stop", id.as_str(), LOOK, saved).await?
        };
        let of_spec = of_spec.map(|saved| (saved.stop_signal, saved.stop_grace));
        let (signal, own_grace) = of_spec.unwrap_or((signal::TERM, GRACE));
        let grace = grace.unwrap_or(own_grace);
        self.end("stop", &home, Request::Stop { signal, grace }).await
    }

    async fn kill(&self, id: &ContainerId) -> Result<()> {
        self.end("kill", &self.store.home("kill", id)?, Request::Kill).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        let removed = async {
            let home = self.store.home("remove", id)?;
            loop {
                self.end("remove", &home, Request::Kill).await?;
                // A shim lets go of it when it is gone, and none can come in between then.
                let Some(lock) = lock("remove", &home)? else {
                    tokio::time::sleep(SOON).await;
                    continue;
                };
                let sight = self.look("remove", &home).await?;
                if !matches!(sight.record.phase, Phase::Created | Phase::Ended) {
                    continue;
                }
                let names = self.store.names("remove", id.as_str()).await?;
                return self
                    .blocking("remove", id.as_str(), LOOK, move |store| {
                        let cleared = store.clear(&home);
                        drop((names, lock));
                        cleared.map_err(|error| match error.kind() {
                            io::ErrorKind::NotFound => not_found("remove", &home.id),
                            _ => from_io("remove", home.id.as_str(), "its directory", &error),
                        })
                    })
                    .await;
            }
        };
        let late = |_| timed_out("remove", id.as_str(), "it does not end");
        match tokio::time::timeout(REMOVE, removed).await.map_err(late)? {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo> {
        Ok(self.find("inspect", id).await?.info)
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<ContainerInfo>> {
        let selector = selector.clone();
        let found =
            self.blocking("list", "", LOOK, move |store| store.list("list", &selector)).await?;
        self.adopt(&found).await;
        Ok(found.into_iter().map(|found| found.info).collect())
    }

    fn watch(&self) -> BoxStream<'static, Event> {
        events::watch(Arc::clone(&self.store))
    }

    fn logs(&self, id: &ContainerId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        logs::logs(Arc::clone(&self.store), id.clone(), options)
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let found = self.find("stats", id).await?;
        let home = self.store.home("stats", id)?;
        self.blocking("stats", id.as_str(), LOOK, move |_| Ok(stats(&home, &found))).await
    }

    fn images(&self) -> Option<&dyn Images> {
        None
    }

    fn networks(&self) -> Option<&dyn Networks> {
        None
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        None
    }
}

/// What all processes of a container use, and what those used that are gone.
fn stats(home: &Home, found: &Found) -> Stats {
    let mut stats = Stats::default();
    if !found.info.state.holds() {
        return stats;
    }
    let shim = found.record.shim.filter(|shim| shim.lives());
    let processes = match shim {
        Some(shim) => kernel::descendants(shim.pid),
        None => home.orphans(&found.record),
    };
    let of_the_gone = shim.and_then(|shim| kernel::process(shim.pid));
    stats.cpu = of_the_gone.map(|shim| shim.cpu_of_children()).unwrap_or_default();
    for process in processes {
        stats.cpu += process.cpu();
        stats.memory_bytes += process.memory_bytes();
    }
    stats.memory_limit_bytes = found.memory_limit_bytes;
    stats
}

/// Fails if the kernel holds on to processes that were killed.
fn none_left(operation: &'static str, home: &Home, sight: &Sight) -> Result<()> {
    match sight.record.left.as_slice() {
        [] => Ok(()),
        pids => {
            let message = format!("processes cannot be killed: {pids:?}");
            Err(BackendError::new(ErrorKind::Other, operation, message).on(&home.id))
        }
    }
}

fn lock(operation: &'static str, home: &Home) -> Result<Option<File>> {
    home.try_lock().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_found(operation, &home.id),
        _ => from_io(operation, home.id.as_str(), "its lock", &error),
    })
}

/// Whether we live in a container: it ends with us, and all processes in it.
fn is_in_container() -> bool {
    std::process::id() == 1
        || ["/.dockerenv", "/run/.containerenv"].iter().any(|it| Path::new(it).exists())
}
