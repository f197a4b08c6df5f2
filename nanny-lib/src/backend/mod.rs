//! Backends: whatever can run a container.
//!
//! A [`ContainerBackend`] speaks of single containers only. Bringing a whole project up, in
//! order, once and idempotently, is written once above it, in [`project`](crate::project) and
//! [`lifecycle`](crate::lifecycle); so is everything about GPUs and health.

mod attachment;
mod build;
mod container;
mod error;
mod files;
mod limits;
mod memory;
mod mount;
mod resources;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures_core::stream::BoxStream;

pub use self::attachment::{Addresses, Dns, NetworkAttachment};
pub use self::build::{BuildProgress, BuildSpec};
pub use self::container::{
    ContainerInfo, ContainerSpec, ContainerState, DeviceMapping, EngineHealth, Environment, Exit,
    GpuDevices, Healthcheck, HealthcheckTest, HostPorts, Labels, Logging, Namespaces, PortMapping,
    Protocol, RestartPolicy, Ulimit,
};
pub use self::error::{BackendError, ErrorKind};
pub use self::files::FileInside;
pub use self::limits::Limits;
pub use self::memory::MemoryBackend;
pub use self::mount::{Mount, MountKind, Recursion};
pub use self::resources::{
    AddressPool, Event, EventKind, ImageInfo, Images, Ipam, LogLine, LogOptions, LogStream,
    NetworkInfo, NetworkSpec, Networks, PullProgress, Selector, Stats, VolumeInfo, VolumeSpec,
    Volumes,
};
use crate::name::ContainerId;

/// What a backend's operations answer.
pub type Result<T, E = BackendError> = std::result::Result<T, E>;

