//! Putting a nanny together.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot, watch};

use super::changes::Changes;
use super::driver::Driver;
use super::{Nanny, Result, Snapshot};
use crate::backend::ContainerBackend;
use crate::error::Error;
use crate::gpu::{Exclusive, GpuPolicy};
use crate::journal::{self, Journal, StateDir};
use crate::lifecycle::{Settings, World};
use crate::manifest::{FixedSource, ManifestSource};
use crate::probe::{HealthProbe, StandardProbe};

/// So many requests may wait for the driver; one more is [`Error::Overloaded`].
const INBOX: usize = 1024;
/// So many changes are remembered.
const REMEMBERED: usize = 1024;

/// Puts a [`Nanny`] together; [`Nanny::builder`] makes one.
///
/// What is not given: no backend, no services, [`StandardProbe`], [`Exclusive`], no journal.
#[derive(Debug)]
pub struct Builder {
    backends: Vec<Arc<dyn ContainerBackend>>,
    source: Arc<dyn ManifestSource>,
    probe: Arc<dyn HealthProbe>,
    policy: Arc<dyn GpuPolicy>,
    settings: Settings,
    state_dir: Option<PathBuf>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            backends: Vec::new(),
            source: Arc::new(FixedSource::default()),
            probe: Arc::new(StandardProbe::default()),
            policy: Arc::new(Exclusive),
            settings: Settings::default(),
            state_dir: None,
        }
    }

    /// Adds a backend; those added first are preferred.
    #[must_use]
    pub fn backend(mut self, backend: Arc<dyn ContainerBackend>) -> Self {
        self.backends.push(backend);
        self
    }

    /// Where services come from.
    #[must_use]
    pub fn source(mut self, source: impl ManifestSource) -> Self {
        self.source = Arc::new(source);
        self
    }

    /// How health is asked.
    #[must_use]
    pub fn probe(mut self, probe: impl HealthProbe) -> Self {
        self.probe = Arc::new(probe);
        self
    }

    /// Who decides about GPUs.
    #[must_use]
    pub fn policy(mut self, policy: impl GpuPolicy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// Periods and limits.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Where the journal is kept, so that a crash or a reboot forgets nothing.
    #[must_use]
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// Starts the nanny, and waits until it has looked around: the source was asked, and every
    /// engine was listed or found absent.
    ///
    /// Must be called within a tokio runtime. What runs already is adopted.
    ///
    /// # Errors
    ///
    /// [`Error::StateDir`] if the state directory cannot be used, or another nanny uses it.
    pub async fn start(self) -> Result<Nanny> {
        let state = match &self.state_dir {
            None => None,
            Some(path) => Some(Arc::new(StateDir::open(path)?)),
        };
        let journal = state.as_ref().map_or_else(Journal::default, |state| state.read());
        let infos: Vec<_> = self.backends.iter().map(|backend| backend.info().clone()).collect();
        let world = World::new(self.settings, self.policy, infos, journal, journal::boot_id());
        let (requests, inbox) = mpsc::channel(INBOX);
        let (snapshot, readers) = watch::channel(Arc::new(Snapshot::default()));
        let changes = Arc::new(Changes::new(REMEMBERED));
        let (ready, is_ready) = oneshot::channel();
        let driver = Driver {
            world,
            backends: self.backends.clone(),
            source: self.source,
            probe: self.probe,
            state,
            inbox,
            snapshot,
            changes: Arc::clone(&changes),
        };
        let task = tokio::spawn(driver.run(ready));
        is_ready.await.map_err(|_| Error::ShuttingDown)?;
        Ok(Nanny {
            inbox: requests,
            snapshot: readers,
            backends: self.backends.into(),
            changes,
            driver: Arc::new(Mutex::new(Some(task))),
        })
    }
}
