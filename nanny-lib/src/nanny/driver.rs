//! The one task that owns the world: it takes in what happens, asks [`World::step`] what to do, and
//! sees that it is done. Nothing outside is ever awaited in it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use futures_util::stream::{SelectAll, select_all};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::builder::WallClock;
use super::changes::{Change, Changes};
use super::observer::StepObserver;
use super::{Request, Result, Snapshot, effects};
use crate::backend::{ContainerBackend, Event};
use crate::gpu::{Drain, GpuInventory};
use crate::journal::JournalStore;
use crate::lifecycle::{
    Answer, CallId, Command, Effect, EngineIndex, Input, Now, Preparing, RequestId, World,
};
use crate::manifest::{Changed, ManifestSource, Problem, Severity};
use crate::nanny::{Rediscovered, StartPlan, Started, Stopped};
use crate::probe::HealthProbe;

/// Between two tries to write a journal that cannot be written.
const WRITE_AGAIN: Duration = Duration::from_secs(2);
/// How long engine calls under way may go on at shutdown.
const LAST_CALLS: Duration = Duration::from_secs(2);
/// A write of the journal that takes longer is said not to end.
const WRITE_HANGS: Duration = Duration::from_secs(10);
/// How long the last write of the journal may take.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Everything the driver works with.
pub(super) struct Driver {
    pub(super) world: World,
    pub(super) backends: Vec<Arc<dyn ContainerBackend>>,
    pub(super) source: Arc<dyn ManifestSource>,
    pub(super) probe: Arc<dyn HealthProbe>,
    pub(super) inventory: Arc<dyn GpuInventory>,
    pub(super) drain: Option<Arc<dyn Drain>>,
    pub(super) journal: Option<Arc<dyn JournalStore>>,
    pub(super) clock: WallClock,
    pub(super) observer: Option<Arc<dyn StepObserver>>,
    pub(super) inbox: mpsc::Receiver<Request>,
    pub(super) pings: mpsc::Receiver<oneshot::Sender<()>>,
    pub(super) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(super) changes: Arc<Changes>,
}

/// A caller who waits for an answer.
enum Caller {
    Start(oneshot::Sender<Result<Started>>),
    Stop(oneshot::Sender<Result<Stopped>>),
    Plan(oneshot::Sender<Result<StartPlan>>),
    Rediscover(oneshot::Sender<Result<Rediscovered>>),
}

/// What a task of the driver came to.
#[expect(clippy::large_enum_variant, reason = "nearly all are inputs, and are taken in at once")]
enum Finished {
    Input(Input),
    Journal(io::Result<()>),
}

/// What the driver keeps beside the world.
struct Desk {
    began: Instant,
    clock: WallClock,
    tasks: JoinSet<Finished>,
    calls: BTreeMap<CallId, AbortHandle>,
    callers: BTreeMap<RequestId, Caller>,
    requests: u64,
    pulling: mpsc::Sender<(CallId, Preparing)>,
    /// Since when the journal is being written, and whether it is to be written once more after that.
    writing: Option<Instant>,
    to_write: bool,
    /// Why the last one could not be written, and when that is tried again.
    unwritten: Option<(String, Instant)>,
    /// What the log has said about manifests: each fault once, as long as it lasts.
    faults: BTreeSet<String>,
}

