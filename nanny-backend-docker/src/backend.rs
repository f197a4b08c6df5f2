//! The backend: one short method per operation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::models::{ContainerCreateResponse, EndpointSettings, NetworkConnectRequest};
use bollard::query_parameters::{
    CreateContainerOptions, KillContainerOptions, RemoveContainerOptions, RenameContainerOptions,
    StopContainerOptions,
};
use bytes::Bytes;
use futures_core::stream::BoxStream;
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    BackendError, BackendInfo, Capabilities, ContainerBackend, ContainerInfo, ContainerSpec,
    ContainerState, ErrorKind, Event, FileInside, Images, LogLine, LogOptions, Networks, Result,
    Selector, Stats, Volumes,
};

use crate::config::DockerConfig;
use crate::connection::Connection;
use crate::convert::{Create, Inspected, Reading, to_body, whole_seconds};
use crate::images::DockerImages;
use crate::listing::Listing;
use crate::networks::DockerNetworks;
use crate::volumes::DockerVolumes;
use crate::{events, files, logs};

/// Containers of a Docker Engine.
///
/// Cheap to clone; clones share one connection. See the [crate] for what it cannot do.
#[derive(Debug, Clone)]
pub struct DockerBackend {
    info: BackendInfo,
    capabilities: Capabilities,
    connection: Arc<Connection>,
    listing: Arc<Listing>,
    starts: Arc<UnderWay>,
    stops: Arc<UnderWay>,
    images: DockerImages,
    networks: DockerNetworks,
    volumes: DockerVolumes,
}

/// How long the engine may take to answer.
pub(crate) const LOOK: Duration = Duration::from_secs(5);
const CREATE: Duration = Duration::from_secs(30);
const START: Duration = Duration::from_secs(60);
/// Added to the time that a container may take to obey.
const STOP: Duration = Duration::from_secs(30);
const REMOVE: Duration = Duration::from_secs(60);
/// Between two looks at something that is on its way.
const SOON: Duration = Duration::from_millis(100);

impl DockerBackend {
    /// A backend on the engine that `config` describes. Does not touch the engine: it may be down.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] or [`ErrorKind::Unsupported`] if no engine can be where `config` says.
    pub fn new(config: DockerConfig) -> Result<Self> {
        let connection = Arc::new(Connection::new(config)?);
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
        let (starts, stops) = (Arc::<UnderWay>::default(), Arc::<UnderWay>::default());
        let listing =
            Listing::new(Arc::clone(&connection), Arc::clone(&starts), Arc::clone(&stops));
        Ok(Self {
            info: BackendInfo::new("docker", connection.address()),
            capabilities,
            listing: Arc::new(listing),
            images: DockerImages(Arc::clone(&connection)),
            networks: DockerNetworks::new(Arc::clone(&connection)),
            volumes: DockerVolumes(Arc::clone(&connection)),
            connection,
            starts,
            stops,
        })
    }

    async fn look(&self, operation: &'static str, id: &ContainerId) -> Result<Inspected> {
        inspect(&self.connection, operation, id).await
    }

