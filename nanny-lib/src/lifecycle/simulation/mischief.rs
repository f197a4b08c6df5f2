//! What callers, other hands and bad luck do.

use std::time::Duration;

use super::calls::Fate;
use super::engine::{Random, Starter};
use super::{CHAOS, Happening, Simulation, Verdict, services};
use crate::backend::{ContainerState, ErrorKind, EventKind};
use crate::lifecycle::{Command, Input, RequestId};
use crate::name::ContainerId;
use crate::nanny::{StartOptions, StopOptions, Wait};
use crate::project::{Step, labels};

/// How bad things are in this run: percentages, and milliseconds.
#[derive(Debug)]
pub(super) struct Temper {
    pause: u64,
    delay: u64,
    faults: u64,
    crashes: u64,
    lost_events: u64,
    hands: u64,
    outages: u64,
    kills: u64,
    edits: u64,
}

impl Temper {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut one_of = |these: &[u64]| random.pick(these).unwrap_or(0);
        Self {
            pause: one_of(&[200, 800, 2000, 6000]),
            delay: one_of(&[5, 100, 1000, 4000]),
            faults: one_of(&[0, 0, 5, 25]),
            crashes: one_of(&[0, 5, 20]),
            lost_events: one_of(&[0, 10, 100]),
            hands: one_of(&[0, 0, 10, 25]),
            outages: one_of(&[0, 0, 3, 10]),
            kills: one_of(&[0, 0, 2, 8]),
            edits: one_of(&[0, 0, 5, 15]),
        }
    }

    pub(super) fn delay(&self, random: &mut Random) -> u64 {
        if random.percent(10) { self.delay } else { self.delay.min(50) }
    }

    pub(super) fn fate(&self, random: &mut Random, chaos: bool) -> Fate {
        if !chaos || !random.percent(self.faults) {
            return Fate::Obeyed;
        }
        let kinds = [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Conflict,
            ErrorKind::NotFound,
            ErrorKind::Invalid,
        ];
        match random.below(8) {
            0 => Fate::Late,
            1 | 2 => Fate::Lost(ErrorKind::Timeout),
            3 => Fate::Lost(ErrorKind::Unavailable),
            _ => Fate::Refused(random.pick(&kinds).unwrap_or(ErrorKind::Timeout)),
        }
    }

    pub(super) fn crashes(&self, random: &mut Random, chaos: bool) -> bool {
        chaos && random.percent(self.crashes)
    }

    /// How many times an event arrives.
    pub(super) fn echoes(&self, random: &mut Random, chaos: bool) -> u64 {
        match random.below(100) {
            lost if lost < self.lost_events && chaos => 0,
            twice if twice > 95 => 2,
            _ => 1,
        }
    }
}

impl Simulation {
    /// Something is done to the nanny, and more will be.
    pub(super) fn mischief(&mut self) -> Verdict {
        if self.now >= CHAOS {
            return Ok(());
        }
        let pause = 1 + self.random.below(self.temper.pause);
        self.at(self.now + pause, Happening::Mischief);
        if self.random.percent(self.temper.hands) {
            self.meddle();
            return self.check_engines();
        }
        if self.random.percent(self.temper.outages) {
            self.outage();
            return Ok(());
        }
        if self.random.percent(self.temper.kills) {
            return self.crash();
        }
        if self.random.percent(self.temper.edits) {
            self.edit();
            return if self.random.percent(50) { self.step(Input::SourceChanged) } else { Ok(()) };
        }
        // Nobody can ask before that.
        if !self.world.has_looked_around() {
            return Ok(());
        }
        let command = self.command();
        self.requests += 1;
        let request = RequestId(self.requests);
        self.pending.insert(request, format!("{command:?}"));
        self.step(Input::Command(request, command))
    }

    fn command(&mut self) -> Command {
        let name = self.random.pick(&services::NAMES).unwrap_or("a").to_owned();
        let options = StartOptions {
            force: self.random.percent(50),
            wait: self.random.pick(&[Wait::None, Wait::Running, Wait::Healthy]).unwrap_or_default(),
            timeout: Duration::from_millis(self.random.below(20_000)),
            rollback: self.random.percent(80),
            recreate: self.random.percent(10),
        };
        match self.random.below(20) {
            0..11 => Command::Start(name, options),
            11..14 => Command::Stop(name, StopOptions { remove: self.random.percent(40) }),
            14..17 => Command::Restart(name, options),
            17 | 18 => Command::Rediscover,
            _ => Command::Plan(name, options),
        }
    }

    /// Other hands at the engine.
    fn meddle(&mut self) {
        let engine = usize::from(self.engines[1].up && self.random.percent(10));
        let ids: Vec<ContainerId> = self.engines[engine].containers.keys().cloned().collect();
        let Some(id) = self.random.pick(&ids).filter(|_| self.random.percent(80)) else {
            self.compose_up(engine);
            return;
        };
        let step = match self.random.below(8) {
            0..3 => start(id.clone()),
            3 => Step::Stop { id: id.clone(), grace: Duration::from_secs(1) },
            4 => Step::Remove { id: id.clone() },
            5 => return self.freeze(engine, &id),
            _ => {
                let run = self.engines[engine].containers[&id].run;
                self.note(|| format!("  {} crashes", id.as_str()));
                return self.end(engine, &id, run, 1);
            }
        };
        self.note(|| format!("by hand: {step}"));
        // Whatever comes of it.
        let _ = self.execute(engine, &step, Starter::Others);
    }

    fn freeze(&mut self, engine: usize, id: &ContainerId) {
        let Some(held) = self.engines[engine].containers.get_mut(id) else { return };
        held.info.state = match held.info.state {
            ContainerState::Running => ContainerState::Paused,
            ContainerState::Paused => ContainerState::Running,
            other => other,
        };
        self.emit(engine, id, &EventKind::Changed);
    }

    /// A container of one of the projects is made and started by hand.
    fn compose_up(&mut self, engine: usize) {
        let name = self.random.pick(&services::NAMES).unwrap_or("a");
        let service = services::service(name, 1);
        let parts: Vec<_> = service.project.parts.values().cloned().collect();
        let Some(part) = self.random.pick(&parts) else { return };
        let mut spec = part.spec;
        spec.labels.retain(|label, _| !label.starts_with("dev.nanny.s"));
        if self.random.percent(20) {
            // None of ours at all, and its name may be in our way.
            spec.labels.remove(services::PROJECT);
        }
        debug_assert!(!spec.labels.contains_key(labels::SERVICE));
        self.note(|| format!("by hand: up {}", spec.name));
        if let Ok(id) = self.engines[engine].create(["x", "y"][engine], &spec) {
            let _ = self.execute(engine, &start(id), Starter::Others);
        }
    }

    fn outage(&mut self) {
        let engine = usize::from(self.random.percent(30));
        let back = self.now + self.random.below(8000);
        self.note(|| format!("engine {engine} is out of reach until {back}"));
        self.engines[engine].up = false;
        self.at(back, Happening::Returns(engine));
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
    }

    /// From now on all is well.
    pub(super) fn heal(&mut self) -> Verdict {
        self.note(|| "all is well from now on".to_owned());
        for engine in 0..self.engines.len() {
            if !self.engines[engine].up {
                self.at(self.now, Happening::Returns(engine));
            }
            let ids: Vec<_> = self.engines[engine].containers.keys().cloned().collect();
            for container in ids {
                self.at(self.now, Happening::Healthy { engine, container });
            }
        }
        self.step(Input::SourceChanged)
    }
}

fn start(id: ContainerId) -> Step {
    Step::Start { part: "main".into(), id, settle: Duration::ZERO }
}