impl Driver {
    /// Drives until every handle is gone or somebody asks for the end.
    pub(super) async fn run(mut self) {
        let (pulling, mut pulls) = mpsc::channel(64);
        let mut desk = Desk {
            began: Instant::now(),
            clock: Arc::clone(&self.clock),
            tasks: JoinSet::new(),
            calls: BTreeMap::new(),
            callers: BTreeMap::new(),
            requests: 0,
            pulling,
            writing: None,
            to_write: false,
            unwritten: None,
            faults: BTreeSet::new(),
        };
        let mut events = self.events();
        let mut changed = self.source.watch();
        let first = self.world.begin(desk.now());
        self.carry_out(&mut desk, first);
        loop {
            let tick = self.world.next_tick().map(|at| desk.began + at);
            let write_again = desk.write_again();
            // In the order of what would be missed most: what engines answer frees callers, and
            // there is only so much of it. Fixed, so that a simulation can be repeated.
            let input = tokio::select! {
                biased;
                Some(finished) = desk.tasks.join_next() => match finished {
                    Ok(Finished::Input(input)) => input,
                    Ok(Finished::Journal(written)) => {
                        desk.wrote(written);
                        self.publish(&desk);
                        if desk.unwritten.is_none() {
                            self.write_journal(&mut desk);
                        }
                        continue;
                    }
                    // A call that was given up: plug-ins' panics do not come this far.
                    Err(_) => continue,
                },
                () = at(write_again) => {
                    self.write_journal(&mut desk);
                    continue;
                }
                () = at(tick) => Input::Tick,
                request = self.inbox.recv() => match request {
                    None => break,
                    Some(Request::Shutdown) => break,
                    Some(request) => desk.register(request),
                },
                Some(caller) = self.pings.recv() => {
                    // One who has gone away only misses the answer.
                    let _ = caller.send(());
                    continue;
                }
                Some((call, progress)) = pulls.recv() => Input::Preparing(call, progress),
                Some(Changed) = changed.next() => Input::SourceChanged,
                Some((engine, event)) = events.next() => Input::Event(engine, event),
            };
            if let Input::Discovered(discovery) = &input {
                desk.complain(&discovery.problems);
            }
            if let Input::Done(call, _) = &input {
                desk.calls.remove(call);
            }
            let effects = self.step(&desk, input);
            self.publish(&desk);
            self.carry_out(&mut desk, effects);
        }
        self.end(desk).await;
    }

    fn step(&mut self, desk: &Desk, input: Input) -> Vec<Effect> {
        let now = desk.now();
        let Some(observer) = self.observer.clone() else { return self.world.step(now, input) };
        observer.before(now, &input);
        let effects = self.world.step(now, input);
        observer.after(now, &self.world, &effects);
        effects
    }

