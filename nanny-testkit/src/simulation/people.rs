//! What callers, other hands and bad luck do.

use std::time::Duration;

use nanny_lib::backend::{ContainerState, EventKind, NetworkSpec, RestartPolicy};
use nanny_lib::manifest::Changed;
use nanny_lib::project::labels;
use nanny_lib::{ContainerId, Error, Nanny, StartOptions, StopOptions, Wait};

use super::calls::shown;
use super::engine::{Mood, Op, Reply, Starter};
use super::play::{Play, Stage};
use super::services;

/// What a caller asks for.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Start(&'static str, StartOptions),
    Restart(&'static str, StartOptions),
    Stop(&'static str, StopOptions),
    Plan(&'static str, StartOptions),
    Rediscover,
}

/// What a caller is told, as far as it is judged.
#[derive(Debug)]
pub(super) enum Told {
    /// It runs now.
    Runs,
    /// It is on its way.
    Pending,
    Down,
    Else,
}

impl Ask {
    pub(super) async fn put(&self, nanny: &Nanny) -> Result<(Told, String), Error> {
        let told = match self {
            Self::Start(name, options) | Self::Restart(name, options) => {
                let started = if matches!(self, Self::Start(..)) {
                    nanny.start(name, *options).await?
                } else {
                    nanny.restart(name, *options).await?
                };
                let words = format!("{started:?}");
                if started.pending { (Told::Pending, words) } else { (Told::Runs, words) }
            }
            Self::Stop(name, options) => {
                (Told::Down, format!("{:?}", nanny.stop(name, *options).await?))
            }
            Self::Plan(name, options) => {
                (Told::Else, format!("{:?}", nanny.plan(name, *options).await?))
            }
            Self::Rediscover => (Told::Else, format!("{:?}", nanny.rediscover().await?)),
        };
        Ok(told)
    }
}

impl Play {
    /// Something is done to the nanny, and more will be.
    pub(super) fn mischief(&mut self) {
        if self.healed {
            return;
        }
        if self.temper.only_reads_later && self.now() > QUIET && self.callers.is_empty() {
            self.temper.readers = true;
        }
        let pause = 1 + self.random.below(self.temper.pause);
        self.later(pause, Self::mischief);
        let temper = self.temper.clone();
        if self.random.percent(temper.hands) {
            self.meddle();
        } else if self.random.percent(temper.outages) {
            self.outage();
        } else if self.random.percent(temper.kills) {
            self.end_nanny();
        } else if self.random.percent(temper.edits) {
            self.edit();
        } else if self.random.percent(temper.clock) {
            let days = i64::try_from(self.random.below(3)).unwrap_or(0) - 1;
            self.clock += jiff::SignedDuration::from_hours(24 * days);
            self.note(|| format!("the wall clock jumps by {days} days"));
        } else {
            self.ask_something();
        }
        self.judge_engines();
    }

    fn ask_something(&mut self) {
        let name = self.random.pick(&services::NAMES).unwrap_or("a");
        let mut options = StartOptions::default();
        options.force = self.random.percent(self.temper.force);
        options.wait =
            self.random.pick(&[Wait::None, Wait::Running, Wait::Healthy]).unwrap_or_default();
        options.timeout = Duration::from_millis(self.random.below(20_000));
        options.rollback = self.random.percent(80);
        options.recreate = self.random.percent(10);
        if self.random.percent(self.temper.queue) {
            options.queue = Duration::from_millis(self.random.below(15_000));
        }
        let ask = match self.random.below(20) {
            _ if self.temper.only_reads_later && self.now() > READING => match self.random.below(3)
            {
                0 => Ask::Rediscover,
                _ => Ask::Plan(name, options),
            },
            0..11 => Ask::Start(name, options),
            11..14 => {
                let remove = self.random.percent(40);
                let stop = if remove { StopOptions::removing() } else { StopOptions::default() };
                Ask::Stop(name, stop)
            }
            14..17 => Ask::Restart(name, options),
            17 | 18 => Ask::Rediscover,
            _ => Ask::Plan(name, options),
        };
        self.ask(ask);
    }

    /// A caller asks the nanny of the moment, and waits for the answer.
    fn ask(&mut self, ask: Ask) {
        let Some(nanny) = self.nanny.clone() else { return };
        // Nobody can ask before that.
        if !nanny.snapshot().looked_around {
            return;
        }
        self.asked += 1;
        let (number, asked, epoch) = (self.asked, self.now(), self.epoch);
        self.note(|| format!("? {number} {ask:?}"));
        self.license(&ask);
        self.callers.insert(number, (asked, format!("{ask:?}")));
        let Some(stage) = self.stage() else { return };
        tokio::spawn(async move {
            let answer = ask.put(&nanny).await;
            stage.with(|play| {
                if play.epoch == epoch {
                    play.callers.remove(&number);
                    play.note(|| format!("! {number} {answer:?}"));
                    play.judge_answer(&ask, asked, &answer);
                }
            });
        });
    }

    /// Other hands at the engine.
    fn meddle(&mut self) {
        let second = self.engines[1].mood == Mood::Up && self.random.percent(10);
        let engine = usize::from(second);
        let ids: Vec<ContainerId> = self.engines[engine].containers.keys().cloned().collect();
        let Some(id) = self.random.pick(&ids).filter(|_| self.random.percent(80)) else {
            self.compose_up(engine);
            return;
        };
        let op = match self.random.below(11) {
            10 => return self.meddle_with_network(engine),
            0..3 => Op::Start(id),
            3 => Op::Stop(id, Duration::from_secs(1)),
            4 => Op::Remove(id),
            5 => Op::Kill(id),
            6 => return self.freeze(engine, &id),
            7 => return self.rename(engine, &id),
            _ => {
                let run = self.engines[engine].containers[&id].run;
                self.note(|| format!("  {} crashes", id.as_str()));
                return self.end(engine, &id, run, 1);
            }
        };
        self.note(|| format!("by hand: {}", shown(&op)));
        // Whatever comes of it.
        let _ = self.execute(engine, &op, Starter::Others);
    }

    fn freeze(&mut self, engine: usize, id: &ContainerId) {
        let now = self.now();
        let Some(held) = self.engines[engine].containers.get_mut(id) else { return };
        held.info.state = match held.info.state {
            ContainerState::Running => ContainerState::Paused,
            ContainerState::Paused => ContainerState::Running,
            other => other,
        };
        held.changed = now;
        self.note(|| format!("by hand: pause {}", id.as_str()));
        self.emit(engine, id, &EventKind::Changed);
    }

    /// The network of `d` is taken away, or a stranger's of that name is made.
    fn meddle_with_network(&mut self, engine: usize) {
        let networks = &mut self.engines[engine].networks;
        if networks.is_empty() {
            let stranger = NetworkSpec { name: "d_net".to_owned(), ..NetworkSpec::default() };
            let _ = self.engines[engine].create_network(&stranger);
        } else {
            networks.clear();
        }
        self.note(|| "by hand: network d_net".to_owned());
    }

    fn rename(&mut self, engine: usize, id: &ContainerId) {
        let now = self.now();
        let taken = self.random.below(3);
        let Some(held) = self.engines[engine].containers.get_mut(id) else { return };
        held.info.name = format!("renamed-{}-{taken}", id.as_str());
        held.changed = now;
        self.note(|| format!("by hand: rename {}", id.as_str()));
        self.emit(engine, id, &EventKind::Changed);
    }

    /// A container of one of the projects, or of nobody's, is made and started by hand.
    fn compose_up(&mut self, engine: usize) {
        let name = self.random.pick(&services::NAMES).unwrap_or("a");
        let service = services::service(name, 1);
        let parts: Vec<_> = service.project.parts.values().cloned().collect();
        let Some(part) = self.random.pick(&parts) else { return };
        let mut spec = part.spec;
        spec.restart = Some(part.restart);
        match self.random.below(10) {
            // Another nanny's, with a service of the same name.
            0 => {
                spec.labels.remove(services::PROJECT);
                spec.labels.insert(labels::ORIGIN.to_owned(), "elsewhere".to_owned());
                spec.name = format!("{}-elsewhere", spec.name);
            }
            // A stranger's, and its name is in our way.
            1 => spec.labels.clear(),
            // Compose makes a container anew, and is killed half-way.
            2 => {
                spec.name = format!("000000000000_{}", spec.name);
                self.note(|| format!("by hand: half of a recreation, {}", spec.name));
                let _ = self.execute(engine, &Op::Create(Box::new(spec)), Starter::Others);
                return;
            }
            // The project's own, made by Compose.
            _ => spec
                .labels
                .retain(|label, _| !label.starts_with("dev.nanny.s") && label != labels::ORIGIN),
        }
        self.note(|| format!("by hand: up {} {:?}", spec.name, spec.labels));
        if let Ok((Reply::Made(id), _)) =
            self.execute(engine, &Op::Create(Box::new(spec)), Starter::Others)
        {
            let _ = self.execute(engine, &Op::Start(id), Starter::Others);
        }
    }

    /// An engine cannot be reached, is wedged, or starts anew.
    fn outage(&mut self) {
        let engine = usize::from(self.random.percent(30));
        if self.engines[engine].mood != Mood::Up {
            return;
        }
        let lasts = self.random.below(8000);
        match self.random.below(5) {
            4 => {
                self.note(|| format!("engine {engine} is restarted, for {lasts} ms"));
                self.stop_all(engine);
                let ends = self.random.below(2000);
                self.later(ends, move |play| {
                    if play.engines[engine].mood == Mood::Up {
                        play.turn(engine, Mood::Down);
                        play.later(lasts, move |play| {
                            play.die_with_engine(engine);
                            play.recover(engine);
                        });
                    }
                });
            }
            0 => {
                let lasts = lasts * 4;
                self.note(|| format!("engine {engine} answers nobody for {lasts} ms"));
                self.turn(engine, Mood::Wedged);
                self.later(lasts, move |play| play.recover(engine));
            }
            1 => {
                self.note(|| format!("engine {engine} dies, and is back in {lasts} ms"));
                self.turn(engine, Mood::Down);
                self.later(lasts, move |play| {
                    play.die_with_engine(engine);
                    play.recover(engine);
                });
            }
            _ => {
                self.note(|| format!("engine {engine} is out of reach for {lasts} ms"));
                self.turn(engine, Mood::Down);
                self.later(lasts, move |play| play.recover(engine));
            }
        }
    }

    /// An engine that is told to end stops what it runs first.
    fn stop_all(&mut self, engine: usize) {
        let ids: Vec<_> = self.engines[engine].containers.keys().cloned().collect();
        for id in ids {
            let _ = self.execute(engine, &Op::Stop(id, Duration::from_secs(1)), Starter::Others);
        }
    }

    fn recover(&mut self, engine: usize) {
        if self.engines[engine].mood != Mood::Up {
            self.note(|| format!("engine {engine} is back"));
            self.turn(engine, Mood::Up);
        }
    }

    /// An engine that starts anew has lost its containers' runs, and brings back those whose policy
    /// says so: some that had been stopped before as well.
    fn die_with_engine(&mut self, engine: usize) {
        let ids: Vec<_> = self.engines[engine].containers.keys().cloned().collect();
        for id in ids {
            let held = &self.engines[engine].containers[&id];
            let (run, ran, policy) = (held.run, held.info.state.holds(), held.info.restart);
            let stopped = held.asked_to_stop || held.stopping;
            self.end(engine, &id, run, 137);
            let comes_back = match policy {
                RestartPolicy::Always | RestartPolicy::OnFailure { .. } => ran || stopped,
                RestartPolicy::UnlessStopped => ran && !stopped,
                _ => false,
            };
            if comes_back {
                self.revive(engine, &id, 2000);
            }
        }
    }

    /// The nanny is killed, alone or with its machine, or ended as it should be.
    fn end_nanny(&mut self) {
        match self.random.below(10) {
            0 => {
                self.note(|| "the machine is rebooted".to_owned());
                for engine in 0..self.engines.len() {
                    self.turn(engine, Mood::Down);
                    self.die_with_engine(engine);
                    let lasts = self.random.below(8000);
                    self.later(lasts, move |play| play.recover(engine));
                }
                self.kill(true);
            }
            1..5 => self.shut_down(),
            _ => {
                self.note(|| "the nanny is killed".to_owned());
                self.kill(false);
            }
        }
    }

    /// The nanny is asked to end.
    pub(super) fn shut_down(&mut self) {
        let Some(nanny) = self.nanny.take() else { return };
        self.note(|| "the nanny is asked to end".to_owned());
        let (Some(stage), epoch) = (self.stage(), self.epoch) else { return };
        tokio::spawn(async move {
            let ended = tokio::time::timeout(SHUTDOWN, nanny.shutdown()).await;
            stage.with(|play| {
                if ended.is_err() {
                    play.broken(format!("L4: the shutdown takes longer than {SHUTDOWN:?}"));
                }
                if play.epoch == epoch {
                    play.over();
                    let downtime = play.random.below(1000);
                    play.reborn(downtime);
                }
            });
        });
    }

    fn edit(&mut self) {
        let name = self.random.pick(&services::NAMES).unwrap_or("a");
        let mut variant = self.random.below(4);
        // Files that say that they need a GPU go on saying so, or go.
        if (name, self.catalogue.get(name)) == ("e", Some(&3)) {
            variant = 3 * (variant & 1);
        }
        self.note(|| format!("{name} is now variant {variant}"));
        if variant == 0 {
            self.catalogue.remove(name);
        } else {
            self.catalogue.insert(name, variant);
        }
        if self.random.percent(50) {
            self.say_changed();
        }
    }

    pub(super) fn say_changed(&self) {
        for watcher in &self.watchers {
            // Nobody listens where a nanny has just died.
            let _ = watcher.send(Changed);
        }
    }

    /// From now on all is well.
    pub(super) fn heal(&mut self) {
        self.note(|| "all is well from now on".to_owned());
        self.healed = true;
        self.temper.calm_down();
        for engine in 0..self.engines.len() {
            self.recover(engine);
            let ids: Vec<_> = self.engines[engine].containers.keys().cloned().collect();
            for id in ids {
                self.gets_healthy(engine, &id);
            }
        }
        self.say_changed();
    }

    /// The container of this name, wherever it is.
    fn named(&self, name: &str) -> Option<(usize, ContainerId)> {
        let mut engines = self.engines.iter().enumerate();
        engines.find_map(|(index, engine)| {
            let mut held = engine.containers.iter();
            held.find(|(_, held)| held.info.name == name).map(|(id, _)| (index, id.clone()))
        })
    }

    /// How many times the container of this name has been started.
    pub(super) fn run_of(&self, name: &str) -> Option<u64> {
        self.named(name).map(|(engine, id)| self.engines[engine].containers[&id].run)
    }

    /// The container of this name ends by itself; whether it ran.
    pub(super) fn crash(&mut self, name: &str) -> bool {
        let Some((engine, id)) = self.named(name) else { return false };
        let held = &self.engines[engine].containers[&id];
        let (run, ran) = (held.run, held.info.state.holds());
        self.note(|| format!("{name} crashes"));
        self.end(engine, &id, run, 1);
        ran
    }

    /// Somebody does something to the container of this name.
    pub(super) fn by_hand(&mut self, name: &str, op: impl FnOnce(ContainerId) -> Op) {
        if let Some((engine, id)) = self.named(name) {
            let op = op(id);
            self.note(|| format!("by hand: {}", shown(&op)));
            let _ = self.execute(engine, &op, Starter::Others);
        }
    }

    /// What strangers left is cleared away, so that it is in nobody's way.
    pub(super) fn clear_strangers(&mut self) {
        for engine in &mut self.engines {
            engine.networks.retain(|_, network| network.labels == services::identity("d"));
        }
        for engine in 0..self.engines.len() {
            let all = self.engines[engine].containers.iter();
            let strangers: Vec<_> = all
                .filter(|(_, held)| services::of(&held.info).is_none())
                .map(|(id, _)| id.clone())
                .collect();
            for id in strangers {
                let _ = self.execute(engine, &Op::Remove(id), Starter::Others);
            }
        }
    }
}

/// In some gentle runs, callers only look from here on, in milliseconds ...
const READING: u64 = 8000;
/// ... and from here on, nothing may be done any more but by those who asked before.
const QUIET: u64 = 30_000;
/// How long the end of a nanny may take.
const SHUTDOWN: Duration = Duration::from_secs(10);

impl Stage {
    /// Asks, and waits for the answer.
    pub(super) async fn demand(&self, ask: &Ask, within: Duration) -> Option<Result<Told, Error>> {
        let nanny = self.with(|play| {
            play.note(|| format!("? {ask:?}"));
            play.nanny.clone()
        })?;
        let answer = tokio::time::timeout(within, ask.put(&nanny)).await.ok()?;
        self.with(|play| play.note(|| format!("! {answer:?}")));
        Some(answer.map(|(told, _)| told))
    }
}
