//! The handle: how a program talks to its nanny.

mod builder;
mod changes;
mod driver;
mod effects;
mod observer;
mod requests;
mod snapshot;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use self::builder::{Builder, Driving};
pub use self::changes::{Change, Heard, Recorded};
pub use self::observer::StepObserver;
pub use self::requests::{
    Rediscovered, StartOptions, StartPlan, Started, StopOptions, Stopped, Verdict, Wait,
};
pub use self::snapshot::{
    ContainerView, EngineState, EngineView, GpuClaimView, GpuUserView, GpuView, HealthView,
    QueueView, ServiceView, Snapshot, Status, Tally,
};
use crate::backend::{BackendError, ContainerBackend, LogLine, LogOptions, Stats};
use crate::error::Error;
use crate::name::{ContainerId, ServiceName};

/// So many containers are read side by side.
const STATS_AT_ONCE: usize = 16;

/// What the API answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A handle to a running nanny. Cheap to clone.
///
/// *Cancellation.* Dropping any of these futures drops only the answer: what was asked for goes on.
#[derive(Clone)]
pub struct Nanny {
    inbox: mpsc::Sender<Request>,
    pings: mpsc::Sender<oneshot::Sender<()>>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    backends: Arc<[Arc<dyn ContainerBackend>]>,
    changes: Arc<changes::Changes>,
    /// None if somebody else spawned it.
    driver: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// The log of one container of a service.
pub struct ContainerLog {
    /// The container.
    pub id: ContainerId,
    /// The container's name, without its project's: `web-1`.
    pub name: String,
    /// Its lines, as [`ContainerBackend::logs`](crate::backend::ContainerBackend::logs) gives them.
    pub lines: BoxStream<'static, Result<LogLine, BackendError>>,
}

/// What one running container of a service uses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerStats {
    /// The container's name, without its project's: `web-1`.
    pub name: String,
    /// One reading; `None` if its engine gave none in time.
    pub stats: Option<Stats>,
}

impl fmt::Debug for ContainerLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerLog").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A request on its way to the driver, with the way back.
pub(crate) enum Request {
    Start(String, StartOptions, oneshot::Sender<Result<Started>>),
    StartInPlaceOf(String, Vec<ServiceName>, StartOptions, oneshot::Sender<Result<Started>>),
    Stop(String, StopOptions, oneshot::Sender<Result<Stopped>>),
    Restart(String, StartOptions, oneshot::Sender<Result<Started>>),
    Plan(String, StartOptions, oneshot::Sender<Result<StartPlan>>),
    Rediscover(oneshot::Sender<Result<Rediscovered>>),
    Used(ServiceName),
    Shutdown,
}

impl Nanny {
    /// Puts a nanny together.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// What there is to see now. Never waits.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Waits until `condition` holds of a snapshot, and returns that snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::ShuttingDown`] if the nanny ends before.
    pub async fn wait_until(
        &self,
        mut condition: impl FnMut(&Snapshot) -> bool,
    ) -> Result<Arc<Snapshot>> {
        let mut snapshot = self.snapshot.clone();
        let found = snapshot.wait_for(|now| condition(now)).await;
        found.map(|now| Arc::clone(&now)).map_err(|_| Error::ShuttingDown)
    }

    /// Ensures that a service runs.
    ///
    /// A start of a service that runs changes nothing; a start of one that is being started joins
    /// it; a start during a stop ends running.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::GpuConflict`] without `force`, [`Error::StartFailed`],
    /// [`Error::StartTimeout`], [`Error::Cancelled`], [`Error::EngineUnavailable`].
    pub async fn start(&self, name: &str, options: StartOptions) -> Result<Started> {
        self.ask(|answer| Request::Start(name.to_owned(), options, answer)).await
    }

    /// Ensures that a service runs, as [`start`](Self::start) does, but only if nobody but `victims` is
    /// stopped for it, by force or because the policy would: what somebody agreed to is what happens,
    /// however much has changed since they were asked.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); [`Error::GpuConflict`] names all that would have to be stopped, if
    /// one of them is not in `victims`.
    pub async fn start_in_place_of(
        &self,
        name: &str,
        victims: Vec<ServiceName>,
        options: StartOptions,
    ) -> Result<Started> {
        let name = name.to_owned();
        self.ask(|answer| Request::StartInPlaceOf(name, victims, options, answer)).await
    }

    /// Ensures that a service does not run. A stop during a start cancels the start.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::StopFailed`], [`Error::EngineUnavailable`].
    pub async fn stop(&self, name: &str, options: StopOptions) -> Result<Stopped> {
        self.ask(|answer| Request::Stop(name.to_owned(), options, answer)).await
    }

    /// Notes that a service is used now: of several that could make way, the one that was not used
    /// for longest does. A start counts as use.
    pub fn note_use(&self, service: &ServiceName) {
        // One who has too much to do only misses that.
        let _ = self.inbox.try_send(Request::Used(service.clone()));
    }