/// One engine that can run containers: a Docker Engine, a Podman service, plain processes.
///
/// # Contract
///
/// Every sentence here has a test in `nanny-testkit`'s conformance suite, or says there why it has
/// none.
///
/// *Repeating it.* `start` of a running container, `stop` and `kill` of one that is not running,
/// and `remove` of one that is gone succeed, and so does `rename` to the name it has. `create` and
/// `rename` under a name that is taken fail with [`ErrorKind::Conflict`] and change nothing.
///
/// *Cancellation.* Any future may be dropped at any point. What had reached the engine may still
/// happen there; the caller inspects before it repeats. Nothing else is left behind.
///
/// *Concurrency.* All operations may run at once, also on one container; the engine orders them.
///
/// *Errors.* An operation on an id that does not exist fails with [`ErrorKind::NotFound`]
/// (`remove` succeeds). So does a `create` of which the image is not there. What stands in the way
/// of a start, a port that is taken, is [`ErrorKind::Conflict`]. An engine that is out of reach is
/// [`ErrorKind::Unavailable`]: it says nothing about the containers. [`ErrorKind::Timeout`] means
/// the outcome is unknown. What the backend cannot honour in a spec is [`ErrorKind::Unsupported`]
/// and named; nothing in a spec is ever dropped in silence.
///
/// *Deadlines.* Implementations MUST bound each call to the engine; the driver sets its own
/// deadline around every call besides.
#[async_trait]
pub trait ContainerBackend: fmt::Debug + Send + Sync + 'static {
    /// Who this is. Never blocks, and answers also while the engine is out of reach.
    fn info(&self) -> &BackendInfo;

    /// What this backend can do; fixed for its lifetime.
    fn capabilities(&self) -> &Capabilities;

    /// Asks the engine for a sign of life. Success is no proof of health: a `list` that succeeds is.
    async fn ping(&self) -> Result<()>;

    /// Creates a container and does not start it.
    ///
    /// The name is unique within the engine. Networks and named volumes of the spec exist already.
    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId>;

    /// Gives a container another name.
    async fn rename(&self, id: &ContainerId, name: &str) -> Result<()>;

    /// Puts files into a container, which may have run or not, over what is there at their paths.
    ///
    /// [`ErrorKind::Unsupported`] without the capability
    /// [`files`](Capabilities::files).
    async fn put_files(&self, id: &ContainerId, files: &[FileInside]) -> Result<()>;

    /// Starts a container, which may have run before. Returns once the engine says it was started;
    /// it may have exited since. One that fails leaves its reason in the container's
    /// [`Exit::error`].
    ///
    /// A start that meets a stop under way MUST NOT be swallowed: it fails with
    /// [`ErrorKind::Conflict`], or the container runs.
    async fn start(&self, id: &ContainerId) -> Result<()>;

    /// Sends the container's stop signal, waits up to `grace`, then kills. Returns when it is down.
    ///
    /// `None` is the container's own grace period.
    async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<()>;

    /// Kills a container at once, also while a `stop` of it is under way.
    async fn kill(&self, id: &ContainerId) -> Result<()>;

    /// Removes a container, killing it first if it runs. Its volumes stay, also those without a
    /// name: nobody can tell what is in them.
    async fn remove(&self, id: &ContainerId) -> Result<()>;

    /// What the engine knows about one container.
    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo>;

    /// All containers that `selector` picks, running or not, each as complete as `inspect`'s answer.
    /// It is the truth of the moment, whatever a backend remembers.
    ///
    /// A container that vanishes while the list is made is left out; it is not an error.
    async fn list(&self, selector: &Selector) -> Result<Vec<ContainerInfo>>;

    /// What happens to containers, as it happens. Every stream tells all of it.
    ///
    /// The stream begins with [`EventKind::Resync`] once it is subscribed, reconnects by itself
    /// and says `Resync` again each time, and ends only when dropped. It SHOULD say `Resync` also
    /// when its connection breaks: an engine that ends and is back before the next list would not
    /// be missed otherwise. Events are hints: they may be lost, repeated and out of order, so
    /// consumers also `list`.
    fn watch(&self) -> BoxStream<'static, Event>;

    /// A container's log, oldest line first, each from its stream and with its time where the engine
    /// knows them. `tail` and `since` leave out what is older.
    ///
    /// Lines are split at 16 KiB; whatever bytes the container wrote, memory stays bounded. With
    /// `follow` the stream ends when the container does; without it, at the end of the log. A
    /// container that never ran has an empty log.
    fn logs(&self, id: &ContainerId, options: LogOptions) -> BoxStream<'static, Result<LogLine>>;

    /// One reading of a container's resource use; a container that does not run reads as zeros.
    async fn stats(&self, id: &ContainerId) -> Result<Stats>;

    /// The engine's images, if it has such a thing.
    fn images(&self) -> Option<&dyn Images>;

    /// The engine's networks, if it has such a thing.
    fn networks(&self) -> Option<&dyn Networks>;

    /// The engine's named volumes, if it has such a thing.
    fn volumes(&self) -> Option<&dyn Volumes>;
}

/// Who a backend is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendInfo {
    /// The word a manifest's `backend:` uses for it: `docker`, `podman`, `process`, `memory`.
    pub name: String,
    /// Where it is, for people: an address or a path, without credentials.
    pub endpoint: String,
}

impl BackendInfo {
    /// A backend called `name` at `endpoint`.
    #[must_use]
    pub fn new(name: impl Into<String>, endpoint: impl Into<String>) -> Self {
        Self { name: name.into(), endpoint: endpoint.into() }
    }
}

/// What a backend can do: differences between engines are data. The suite picks its tests by them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// Runs images. Without it, it runs plain commands: a nanny gives it the services that have
    /// nothing but a command, and only those.
    pub images: bool,
    /// Separates stdout from stderr in logs.
    pub separate_stderr: bool,
    /// Runs health checks itself and reports [`EngineHealth`].
    pub health_checks: bool,
    /// Can give a container NVIDIA GPUs, or fails to start it; never drops the request.
    pub gpus: bool,
    /// Publishes container ports on the host.
    pub ports: bool,
    /// Containers outlive the nanny and can be adopted by its next run.
    pub survives_restart: bool,
    /// Starts containers again by itself, as their restart policies say.
    pub restarts: bool,
    /// Puts files into containers.
    pub files: bool,
    /// Builds images.
    pub builds: bool,
}

/// Whether a field of a spec says nothing, and so has no part in its hash.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
