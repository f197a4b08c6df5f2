//! What a backend offers beside containers: events, logs, statistics, images, networks, volumes.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use super::{BuildProgress, BuildSpec, Exit, Labels, Result};
use crate::name::ContainerId;

/// Which containers a list is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Selector {
    /// Every container of the engine.
    #[default]
    All,
    /// Those that carry all of these labels.
    Labels(Labels),
}

impl Selector {
    /// Whether a container with `labels` is picked.
    #[must_use]
    pub fn picks(&self, labels: &Labels) -> bool {
        match self {
            Self::All => true,
            Self::Labels(wanted) => {
                wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
            }
        }
    }
}

/// Something happened to a container; a hint to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To which container; `None` for [`EventKind::Resync`].
    pub container: Option<ContainerId>,
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// (Re)connected, or events were lost: list, and trust nothing older.
    Resync,
    /// It was created.
    Created,
    /// It was started.
    Started,
    /// It ended, by itself or not.
    Exited(Exit),
    /// Somebody asked for it to end: a stop or a kill, by whomever.
    StopRequested,
    /// It was removed.
    Removed,
    /// Its health, name or anything else changed.
    Changed,
}

/// Which part of a log, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LogOptions {
    /// Go on with what is written from now on.
    pub follow: bool,
    /// Only the last so many lines of what is there; `None` is all of it.
    pub tail: Option<u32>,
    /// Only what was written at this time or later.
    pub since: Option<Timestamp>,
}

impl LogOptions {
    /// The last `lines` lines; `None` is the whole log.
    #[must_use]
    pub fn tail(lines: Option<u32>) -> Self {
        Self { tail: lines, ..Self::default() }
    }

    /// The same, and then what is written from now on.
    #[must_use]
    pub fn follow(mut self) -> Self {
        self.follow = true;
        self
    }
}

/// Which of a container's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A terminal, which has only one stream.
    Terminal,
}

/// One line of a log, without its line end; at most 16 KiB of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLine {
    /// When the engine received it, where it says so.
    pub at: Option<Timestamp>,
    /// Where it was written.
    pub stream: LogStream,
    /// The bytes, as the container wrote them: hostile until proven otherwise.
    pub bytes: Bytes,
}

impl LogLine {
    /// A line of `stream`.
    #[must_use]
    pub fn new(at: Option<Timestamp>, stream: LogStream, bytes: impl Into<Bytes>) -> Self {
        Self { at, stream, bytes: bytes.into() }
    }
}

/// One reading of what a container uses. Counters are cumulative since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Processor time used.
    pub cpu: Duration,
    /// Memory in use, in bytes, without what the page cache could give back.
    pub memory_bytes: u64,
    /// The limit on it, in bytes, if there is one.
    pub memory_limit_bytes: Option<u64>,
}

/// An engine's store of images.
#[async_trait]
pub trait Images: fmt::Debug + Send + Sync {
    /// The image that `reference` names here, or `None` if the engine does not have it.
    async fn inspect(&self, reference: &str) -> Result<Option<ImageInfo>>;

    /// Fetches `reference` from its registry, for `platform` or else the engine's own, calling
    /// `progress` whenever something moved. One that is nowhere is an error.
    ///
    /// Dropping the future stops the pull; layers that arrived may be kept.
    async fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        progress: &(dyn for<'a> Fn(PullProgress) + Send + Sync),
    ) -> Result<()>;

    /// Builds an image, calling `progress` whenever something moved.
    ///
    /// What is outside the context stays outside, wherever links lead. A context that is too big is
    /// [`Invalid`](super::ErrorKind::Invalid), and so is one that is not there. Without the
    /// capability [`builds`](super::Capabilities::builds), and for what a spec asks in vain, it is
    /// [`Unsupported`](super::ErrorKind::Unsupported). Dropping the future stops the build; layers
    /// that were made may be kept.
    async fn build(
        &self,
        spec: &BuildSpec,
        progress: &(dyn for<'a> Fn(BuildProgress) + Send + Sync),
    ) -> Result<()>;
}

/// An image that an engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageInfo {
    /// Its content identifier, `sha256:…`.
    pub id: String,
    /// Its platform, `os/architecture[/variant]`, as far as the engine says.
    pub platform: Option<String>,
    /// Where it wants volumes.
    pub volumes: BTreeSet<String>,
}