    /// What all engines say, as one stream.
    fn events(&self) -> SelectAll<BoxStream<'static, (EngineIndex, Event)>> {
        let tagged = self.backends.iter().enumerate().map(|(index, backend)| {
            backend.watch().map(move |event| (EngineIndex(index), event)).boxed()
        });
        let never = futures_util::stream::pending().boxed();
        select_all(tagged.chain([never]))
    }

    /// Shows readers what changed, before anybody is answered.
    fn publish(&mut self, desk: &Desk) {
        let now = desk.now();
        let touched = self.world.take_touched();
        let engines = self.world.engine_views();
        let degraded: Vec<_> = desk.degraded().into_iter().collect();
        let before = Arc::clone(&self.snapshot.borrow());
        let looked_around = self.world.has_looked_around();
        let (gpus, gpu_problems) = (self.world.gpu_views(), self.world.gpu_problems());
        if touched.is_empty()
            && looked_around == before.looked_around
            && engines == before.engines
            && degraded == before.degraded
            && gpus == before.gpus
            && gpu_problems == before.gpu_problems
            && self.world.foreign_gpu_names() == before.foreign_gpu_containers
            && Arc::ptr_eq(&self.world.problems(), &before.problems)
        {
            return;
        }
        let mut services = before.services.clone();
        let mut changes = Vec::new();
        for name in touched {
            let Some(view) = self.world.view(&name, now) else {
                services.remove(&name);
                continue;
            };
            let known = services.get(&name);
            changes.extend(Change::between(known.map(|known| &**known), &view));
            if known.is_none_or(|known| **known != view) {
                services.insert(name, Arc::new(view));
            }
        }
        self.snapshot.send_replace(Arc::new(Snapshot {
            looked_around,
            services,
            engines,
            gpu_services_running: self.world.gpu_services_running(),
            foreign_gpu_containers: self.world.foreign_gpu_names(),
            gpus,
            gpu_problems,
            gpu_queue: self.world.gpu_queue(now),
            gpu_policy: Arc::clone(&before.gpu_policy),
            problems: self.world.problems(),
            degraded,
        }));
        // Whoever hears of a change and looks sees it.
        for change in changes {
            self.changes.announce(now.wall, change);
        }
    }

    fn carry_out(&mut self, desk: &mut Desk, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Call { id, engine, step } => {
                    let backend = Arc::clone(&self.backends[engine.0]);
                    let pulling = desk.pulling.clone();
                    tracing::debug!(call = id.0, %step, "calling the engine");
                    let task = desk.tasks.spawn(async move {
                        let outcome = effects::take(backend, id, step, pulling).await;
                        Finished::Input(Input::Done(id, outcome))
                    });
                    desk.calls.insert(id, task);
                }
                Effect::Cancel(id) => self.cancel(desk, id),
                Effect::List { engine, issued } => {
                    let backend = Arc::clone(&self.backends[engine.0]);
                    desk.tasks.spawn(async move {
                        let result = effects::list(backend).await;
                        Finished::Input(Input::Listed { engine, issued, result })
                    });
                }
                Effect::Probe { target, run } => {
                    let probe = Arc::clone(&self.probe);
                    desk.tasks.spawn(async move {
                        let service = target.service.clone();
                        let (health, latency) = effects::probe(probe, target).await;
                        Finished::Input(Input::Probed { service, run, health, latency })
                    });
                }
                Effect::Sweep => {
                    let inventory = Arc::clone(&self.inventory);
                    desk.tasks.spawn(async move {
                        Finished::Input(Input::Swept(effects::sweep(inventory).await))
                    });
                }
                Effect::Drain { service, id, limit } => {
                    let Some(drain) = self.drain.clone() else { continue };
                    desk.tasks.spawn(async move {
                        effects::drain(drain, service, limit).await;
                        Finished::Input(Input::Drained(id))
                    });
                }
                Effect::Discover => {
                    let source = Arc::clone(&self.source);
                    desk.tasks.spawn(async move {
                        Finished::Input(Input::Discovered(effects::discover(source).await))
                    });
                }
                Effect::Reply(request, answer) => desk.reply(request, answer),
                Effect::Journal => {
                    desk.to_write = true;
                    self.write_journal(desk);
                }
                Effect::Announce(change) => {
                    tracing::info!(change = ?change, "change");
                    self.changes.announce(desk.now().wall, change);
                }
            }
        }
    }

    /// Gives a call up. Its outcome comes as the news that it was given up.
    fn cancel(&mut self, desk: &mut Desk, id: CallId) {
        if let Some(call) = desk.calls.remove(&id) {
            call.abort();
            desk.tasks.spawn(async move {
                let error = crate::backend::BackendError::new(
                    crate::backend::ErrorKind::Timeout,
                    "pull",
                    "it was given up",
                );
                Finished::Input(Input::Done(id, crate::lifecycle::Outcome::Failed(error)))
            });
        }
    }

    /// Writes the latest journal, one write at a time.
    fn write_journal(&self, desk: &mut Desk) {
        let Some(store) = &self.journal else { return };
        if desk.writing.is_some() || !std::mem::take(&mut desk.to_write) {
            return;
        }
        desk.writing = Some(Instant::now());
        let journal = self.world.journal().clone();
        let store = Arc::clone(store);
        desk.tasks.spawn(async move {
            let written = effects::write(&*store, &journal).await;
            Finished::Journal(written)
        });
    }

    /// Lets calls under way come to an end, writes the journal, and leaves all services as they are.
    async fn end(self, mut desk: Desk) {
        desk.callers.clear();
        self.changes.close();
        let last = async {
            while !desk.calls.is_empty() || desk.writing.is_some() {
                match desk.tasks.join_next().await {
                    None => break,
                    Some(Ok(Finished::Journal(written))) => desk.wrote(written),
                    Some(Ok(Finished::Input(Input::Done(id, _)))) => drop(desk.calls.remove(&id)),
                    Some(_) => {}
                }
            }
        };
        // What does not end in time goes on in the engine; the next run finds it there.
        let _ = timeout(LAST_CALLS, last).await;
        if let Some(store) = self.journal
            && desk.to_write
            && desk.writing.is_none()
        {
            match timeout(LAST_WRITE, effects::write(&*store, self.world.journal())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the journal cannot be written"),
                Err(_) => tracing::warn!("the journal was not written within {LAST_WRITE:?}"),
            }
        }
    }
}

