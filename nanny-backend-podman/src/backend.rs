//! The backend: one short method per operation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use nanny_engine_formats::archive;
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    BackendError, BackendInfo, Capabilities, ContainerBackend, ContainerInfo, ContainerSpec,
    ContainerState, ErrorKind, Event, FileInside, Images, LogLine, LogOptions, MountKind, Networks,
    Result, Selector, Stats, Volumes,
};
use podman_api::opts::ContainerDeleteOpts;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::config::PodmanConfig;
use crate::connection::Connection;
use crate::convert::{Inspected, Most, Readings, Surroundings, cdi_names, to_body, whole_seconds};
use crate::health::HealthChecks;
use crate::images::{self, PodmanImages};
use crate::listing::Listing;
use crate::networks::PodmanNetworks;
use crate::starts::FailedStarts;
use crate::stops::Stops;
use crate::volumes::PodmanVolumes;
use crate::{cdi, events, gateway, limits, logs, remains};

/// Containers of a Podman.
///
/// Cheap to clone; clones share one connection. See the [crate] for what it cannot do.
#[derive(Debug, Clone)]
pub struct PodmanBackend {
    info: BackendInfo,
    capabilities: Capabilities,
    connection: Arc<Connection>,
    listing: Arc<Listing>,
    starts: Arc<FailedStarts>,
    stops: Arc<Stops>,
    images: PodmanImages,
    networks: PodmanNetworks,
    volumes: PodmanVolumes,
}

/// How long the engine may take to answer.
pub(crate) const LOOK: Duration = Duration::from_secs(5);
const CREATE: Duration = Duration::from_secs(30);
const START: Duration = Duration::from_secs(60);
/// Added to the time that a container may take to obey.
const STOP: Duration = Duration::from_secs(30);
const REMOVE: Duration = Duration::from_secs(60);
const UPLOAD: Duration = Duration::from_secs(30);
/// So often a copy is tried.
const MOST_COPIES: u32 = 5;
/// Between two looks at something that is on its way.
pub(crate) const SOON: Duration = Duration::from_millis(100);

impl PodmanBackend {
    /// A backend on the engine that `config` describes. Does not touch the engine: it may be down.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] or [`ErrorKind::Unsupported`] if no engine can be where `config` says.
    #[expect(clippy::needless_pass_by_value, reason = "as the other backends take theirs")]
    pub fn new(config: PodmanConfig) -> Result<Self> {
        let connection = Arc::new(Connection::new(&config)?);
        let mut capabilities = Capabilities::default();
        capabilities.images = true;
        capabilities.separate_stderr = true;
        capabilities.health_checks = true;
        capabilities.gpus = true;
        capabilities.ports = true;
        capabilities.survives_restart = true;
        capabilities.restarts = true;
        capabilities.files = true;
        capabilities.builds = true;
        let starts = Arc::<FailedStarts>::default();
        let checks = Arc::new(HealthChecks::new(Arc::clone(&connection)));
        Ok(Self {
            info: BackendInfo::new("podman", connection.address()),
            capabilities,
            listing: Arc::new(Listing::new(Arc::clone(&connection), Arc::clone(&starts), checks)),
            starts,
            stops: Arc::default(),
            images: PodmanImages(Arc::clone(&connection)),
            networks: PodmanNetworks(Arc::clone(&connection)),
            volumes: PodmanVolumes(Arc::clone(&connection)),
            connection,
        })
    }

    async fn look(&self, operation: &'static str, id: &ContainerId) -> Result<Inspected> {
        inspect(&self.connection, operation, id).await
    }

    /// What a create request needs to know beside its spec.
    async fn surroundings(&self, spec: &ContainerSpec) -> Result<Surroundings> {
        let fail =
            |kind, message: String| Err(BackendError::new(kind, "create", message).on(&spec.name));
        let Some(image) = &spec.image else {
            return fail(ErrorKind::Invalid, "a container needs an image".to_owned());
        };
        let Some((name, found)) = images::find(&self.connection, "create", image).await? else {
            return fail(ErrorKind::NotFound, format!("{image}: image not known"));
        };
        // Podman would take whatever is there.
        if let (Some(wanted), Some(actual)) = (&spec.platform, found.platform())
            && !nanny_lib::project::fits(wanted, &actual)
        {
            let message = format!("{image} is there for {actual}, and not for {wanted}");
            return fail(ErrorKind::NotFound, message);
        }
        let most = match self.connection.socket().filter(|_| !spec.ulimits.is_empty()) {
            Some(socket) => limits::most(socket).await,
            None => Most::default(),
        };
        let gateway = gateway::look_up(&self.connection, spec).await?;
        Ok(Surroundings { image: name, check: found.check().cloned(), most, gateway })
    }

    /// Podman takes any runtime that it does not know for its usual one.
    async fn check_runtime(&self, id: &ContainerId, wanted: &str) -> Result<()> {
        let runtime = self.look("create", id).await?.runtime().to_owned();
        if runtime == wanted {
            return Ok(());
        }
        self.remove(id).await?;
        let message = format!("runtime: Podman has no {wanted:?} here, and would use {runtime:?}");
        Err(BackendError::new(ErrorKind::Unsupported, "create", message))
    }