    /// Connects what the create request could not; a container that is not connected must not stay.
    async fn connect_networks(
        &self,
        id: &str,
        spec: &ContainerSpec,
        networks: Vec<(String, EndpointSettings)>,
    ) -> Result<()> {
        for (network, endpoint) in networks {
            let request =
                NetworkConnectRequest { container: id.to_owned(), endpoint_config: Some(endpoint) };
            let connected = self
                .connection
                .ask("create", &spec.name, CREATE, |client| async move {
                    client.connect_network(&network, request).await
                })
                .await;
            if let Err(error) = connected {
                self.remove(&ContainerId::new(id)).await?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Resumes a frozen container: the engine cannot signal one.
    async fn unpause(&self, operation: &'static str, id: &ContainerId) -> Result<()> {
        let unpaused = self
            .connection
            .ask(operation, id, LOOK, |client| async move {
                client.unpause_container(id.as_str()).await
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
impl ContainerBackend for DockerBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn ping(&self) -> Result<()> {
        self.connection
            .ask("ping", "", LOOK, |client| async move { client.ping().await.map(|_| ()) })
            .await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let body = to_body(spec, self.connection.api_minor("create", LOOK).await?)?;
        let options =
            CreateContainerOptions { name: Some(spec.name.clone()), platform: body.platform };
        let created = self
            .connection
            .ask("create", &spec.name, CREATE, |client| async move {
                create(client, options, body.create).await
            })
            .await?;
        for warning in created.warnings {
            tracing::warn!(container = spec.name, warning, "the engine warns about a container");
        }
        self.connect_networks(&created.id, spec, body.connect).await?;
        Ok(ContainerId::new(created.id))
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        // The engine minds a name that is the container's own.
        if self.look("rename", id).await?.is_called(name) {
            return Ok(());
        }
        let options = RenameContainerOptions { name: name.to_owned() };
        self.connection
            .ask("rename", id, CREATE, |client| async move {
                client.rename_container(id.as_str(), options).await
            })
            .await
    }

    async fn put_files(&self, id: &ContainerId, files: &[FileInside]) -> Result<()> {
        files::put(&self.connection, checked("put files", id)?, files).await
    }

    /// The engine answers a start that meets a stop with "is running already", and then stops it.
    async fn start(&self, id: &ContainerId) -> Result<()> {
        let being_stopped = || {
            let message = "the container is being stopped";
            Err(BackendError::new(ErrorKind::Conflict, "start", message).on(id))
        };
        if self.stops.has(id) {
            return being_stopped();
        }
        let container = self.look("start", id).await?;
        if container.state() == ContainerState::Running {
            let stopping = events::is_being_stopped(&self.connection, id, &container).await;
            return if stopping { being_stopped() } else { Ok(()) };
        }
        let _starting = self.starts.begin(id);
        self.connection
            .ask("start", id, START, |client| async move {
                client.start_container(id.as_str(), None).await
            })
            .await
    }

    async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<()> {
        let container = self.look("stop", id).await?;
        let _stopping = self.stops.begin(id);
        if container.state() == ContainerState::Paused {
            self.unpause("stop", id).await?;
        }
        let limit = grace.unwrap_or_else(|| container.grace()).saturating_add(STOP);
        let seconds = grace.map(|grace| i32::try_from(whole_seconds(grace)).unwrap_or(i32::MAX));
        let options = StopContainerOptions { t: seconds, ..Default::default() };
        self.connection
            .ask("stop", id, limit, |client| async move {
                client.stop_container(id.as_str(), Some(options)).await
            })
            .await
    }

    async fn kill(&self, id: &ContainerId) -> Result<()> {
        let container = self.look("kill", id).await?;
        match container.state() {
            ContainerState::Created | ContainerState::Exited | ContainerState::Removing => {
                return Ok(());
            }
            ContainerState::Paused => self.unpause("kill", id).await?,
            // Nothing is there to be killed, and something will be in a moment.
            ContainerState::Restarting => return self.stop(id, Some(Duration::ZERO)).await,
            _ => {}
        }
        let options = KillContainerOptions { signal: "KILL".to_owned() };
        let killed = self
            .connection
            .ask("kill", id, STOP, |client| async move {
                client.kill_container(id.as_str(), Some(options)).await
            })
            .await;
        match killed {
            // It ended in between.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        let checked = checked("remove", id);
        let options = RemoveContainerOptions { force: true, v: false, link: false };
        let removed = match checked {
            Ok(id) => {
                self.connection
                    .ask("remove", id, REMOVE, |client| async move {
                        client.remove_container(id, Some(options)).await
                    })
                    .await
            }
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            // Somebody else is removing it: done when it is gone.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let gone = async {
                    loop {
                        match self.look("remove", id).await {
                            Ok(_) => tokio::time::sleep(SOON).await,
                            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                            Err(error) => return Err(error),
                        }
                    }
                };
                tokio::time::timeout(LOOK * 2, gone).await.unwrap_or(Err(error))
            }
            other => other,
        }
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo> {
        let container = self.look("inspect", id).await?;
        Ok(container.to_info(self.stops.has(id)))
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<ContainerInfo>> {
        self.listing.list(selector).await
    }

    fn watch(&self) -> BoxStream<'static, Event> {
        events::watch(Arc::clone(&self.connection), Arc::clone(&self.listing))
    }

    fn logs(&self, id: &ContainerId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        logs::logs(Arc::clone(&self.connection), id.clone(), options)
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let container = self.look("stats", id).await?;
        if !matches!(container.state(), ContainerState::Running | ContainerState::Paused) {
            return Ok(Stats::default());
        }
        let path = format!("/containers/{id}/stats?stream=false&one-shot=true");
        let reading: Reading = self.connection.get("stats", id, LOOK, path).await?;
        let mut stats = Stats::default();
        stats.cpu = reading.cpu();
        stats.memory_bytes = reading.memory_bytes();
        stats.memory_limit_bytes = container.memory_limit_bytes();
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

/// The client's own type of the body lacks what only old engines know: that is put into the request
/// before it is sent.
async fn create(
    client: Docker,
    options: CreateContainerOptions,
    create: Create,
) -> Result<ContainerCreateResponse, bollard::errors::Error> {
    if create.mac_address.is_none() {
        return client.create_container(Some(options), create.body).await;
    }
    let whole = Bytes::from(serde_json::to_vec(&create)?);
    let client = client.with_request_modifier(move |mut request| {
        *request.body_mut() = bollard::body_full(whole.clone());
        request
    });
    client.create_container(Some(options), create.body).await
}

/// What the engine knows about one container.
pub(crate) async fn inspect(
    connection: &Connection,
    operation: &'static str,
    id: &ContainerId,
) -> Result<Inspected> {
    let path = format!("/containers/{}/json", checked(operation, id)?);
    connection.get(operation, id, LOOK, path).await
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

/// Calls of ours that are under way, by their containers: the engine does not tell of them.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(Mutex<HashMap<ContainerId, usize>>);

/// Ends a call when dropped.
struct Call<'a> {
    of: &'a UnderWay,
    id: ContainerId,
}

impl UnderWay {
    pub(crate) fn has(&self, id: &ContainerId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    fn begin(&self, id: &ContainerId) -> Call<'_> {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry(id.clone()).or_default() += 1;
        Call { of: self, id: id.clone() }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut calls = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = calls.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&self.id);
            }
        }
    }
}
