//! What is going on: the engines, the nanny of the moment, and what is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::journal::Journal;
use nanny_lib::lifecycle::RequestId;
use nanny_lib::manifest::Changed;
use nanny_lib::{ContainerId, Nanny};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::engine::{Engine, Mood, Op};
use super::random::Random;
use super::services;
use super::temper::Temper;

/// The play, shared by all who take part in it. Never held across an await.
#[derive(Clone)]
pub(super) struct Stage(Arc<Mutex<Play>>);

/// Everything that is not the nanny.
pub(super) struct Play {
    me: Weak<Mutex<Self>>,
    began: Instant,
    pub(super) random: Random,
    pub(super) temper: Temper,
    /// Mischief has ended.
    pub(super) healed: bool,
    pub(super) engines: [Engine; 2],
    /// Which version of its files each service has.
    pub(super) catalogue: BTreeMap<&'static str, u64>,
    /// The source says that something changed.
    pub(super) watchers: Vec<mpsc::UnboundedSender<Changed>>,
    /// Grows with every end of a nanny: whoever belongs to an earlier one is not heard any more.
    pub(super) epoch: u32,
    pub(super) nanny: Option<Nanny>,
    pub(super) driver: Option<AbortHandle>,
    pub(super) journal: Journal,
    /// What the present nanny has found in its journal, of this boot.
    pub(super) born_with: Journal,
    pub(super) boot: u32,
    /// How far the wall clock has been set off.
    pub(super) clock: jiff::SignedDuration,
    /// What the present nanny has taken in, and not answered.
    pub(super) pending: BTreeSet<RequestId>,
    /// Callers who wait: what they asked, when, and whom.
    pub(super) callers: BTreeMap<u64, (u64, String)>,
    pub(super) asked: u64,
    /// Calls of the present nanny that change a container, and are not answered.
    pub(super) in_flight: BTreeMap<u64, (ContainerId, Op)>,
    pub(super) calls: u64,
    /// When each service was last seen running, and not running.
    pub(super) last_up: BTreeMap<&'static str, u64>,
    pub(super) last_down: BTreeMap<&'static str, u64>,
    /// In a gentle run: whose containers may be stopped.
    pub(super) licences: BTreeSet<&'static str>,
    /// Once it has been asked whether all is at rest: what came of it.
    pub(super) rest: Option<Result<(), String>>,
    /// The next start is answered with an error, and executed much later.
    pub(super) next_start_is_late: bool,
    /// Containers of these names cannot be started.
    pub(super) refused: Vec<String>,
    pub(super) steps: (u64, u32),
    pub(super) broken: Option<String>,
    pub(super) ended: Arc<Notify>,
    pub(super) trace: Option<String>,
}

impl Stage {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random(seed);
        let temper = Temper::new(&mut random);
        let catalogue = services::NAMES.into_iter();
        let catalogue =
            catalogue.map(|name| (name, 1 + 2 * u64::from(random.percent(10)))).collect();
        let mut engines = [Engine::default(), Engine::default()];
        if random.percent(50) {
            engines[1].mood = Mood::Down;
        }
        for engine in &mut engines {
            if random.percent(70) {
                engine.images.insert("image".to_owned());
            }
        }
        Self(Arc::new_cyclic(|me| {
            Mutex::new(Play {
                me: Weak::clone(me),
                began: Instant::now(),
                random,
                temper,
                healed: false,
                engines,
                catalogue,
                watchers: Vec::new(),
                epoch: 0,
                nanny: None,
                driver: None,
                journal: Journal::default(),
                born_with: Journal::default(),
                boot: 0,
                clock: jiff::SignedDuration::ZERO,
                pending: BTreeSet::new(),
                callers: BTreeMap::new(),
                asked: 0,
                in_flight: BTreeMap::new(),
                calls: 0,
                last_up: BTreeMap::new(),
                last_down: BTreeMap::new(),
                licences: BTreeSet::new(),
                rest: None,
                next_start_is_late: false,
                refused: Vec::new(),
                steps: (0, 0),
                broken: None,
                ended: Arc::default(),
                trace: traced.then(String::new),
            })
        }))
    }

    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Play) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Play {
    /// Milliseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn wall(&self) -> Timestamp {
        let elapsed = jiff::SignedDuration::try_from(self.began.elapsed());
        let day = jiff::SignedDuration::from_hours(24 * 365);
        let at = elapsed.ok().and_then(|e| e.checked_add(day)?.checked_add(self.clock));
        at.and_then(|at| Timestamp::UNIX_EPOCH.checked_add(at).ok()).unwrap_or_default()
    }

    pub(super) fn stage(&self) -> Option<Stage> {
        self.me.upgrade().map(Stage)
    }

    /// Writes down what happens, for those who read the trace.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now();
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{now:>7} {}", what());
        }
    }

    /// A promise was broken: the run ends.
    pub(super) fn broken(&mut self, how: impl Into<String>) {
        let how = how.into();
        self.note(|| format!("BROKEN: {how}"));
        self.broken.get_or_insert(how);
        self.ended.notify_one();
    }

    /// Does something later.
    pub(super) fn later(&self, millis: u64, act: impl FnOnce(&mut Self) + Send + 'static) {
        let me = Weak::clone(&self.me);
        tokio::spawn(async move {
            sleep(Duration::from_millis(millis)).await;
            if let Some(stage) = me.upgrade().map(Stage) {
                stage.with(act);
            }
        });
    }

    /// Does something within the next `most` milliseconds.
    pub(super) fn soon(&mut self, most: u64, act: impl FnOnce(&mut Self) + Send + 'static) {
        let millis = self.random.below(most);
        self.later(millis, act);
    }

    /// The nanny is gone from one moment to the next. Another will follow.
    ///
    /// `reboot`: with the whole machine.
    pub(super) fn kill(&mut self, reboot: bool) {
        self.over();
        if reboot {
            self.boot += 1;
        }
        let downtime = self.random.pick(&[10, 500, 5000]).unwrap_or(500);
        let downtime = self.random.below(downtime);
        self.reborn(downtime);
    }

    /// Whatever belongs to the present nanny ends.
    pub(super) fn over(&mut self) {
        self.epoch += 1;
        self.nanny = None;
        self.pending.clear();
        self.callers.clear();
        self.in_flight.clear();
        self.watchers.clear();
        for engine in &mut self.engines {
            engine.listeners.clear();
        }
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
    }

    /// The next nanny begins after so many milliseconds.
    pub(super) fn reborn(&self, millis: u64) {
        let me = Weak::clone(&self.me);
        let epoch = self.epoch;
        tokio::spawn(async move {
            sleep(Duration::from_millis(millis)).await;
            if let Some(stage) = me.upgrade().map(Stage)
                && stage.with(|play| play.epoch == epoch)
            {
                super::begin(&stage);
            }
        });
    }
}