    /// Podman would start those whose namespaces `container` joins along with it, and ask nobody.
    async fn check_joined(&self, container: &Inspected) -> Result<()> {
        for joined in container.joined() {
            let joined = match self.look("start", &joined).await {
                Ok(joined) => joined,
                // The start itself says that.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if joined.state() != ContainerState::Running && !joined.keeps_a_pod() {
                let name = joined.name();
                let message = format!("it joins the namespaces of {name:?}, which does not run");
                let error = BackendError::new(ErrorKind::Conflict, "start", message);
                return Err(error.on(container.id()));
            }
        }
        Ok(())
    }

    /// Unpacks an archive in a container, once more if that was unmounted meanwhile: what has ended
    /// is, some time later.
    async fn put_archive(&self, id: &ContainerId, path: &str, archive: Vec<u8>) -> Result<()> {
        let put = || self.connection.put("put files", id, UPLOAD, path, archive.clone());
        for _ in 1..MOST_COPIES {
            match put().await {
                Err(error) if error.kind() == ErrorKind::Conflict => sleep(SOON).await,
                put => return put,
            }
        }
        put().await
    }

    async fn create_now(&self, spec: &ContainerSpec, body: Vec<u8>) -> Result<Created> {
        self.connection.post("create", &spec.name, CREATE, "/containers/create", body).await
    }

    async fn start_now(&self, id: &ContainerId) -> Result<()> {
        self.connection
            .ask("start", id, START, |podman| async move {
                accept_unchanged(podman.containers().get(id.as_str()).start(None).await)
            })
            .await
    }

    /// Resumes a frozen container: a stop of one fails half-way.
    async fn unpause(&self, operation: &'static str, id: &ContainerId) -> Result<()> {
        let unpaused = self
            .connection
            .ask(operation, id, LOOK, |podman| async move {
                podman.containers().get(id.as_str()).unpause().await
            })
            .await;
        match unpaused {
            // Somebody else was faster.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }
}

#[async_trait]
impl ContainerBackend for PodmanBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn ping(&self) -> Result<()> {
        self.connection
            .ask("ping", "", LOOK, |podman| async move { podman.ping().await.map(|_| ()) })
            .await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let around = self.surroundings(spec).await?;
        let body = to_body(spec, &around)?;
        if self.connection.socket().is_some() {
            let devices = cdi_names(spec)?;
            if !devices.is_empty() {
                cdi::check(&spec.name, devices).await?;
            }
            make_sources(spec).await?;
        }
        let created = match self.create_now(spec, body.clone()).await {
            Err(error)
                if error.kind() == ErrorKind::Conflict
                    && remains::clear(&self.connection, &spec.name).await =>
            {
                self.create_now(spec, body).await?
            }
            created => created?,
        };
        for warning in created.warnings.unwrap_or_default() {
            tracing::warn!(container = spec.name, warning, "the engine warns about a container");
        }
        let id = ContainerId::new(created.id);
        if let Some(runtime) = &spec.runtime {
            self.check_runtime(&id, runtime).await.map_err(|error| error.on(&spec.name))?;
        }
        Ok(id)
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        checked("rename", id)?;
        self.connection
            .ask("rename", id, CREATE, |podman| async move {
                podman.containers().get(id.as_str()).rename(name).await
            })
            .await
    }

    async fn put_files(&self, id: &ContainerId, files: &[FileInside]) -> Result<()> {
        checked("put files", id)?;
        for file in files {
            let archive = archive(file).map_err(|error| {
                let message = format!("a file cannot be put at {:?}", file.path);
                BackendError::new(ErrorKind::Invalid, "put files", message).on(id).caused_by(error)
            })?;
            // Podman would give it to whoever the container runs as.
            let keeps = if file.owner.is_some() { "false" } else { "true" };
            let path = format!("/containers/{id}/archive?path=%2F&copyUIDGID={keeps}");
            self.put_archive(id, &path, archive).await?;
        }
        Ok(())
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        let container = self.look("start", id).await?;
        match container.state() {
            ContainerState::Running => return Ok(()),
            ContainerState::Stopping => {
                let message = "the container is being stopped";
                return Err(BackendError::new(ErrorKind::Conflict, "start", message).on(id));
            }
            _ => {}
        }
        self.check_joined(&container).await?;
        self.starts.forget(id);
        let started = match self.start_now(id).await {
            Err(error) if !error.is_retryable() => match self.look("start", id).await {
                // libpod looks at the state before it takes the container's lock:
                // whoever loses a race of two starts is told of a wrong state.
                Ok(container)
                    if error.kind() == ErrorKind::Conflict
                        && container.state() == ContainerState::Running =>
                {
                    Ok(())
                }
                Ok(container) if !container.state().holds() => {
                    self.starts.remember(id, &error);
                    Err(error)
                }
                _ => Err(error),
            },
            started => started,
        };
        self.listing.forget(id);
        started
    }

    async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<()> {
        let container = self.look("stop", id).await?;
        if container.state() == ContainerState::Paused {
            self.unpause("stop", id).await?;
        }
        let limit = grace.unwrap_or_else(|| container.grace()).saturating_add(STOP);
        let path = match grace {
            Some(grace) => format!("/containers/{id}/stop?timeout={}", whole_seconds(grace)),
            None => format!("/containers/{id}/stop"),
        };
        if container.state().holds() {
            self.stops.tell(id);
        }
        self.connection.ensure("stop", id, limit, &path).await
    }

    async fn kill(&self, id: &ContainerId) -> Result<()> {
        match self.look("kill", id).await?.state() {
            ContainerState::Created | ContainerState::Exited | ContainerState::Removing => {
                return Ok(());
            }
            ContainerState::Paused => self.unpause("kill", id).await?,
            _ => {}
        }
        let killed = self
            .connection
            .ask("kill", id, STOP, |podman| async move {
                podman.containers().get(id.as_str()).send_signal("KILL").await
            })
            .await;
        match killed {
            // It ended in between.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        if checked("remove", id).is_err() {
            return Ok(());
        }
        // Without a time of its own, it would be given all the time that it may take to obey.
        let options = ContainerDeleteOpts::builder().force(true).volumes(false).timeout(0).build();
        let removed = self
            .connection
            .ask("remove", id, REMOVE, |podman| async move {
                podman.containers().get(id.as_str()).delete(&options).await
            })
            .await;
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            // Somebody else may be removing it: done when it is gone. Others may need it, too.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Other) => {
                let gone = async {
                    loop {
                        match self.look("remove", id).await {
                            Ok(left) if left.state() == ContainerState::Removing => {
                                sleep(SOON).await;
                            }
                            Ok(_) => return Ok(false),
                            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
                            Err(error) => return Err(error),
                        }
                    }
                };
                match tokio::time::timeout(LOOK * 2, gone).await {
                    Ok(Ok(true)) => Ok(()),
                    Ok(Ok(false)) | Err(_) => Err(error),
                    Ok(Err(error)) => Err(error),
                }
            }
            other => other,
        }
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo> {
        Ok(self.listing.to_info(&self.look("inspect", id).await?))
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<ContainerInfo>> {
        self.listing.list(selector).await
    }

    fn watch(&self) -> BoxStream<'static, Event> {
        let stops = self.stops.hear();
        events::watch(Arc::clone(&self.connection), Arc::clone(&self.listing), stops)
    }