impl Desk {
    fn now(&self) -> Now {
        Now::new(self.began.elapsed(), (self.clock)())
    }

    /// Notes whether the journal was written. If not, it is written later, as it is then.
    fn wrote(&mut self, written: io::Result<()>) {
        self.writing = None;
        let before = self.unwritten.take();
        match written {
            Ok(()) if before.is_some() => tracing::info!("the journal is written again"),
            Ok(()) => {}
            Err(error) => {
                let reason = error.to_string();
                if before.is_none_or(|(before, _)| before != reason) {
                    tracing::warn!(%error, "the journal cannot be written; going on without it");
                }
                self.unwritten = Some((reason, Instant::now() + WRITE_AGAIN));
                self.to_write = true;
            }
        }
    }

    /// When to try again to write a journal that could not be written.
    fn write_again(&self) -> Option<Instant> {
        self.unwritten.as_ref().filter(|_| self.writing.is_none()).map(|(_, at)| *at)
    }

    /// What does not work as it should, for a person.
    fn degraded(&self) -> Option<String> {
        let hangs = self.writing.filter(|since| since.elapsed() > WRITE_HANGS);
        let hangs = hangs.map(|_| "the disk does not answer");
        let failed = self.unwritten.as_ref().map(|(reason, _)| reason.as_str());
        let reason = hangs.or(failed)?;
        Some(format!(
            "the journal cannot be written, and a crash would forget what should run: {reason}"
        ))
    }

    /// Says in the log what is newly wrong with manifests.
    fn complain(&mut self, problems: &[Problem]) {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        let faults: BTreeSet<_> = errors.map(ToString::to_string).collect();
        for fault in faults.difference(&self.faults) {
            tracing::warn!("{fault}");
        }
        self.faults = faults;
    }

    /// Notes the way back of a request, and turns it into an input.
    fn register(&mut self, request: Request) -> Input {
        self.requests += 1;
        let id = RequestId(self.requests);
        let (command, caller) = match request {
            Request::Start(name, options, caller) => {
                (Command::Start(name, options), Caller::Start(caller))
            }
            Request::StartInPlaceOf(name, victims, options, caller) => {
                (Command::StartInPlaceOf(name, victims, options), Caller::Start(caller))
            }
            Request::Restart(name, options, caller) => {
                (Command::Restart(name, options), Caller::Start(caller))
            }
            Request::Stop(name, options, caller) => {
                (Command::Stop(name, options), Caller::Stop(caller))
            }
            Request::Plan(name, options, caller) => {
                (Command::Plan(name, options), Caller::Plan(caller))
            }
            Request::Rediscover(caller) => (Command::Rediscover, Caller::Rediscover(caller)),
            Request::Used(name) => return Input::Used(name),
            Request::Shutdown => return Input::Tick,
        };
        self.callers.insert(id, caller);
        Input::Command(id, command)
    }

    /// Answers a caller. One who has gone away only misses the answer.
    fn reply(&mut self, request: RequestId, answer: Answer) {
        match (self.callers.remove(&request), answer) {
            (Some(Caller::Start(caller)), Answer::Started(answer)) => drop(caller.send(answer)),
            (Some(Caller::Stop(caller)), Answer::Stopped(answer)) => drop(caller.send(answer)),
            (Some(Caller::Plan(caller)), Answer::Plan(answer)) => drop(caller.send(answer)),
            (Some(Caller::Rediscover(caller)), Answer::Rediscovered(answer)) => {
                drop(caller.send(Ok(answer)));
            }
            (caller, answer) => {
                tracing::error!(?request, ?answer, "a request was answered twice, or wrongly");
                debug_assert!(false, "{request:?} was answered twice, or with {answer:?}");
                drop(caller);
            }
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
