//! The health monitor: when to probe, and what a series of answers means.

use std::time::Duration;

use jiff::Timestamp;

use super::world::{Out, Timer, World};
use super::{Effect, Now};
use crate::backend::EngineHealth;
use crate::manifest::HealthSettings;
use crate::name::ServiceName;
use crate::probe::{Health, ProbeTarget};

/// How many probes may be under way at once.
const MOST_AT_ONCE: usize = 16;
/// Between two probes of a service that was not healthy since its start, in its first seconds.
const FAST: Duration = Duration::from_millis(250);
/// How long probes come at [`FAST`].
const FAST_FOR: Duration = Duration::from_secs(10);
/// The same, after that; and of one that was healthy and is not.
const WATCHFUL: Duration = Duration::from_secs(1);

/// What is known of one service's health.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    /// Grows with every run of the service: answers about an earlier run do not count.
    pub(super) run: u64,
    /// When this run was first seen, by our clock; `None` while it does not run.
    pub(super) since: Option<Duration>,
    /// How old it was then.
    age: Duration,
    /// A probe is under way.
    pub(super) probing: bool,
    /// When the next is due.
    pub(super) next: Duration,
    /// The last answer.
    pub(super) last: Option<Answered>,
    /// Answers like the last one, in a row.
    streak: u32,
    /// What the answers come to, with the manifest's thresholds applied; `None` before the first.
    pub(super) verdict: Option<bool>,
    /// What the engine said at the last probe.
    engine: Option<EngineHealth>,
}

/// What a probe answered.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) health: Health,
    pub(super) at: Timestamp,
    pub(super) latency: Duration,
    pub(super) source: &'static str,
}

impl Monitor {
    /// A run of the service begins, or was found, `age` after it began.
    pub(super) fn begin(&mut self, now: Duration, age: Duration) {
        let run = self.run + 1;
        let probing = self.probing;
        *self = Self { run, since: Some(now), age, next: now, probing, ..Self::default() };
    }

    /// The service does not run any more.
    pub(super) fn end(&mut self) {
        *self = Self { run: self.run + 1, probing: self.probing, ..Self::default() };
    }

    /// How long this run has lasted.
    pub(super) fn ran_for(&self, now: Duration) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since) + self.age)
    }

    /// Takes an answer in.
    fn record(&mut self, answered: Answered, settings: &HealthSettings) {
        let healthy = answered.health.is_healthy();
        let same = self.last.as_ref().is_some_and(|last| last.health.is_healthy() == healthy);
        self.streak = if same { self.streak.saturating_add(1) } else { 1 };
        let needed = if healthy { settings.successes } else { settings.failures };
        if self.verdict.is_none() || self.streak >= needed {
            self.verdict = Some(healthy);
        }
        self.last = Some(answered);
    }

    /// When to probe again.
    fn after(&self, now: Duration, settings: &HealthSettings) -> Duration {
        let steady = self.last.as_ref().is_some_and(|last| last.health.is_healthy());
        if steady {
            settings.interval
        } else if self.ran_for(now) < FAST_FOR {
            FAST
        } else {
            WATCHFUL.min(settings.interval)
        }
    }
}

impl World {
    /// Issues the probes that are due.
    pub(super) fn probe_due(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let engine_health = self.engine_health(name);
        let Some(service) = self.services.get_mut(name) else { return };
        let monitor = &mut service.monitor;
        if monitor.since.is_none() || monitor.probing {
            return;
        }
        // What an engine says about health is news at once.
        let engine_news =
            monitor.engine != engine_health && service.wanted.manifest.health_endpoint.is_none();
        if now.mono < monitor.next && !engine_news {
            return;
        }
        if self.probes >= MOST_AT_ONCE {
            self.probe_queue.insert((monitor.next, name.clone()));
            return;
        }
        let manifest = &service.wanted.manifest;
        let mut target = ProbeTarget::new(name.clone());
        target.endpoint.clone_from(&manifest.health_endpoint);
        target.expect_status = manifest.health.expect;
        target.timeout = manifest.health.timeout;
        target.engine_health = engine_health;
        monitor.engine = engine_health;
        monitor.probing = true;
        self.probes += 1;
        out.push(Effect::Probe { target, run: monitor.run });
    }