    /// Stops a service and starts it, keeping its claim on the GPU in between.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn restart(&self, name: &str, options: StartOptions) -> Result<Started> {
        self.ask(|answer| Request::Restart(name.to_owned(), options, answer)).await
    }

    /// Says what a start would do, and does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn plan(&self, name: &str, options: StartOptions) -> Result<StartPlan> {
        self.ask(|answer| Request::Plan(name.to_owned(), options, answer)).await
    }

    /// Looks for services now. The nanny watches its sources, so this is seldom needed.
    ///
    /// # Errors
    ///
    /// [`Error::ShuttingDown`].
    pub async fn rediscover(&self) -> Result<Rediscovered> {
        self.ask(Request::Rediscover).await
    }

    /// The logs of a service's containers, each as a stream of its own. A service that never
    /// started has none.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::EngineUnavailable`].
    pub fn logs(&self, name: &str, options: LogOptions) -> Result<Vec<ContainerLog>> {
        let service = self.service(name)?;
        let Some(backend) = self.backend_of(&service) else { return Ok(Vec::new()) };
        let log = |container: &ContainerView| ContainerLog {
            id: container.id.clone(),
            name: short_name(&service, container),
            lines: backend.logs(&container.id, options),
        };
        Ok(service.containers.iter().map(log).collect())
    }

    /// What a service's running containers use, by name, read now. An engine that does not say, or
    /// not within three seconds, leaves a gap and is no error.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn stats(&self, name: &str) -> Result<Vec<ContainerStats>> {
        let service = self.service(name)?;
        let Some(backend) = self.backend_of(&service) else { return Ok(Vec::new()) };
        let running = service.containers.iter().filter(|container| container.state.holds());
        let reading = |container: &ContainerView| {
            let name = short_name(&service, container);
            let stats = effects::stats(Arc::clone(backend), container.id.clone());
            async move { ContainerStats { name, stats: stats.await } }
        };
        let readings: Vec<_> = running.map(reading).collect();
        Ok(stream::iter(readings).buffered(STATS_AT_ONCE).collect().await)
    }

    /// What happened after the change numbered `after`, and all that follows; 0 is all that is
    /// remembered. The stream ends with the nanny. By the time that a change is told, the snapshot
    /// shows it.
    #[must_use]
    pub fn changes(&self, after: u64) -> BoxStream<'static, Heard> {
        Arc::clone(&self.changes).follow(after)
    }

    /// The number of the latest change, 0 before the first: [`changes`](Self::changes) after it tells
    /// nothing but news.
    #[must_use]
    pub fn latest_change(&self) -> u64 {
        self.changes.latest()
    }

    /// Waits until the nanny has noticed this, which it does between any two steps: proof that it
    /// still moves, for a watchdog that gives it a time to answer in. However many requests wait.
    ///
    /// # Errors
    ///
    /// [`Error::ShuttingDown`].
    pub async fn responds(&self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.pings.send(answer).await.map_err(|_| Error::ShuttingDown)?;
        answered.await.map_err(|_| Error::ShuttingDown)
    }

    /// Waits until the nanny has ended: by [`shutdown`](Self::shutdown), or because of a fault of its
    /// own. A server should end then, too, and be started anew.
    pub async fn ended(&self) {
        self.inbox.closed().await;
    }

    /// Ends the nanny: requests under way are answered with [`Error::ShuttingDown`], the journal is
    /// written, and services are left as they are. Dropping the last handle does the same, unseen.
    pub async fn shutdown(&self) {
        // Already gone is as good.
        let _ = self.inbox.send(Request::Shutdown).await;
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        match driver {
            Some(driver) => drop(driver.await),
            None => self.ended().await,
        }
    }

    /// A service as last seen.
    fn service(&self, name: &str) -> Result<Arc<ServiceView>> {
        let found = self.snapshot.borrow().services.get(name).cloned();
        found.ok_or_else(|| Error::NotFound { name: name.to_owned() })
    }

    /// The engine that a service is on.
    fn backend_of(&self, service: &ServiceView) -> Option<&Arc<dyn ContainerBackend>> {
        let name = service.backend.as_ref()?;
        self.backends.iter().find(|backend| backend.info().name == *name)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.inbox.try_send(request(answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::ShuttingDown,
        })?;
        answered.await.unwrap_or(Err(Error::ShuttingDown))
    }
}

impl fmt::Debug for Nanny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nanny").finish_non_exhaustive()
    }
}

/// A container's name, without its project's.
fn short_name(service: &ServiceView, container: &ContainerView) -> String {
    let rest = container.name.strip_prefix(&service.project);
    rest.and_then(|rest| rest.strip_prefix('-')).unwrap_or(&container.name).to_owned()
}