impl ImageInfo {
    /// An image with this content identifier.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), platform: None, volumes: BTreeSet::new() }
    }
}

/// How far a pull is, over all layers known so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PullProgress {
    /// Bytes that have arrived.
    pub current_bytes: u64,
    /// Bytes expected, as far as the engine says.
    pub total_bytes: u64,
}

impl PullProgress {
    /// `current_bytes` of `total_bytes`.
    #[must_use]
    pub fn new(current_bytes: u64, total_bytes: u64) -> Self {
        Self { current_bytes, total_bytes }
    }
}

/// An engine's networks.
#[async_trait]
pub trait Networks: fmt::Debug + Send + Sync {
    /// All networks called `name`: an engine may have several of one name.
    async fn find(&self, name: &str) -> Result<Vec<NetworkInfo>>;

    /// All networks that `selector` picks.
    async fn list(&self, selector: &Selector) -> Result<Vec<NetworkInfo>>;

    /// Creates a network; [`Conflict`](super::ErrorKind::Conflict) if the name is taken.
    async fn create(&self, spec: &NetworkSpec) -> Result<()>;

    /// Removes a network by id. One that is gone is success; one in use is
    /// [`Conflict`](super::ErrorKind::Conflict).
    async fn remove(&self, id: &str) -> Result<()>;
}

/// A network to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkSpec {
    /// Its name in the engine.
    pub name: String,
    /// Which driver; `None` is the engine's default.
    pub driver: Option<String>,
    /// Options of the driver.
    pub driver_options: Labels,
    /// No way out of the network.
    pub internal: bool,
    /// Containers started by hand may join it.
    pub attachable: bool,
    /// IPv4 on it; `None` is the engine's default.
    pub ipv4: Option<bool>,
    /// IPv6 on it; `None` is the engine's default.
    pub ipv6: Option<bool>,
    /// Where its addresses come from; `None` is the engine's choice.
    pub ipam: Option<Ipam>,
    /// Labels it carries.
    pub labels: Labels,
}

/// Where a network's addresses come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ipam {
    /// Which driver hands them out; `None` is the engine's default.
    pub driver: Option<String>,
    /// The ranges they are taken from; none leaves that to the driver.
    pub pools: Vec<AddressPool>,
}

/// A range of addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressPool {
    /// The network's addresses, `172.28.0.0/16`.
    pub subnet: Option<String>,
    /// Those of them that containers are given.
    pub ip_range: Option<String>,
    /// That of the gateway.
    pub gateway: Option<String>,
    /// Addresses that are not given away, by the name of what has them.
    pub reserved: Labels,
}

/// A network that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkInfo {
    /// The engine's identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Labels it carries.
    pub labels: Labels,
}

impl NetworkInfo {
    /// A network as the engine reports it.
    #[must_use]
    pub fn new(id: impl Into<String>, name: impl Into<String>, labels: Labels) -> Self {
        Self { id: id.into(), name: name.into(), labels }
    }
}

/// An engine's named volumes.
#[async_trait]
pub trait Volumes: fmt::Debug + Send + Sync {
    /// The volume called `name`, or `None`.
    async fn find(&self, name: &str) -> Result<Option<VolumeInfo>>;

    /// Creates a volume; one that exists under the name is left as it is.
    async fn create(&self, spec: &VolumeSpec) -> Result<()>;
}

/// A named volume to be made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeSpec {
    /// Its name in the engine.
    pub name: String,
    /// Which driver; `None` is the engine's default.
    pub driver: Option<String>,
    /// Options of the driver.
    pub driver_options: Labels,
    /// Labels it carries.
    pub labels: Labels,
}

/// A named volume that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeInfo {
    /// Its name.
    pub name: String,
    /// Labels it carries.
    pub labels: Labels,
}

impl VolumeInfo {
    /// A volume as the engine reports it.
    #[must_use]
    pub fn new(name: impl Into<String>, labels: Labels) -> Self {
        Self { name: name.into(), labels }
    }
}
