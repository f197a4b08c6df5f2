//! Manifests: where services come from.

mod dir;
mod fields;
mod fixed;
mod parse;
mod scalar;
mod service;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use serde::Serialize;

pub use self::dir::DirectorySource;
pub use self::fixed::FixedSource;
pub use self::service::{
    GpuDemand, HealthSettings, Manifest, McpEndpoint, ResourceLimits, RestartMode,
    ServiceDependency,
};
use crate::project::Project;

/// Reads a manifest by itself, without the files that it names.
pub(crate) fn parse_manifest(
    text: &str,
    origin: &Path,
    file: &Path,
) -> Result<(Manifest, Vec<Problem>), Vec<Problem>> {
    parse::parse(text, origin, file).map(|parsed| (parsed.manifest, parsed.problems))
}

/// Finds services.
///
/// # Contract
///
/// *What it does.* `discover` reports every service it can and every problem it meets; one bad
/// manifest never hides the others. The order of its findings carries no meaning.
///
/// *Repeating it.* Any number of times; it changes nothing.
///
/// *Errors.* There are none: whatever is wrong is a [`Problem`]. What had been found before and
/// has a problem now keeps its last good version, which is the nanny's business, not the
/// source's.
///
/// *Watching.* `watch` yields whenever `discover` may have a new answer, soon after the change and
/// not more than a few times a second. Changes may be missed, so the nanny also discovers now and
/// then. The stream ends only when dropped.
#[async_trait]
pub trait ManifestSource: fmt::Debug + Send + Sync + 'static {
    /// Looks for services now.
    async fn discover(&self) -> Discovery;

    /// Says when to look again.
    fn watch(&self) -> BoxStream<'static, Changed>;
}

/// What a source found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Discovery {
    /// Services, each with a name of its own.
    pub services: Vec<Service>,
    /// What is wrong, and where.
    pub problems: Vec<Problem>,
    /// Services whose manifests cannot be read, as far as anything is known of them: their names, and
    /// whether they need a GPU, are pinned or protected. What runs of
    /// one is shown, holds its GPU and can be stopped; if nothing does, it is not there.
    pub unreadable: Vec<Service>,
}

impl Discovery {
    /// These services, and these problems.
    #[must_use]
    pub fn new(services: Vec<Service>, problems: Vec<Problem>) -> Self {
        Self { services, problems, unreadable: Vec::new() }
    }
}

/// `discover` may have a new answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed;

/// A service as it is wanted: its manifest, and the project that runs it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Service {
    /// What its manifest says.
    pub manifest: Arc<Manifest>,
    /// Its containers, networks and volumes.
    pub project: Arc<Project>,
    /// Where it came from: its directory, or any other name for the place.
    pub origin: PathBuf,
    /// Why it cannot be started: what runs it is at fault. It is shown all the same, and what of it
    /// runs can be stopped.
    pub unusable: Option<String>,
}

impl Service {
    /// A service found at `origin`.
    #[must_use]
    pub fn new(
        manifest: impl Into<Arc<Manifest>>,
        project: impl Into<Arc<Project>>,
        origin: impl Into<PathBuf>,
    ) -> Self {
        Self {
            manifest: manifest.into(),
            project: project.into(),
            origin: origin.into(),
            unusable: None,
        }
    }
}

impl Service {
    /// The same, as one that cannot be started, and why.
    #[must_use]
    pub fn as_unusable(mut self, reason: impl Into<String>) -> Self {
        self.unusable = Some(reason.into());
        self
    }
}

/// Something wrong with a manifest or a file it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}:{line}:{column}: {message}", path.display())]
#[non_exhaustive]
pub struct Problem {
    /// Where the service comes from, as in [`Service::origin`].
    #[serde(skip)]
    pub origin: PathBuf,
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; 1 where the whole file is meant.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong and what to do about it.
    pub message: String,
    /// Whether the service can be used all the same.
    #[serde(skip)]
    pub severity: Severity,
}

impl Problem {
    /// An error at a place in a file of the service at `origin`.
    #[must_use]
    pub fn new(
        origin: impl Into<PathBuf>,
        path: impl Into<PathBuf>,
        (line, column): (usize, usize),
        message: impl Into<String>,
    ) -> Self {
        Self {
            origin: origin.into(),
            path: path.into(),
            line,
            column,
            message: message.into(),
            severity: Severity::Error,
        }
    }

    /// The same, as a hint that does not stop the service from being used.
    #[must_use]
    pub fn as_hint(mut self) -> Self {
        self.severity = Severity::Hint;
        self
    }
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// The service cannot be used as it is now.
    Error,
    /// It can; somebody should look.
    Hint,
}
