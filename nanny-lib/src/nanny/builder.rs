//! Putting a nanny together.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_core::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::changes::Changes;
use super::driver::Driver;
use super::observer::StepObserver;
use super::{Nanny, Result, Snapshot};
use crate::backend::ContainerBackend;
use crate::gpu::{Drain, Exclusive, GpuInventory, GpuPolicy, NoInventory};
use crate::journal::{self, Journal, JournalStore, StateDir};
use crate::lifecycle::{Settings, World};
use crate::manifest::{FixedSource, ManifestSource};
use crate::probe::{HealthProbe, StandardProbe};

/// So many requests may wait for the driver; one more is [`Error::Overloaded`].
const INBOX: usize = 1024;
/// So many changes are remembered.
const REMEMBERED: usize = 1024;

/// What time it is, for people.
pub(super) type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Drives a nanny for as long as it is polled; dropping it is as if the process had been killed.
pub type Driving = BoxFuture<'static, ()>;

/// Puts a [`Nanny`] together; [`Nanny::builder`] makes one.
///
/// What is not given: no backend, no services, [`StandardProbe`], [`Exclusive`], no journal.
pub struct Builder {
    backends: Vec<Arc<dyn ContainerBackend>>,
    source: Arc<dyn ManifestSource>,
    probe: Arc<dyn HealthProbe>,
    policy: Arc<dyn GpuPolicy>,
    inventory: Option<Arc<dyn GpuInventory>>,
    drain: Option<Arc<dyn Drain>>,
    settings: Settings,
    state: State,
    clock: WallClock,
    boot: Option<String>,
    observer: Option<Arc<dyn StepObserver>>,
}

/// Where the journal is kept.
#[derive(Debug)]
enum State {
    Nowhere,
    Directory(PathBuf),
    Store(Arc<dyn JournalStore>),
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            backends: Vec::new(),
            source: Arc::new(FixedSource::default()),
            probe: Arc::new(StandardProbe::default()),
            policy: Arc::new(Exclusive),
            inventory: None,
            drain: None,
            settings: Settings::default(),
            state: State::Nowhere,
            clock: Arc::new(Timestamp::now),
            boot: None,
            observer: None,
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

    /// Who finds and measures the GPUs; nobody, if not given.
    #[must_use]
    pub fn gpus(mut self, inventory: Arc<dyn GpuInventory>) -> Self {
        self.inventory = Some(inventory);
        self
    }

    /// Who knows what services have under way, and lets them finish it before they make way.
    #[must_use]
    pub fn drain(mut self, drain: Arc<dyn Drain>) -> Self {
        self.drain = Some(drain);
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
        self.state = State::Directory(path.into());
        self
    }

    /// Where the journal is kept, if not in a directory.
    #[must_use]
    pub fn journal(mut self, store: Arc<dyn JournalStore>) -> Self {
        self.state = State::Store(store);
        self
    }

    /// What time it is, for people and to compare with an engine's clock; the system's, if not
    /// given. It may jump. All deadlines are tokio's.
    #[must_use]
    pub fn wall_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Names the machine's present boot; the kernel's name for it, if not given.
    #[must_use]
    pub fn boot(mut self, boot: impl Into<String>) -> Self {
        self.boot = Some(boot.into());
        self
    }

    /// Looks at every step of the world: for simulations and tests.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn StepObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Starts the nanny, and waits until it has looked around: the source was asked, and every
    /// engine was listed or found absent.
    ///
    /// Must be called within a tokio runtime. What runs already is adopted.
    ///
    /// # Errors
    ///
    /// [`Error::StateDir`](crate::Error::StateDir) if the state directory cannot be used, or another nanny uses it.
    pub async fn start(self) -> Result<Nanny> {
        let (nanny, driving) = self.build()?;
        let task = tokio::spawn(driving);
        *nanny.driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        nanny.wait_until(|seen| seen.looked_around).await?;
        Ok(nanny)
    }

    /// The nanny, and the future that drives it, for those who spawn their own tasks, or drop them.
    ///
    /// Nothing happens before it is polled, within a tokio runtime. Until
    /// [`looked_around`](Snapshot::looked_around), a command is answered from what is known so far:
    /// services that were not found yet are not found, and engines that were not heard are away.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn build(self) -> Result<(Nanny, Driving)> {
        let store: Option<Arc<dyn JournalStore>> = match self.state {
            State::Nowhere => None,
            State::Directory(path) => Some(Arc::new(StateDir::open(&path)?)),
            State::Store(store) => Some(store),
        };
        let journal = store.as_ref().map_or_else(Journal::default, |store| store.read());
        let engines = self.backends.iter();
        let engines = engines.map(|engine| (engine.info().clone(), engine.capabilities().clone()));
        let boot = self.boot.unwrap_or_else(journal::boot_id);
        let policy_name = self.policy.name().into();
        let mut world = World::new(self.settings, self.policy, engines, journal, boot);
        if self.inventory.is_some() {
            world = world.measuring_gpus();
        }
        if self.drain.is_some() {
            world = world.draining_services();
        }
        let (requests, inbox) = mpsc::channel(INBOX);
        let (pings, pinged) = mpsc::channel(1);
        let (snapshot, readers) =
            watch::channel(Arc::new(Snapshot { gpu_policy: policy_name, ..Snapshot::default() }));
        let changes = Arc::new(Changes::new(REMEMBERED));
        let driver = Driver {
            world,
            backends: self.backends.clone(),
            source: self.source,
            probe: self.probe,
            inventory: self.inventory.unwrap_or_else(|| Arc::new(NoInventory)),
            drain: self.drain,
            journal: store,
            clock: self.clock,
            observer: self.observer,
            inbox,
            pings: pinged,
            snapshot,
            changes: Arc::clone(&changes),
        };
        let nanny = Nanny {
            inbox: requests,
            pings,
            snapshot: readers,
            backends: self.backends.into(),
            changes,
            driver: Arc::new(Mutex::new(None)),
        };
        Ok((nanny, Box::pin(driver.run())))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Builder");
        shown.field("backends", &self.backends).field("source", &self.source);
        shown.field("probe", &self.probe).field("policy", &self.policy);
        shown.field("inventory", &self.inventory);
        shown.field("settings", &self.settings).field("state", &self.state);
        shown.finish_non_exhaustive()
    }
}