    /// Takes a probe's answer in.
    pub(super) fn on_probed(
        &mut self,
        name: &ServiceName,
        run: u64,
        (health, latency): (Health, Duration),
        now: Now,
        out: &mut Out,
    ) {
        self.probes = self.probes.saturating_sub(1);
        let jitter = self.jitter(name);
        if let Some(service) = self.services.get_mut(name) {
            service.monitor.probing = false;
        }
        if self.services.get(name).is_some_and(|service| service.monitor.run != run) {
            // An answer about an earlier run says nothing about this one: it is asked anew.
            self.probe_due(name, now, out);
        } else if let Some(service) = self.services.get_mut(name) {
            let manifest = &service.wanted.manifest;
            let source = match (&manifest.health_endpoint, service.monitor.engine) {
                (Some(_), _) => "endpoint",
                (None, Some(_)) => "engine",
                (None, None) => "running",
            };
            let monitor = &mut service.monitor;
            monitor.record(Answered { health, at: now.wall, latency, source }, &manifest.health);
            let pause = monitor.after(now.mono, &manifest.health);
            monitor.next = now.mono + pause.mul_f64(jitter);
            let next = monitor.next;
            self.schedule(next, Timer::Service(name.clone()));
            self.touch(name);
            self.answer_ready(name, now, out);
        }
        while self.probes < MOST_AT_ONCE
            && let Some((_, next)) = self.probe_queue.pop_first()
        {
            self.probe_due(&next, now, out);
        }
    }

    /// What the containers' own health checks say, the worst first.
    pub(super) fn engine_health(&self, name: &ServiceName) -> Option<EngineHealth> {
        let severity = |health: &EngineHealth| match health {
            EngineHealth::Healthy => 0,
            EngineHealth::Starting => 1,
            EngineHealth::Unhealthy => 2,
        };
        let containers = self.containers(name).into_iter().filter(|c| c.state.holds());
        containers.filter_map(|container| container.health).max_by_key(severity)
    }

    /// A factor of 0.9 to 1.1, so that probes do not march in step.
    fn jitter(&mut self, name: &ServiceName) -> f64 {
        self.sequence += 1;
        let seed = name.as_str().bytes().fold(self.sequence, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let fraction = u32::try_from(seed >> 40).unwrap_or(0);
        0.9 + 0.2 * f64::from(fraction) / f64::from(1u32 << 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(healthy: bool) -> Answered {
        let health =
            if healthy { Health::Healthy } else { Health::Unreachable { reason: "no".into() } };
        Answered { health, at: Timestamp::UNIX_EPOCH, latency: Duration::ZERO, source: "endpoint" }
    }

    #[test]
    fn d3_thresholds_keep_a_verdict_until_enough_answers_disagree() {
        let settings = HealthSettings { failures: 3, successes: 2, ..HealthSettings::default() };
        let mut monitor = Monitor::default();
        let verdicts: Vec<_> = [true, false, false, true, false, false, false, true, true]
            .into_iter()
            .map(|healthy| {
                monitor.record(answer(healthy), &settings);
                monitor.verdict.unwrap()
            })
            .collect();
        assert_eq!(verdicts, [true, true, true, true, true, true, false, false, true]);
    }

    #[test]
    fn probes_are_fast_while_warming_up_and_slow_when_steady() {
        let settings = HealthSettings::default();
        let mut monitor = Monitor::default();
        monitor.begin(Duration::ZERO, Duration::ZERO);
        assert_eq!(monitor.after(Duration::from_secs(1), &settings), FAST);
        assert_eq!(monitor.after(Duration::from_secs(60), &settings), WATCHFUL);
        monitor.record(answer(true), &settings);
        assert_eq!(monitor.after(Duration::from_secs(60), &settings), settings.interval);
    }
}