    fn logs(&self, id: &ContainerId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        logs::logs(Arc::clone(&self.connection), id.clone(), options)
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let container = self.look("stats", id).await?;
        if !matches!(container.state(), ContainerState::Running | ContainerState::Paused) {
            return Ok(Stats::default());
        }
        let path = format!("/containers/stats?containers={id}&stream=false");
        let readings: Readings = self.connection.get("stats", id, LOOK, &path).await?;
        let mut stats = Stats::default();
        // None: it has ended since.
        if let Some(reading) = readings.stats.unwrap_or_default().first() {
            stats.cpu = reading.cpu();
            stats.memory_bytes = reading.memory_bytes;
            stats.memory_limit_bytes = container.memory_limit_bytes();
        }
        Ok(stats)
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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// What the engine knows about one container.
pub(crate) async fn inspect(
    connection: &Connection,
    operation: &'static str,
    id: &ContainerId,
) -> Result<Inspected> {
    let path = format!("/containers/{}/json", checked(operation, id)?);
    connection.get(operation, id, LOOK, &path).await
}

/// An identifier goes into a path: what cannot be one is not asked for.
fn checked<'a>(operation: &'static str, id: &'a ContainerId) -> Result<&'a str> {
    let id = id.as_str();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.bytes().all(is_plain) {
        return Ok(id);
    }
    Err(BackendError::new(ErrorKind::NotFound, operation, "no such container").on(id))
}

/// "Not modified" is how the engine says that it is so already.
fn accept_unchanged(answer: podman_api::Result<()>) -> podman_api::Result<()> {
    match answer {
        Err(podman_api::Error::Fault { code, .. }) if code.as_u16() == 304 => Ok(()),
        other => other,
    }
}

/// Makes the directories that a bind mount wants made, as Docker does by itself.
async fn make_sources(spec: &ContainerSpec) -> Result<()> {
    let sources = spec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Bind { source, create_source: true, .. } => Some(source.clone()),
        _ => None,
    });
    let sources: Vec<_> = sources.collect();
    if sources.is_empty() {
        return Ok(());
    }
    let made = spawn_blocking(move || {
        sources.into_iter().try_for_each(|source| match std::fs::symlink_metadata(&source) {
            Ok(_) => Ok(()),
            Err(_) => std::fs::create_dir_all(&source).map_err(|error| (source, error)),
        })
    });
    let made = made.await.unwrap_or_else(|cut| Err((String::new(), std::io::Error::other(cut))));
    let Err((source, error)) = made else { return Ok(()) };
    let message = format!("'{source}' is to be mounted, is not there, and cannot be made");
    Err(BackendError::new(ErrorKind::Invalid, "create", message).on(&spec.name).caused_by(error))
}
