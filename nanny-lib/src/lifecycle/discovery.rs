//! What the sources say: services come, change and go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::service::ServiceState;
use super::world::{Out, Timer, World};
use super::{Answer, Effect, Now, RequestId};
use crate::gpu::{ClaimPhase, Placement};
use crate::manifest::{Discovery, Service, Severity};
use crate::name::ServiceName;
use crate::nanny::{Change, Rediscovered};

impl World {
    /// Asks the sources, now or as soon as they have answered the question under way.
    pub(super) fn discover(&mut self, now: Now, out: &mut Out) {
        if self.discovery.running {
            self.discovery.again = true;
            return;
        }
        self.discovery.running = true;
        self.discovery.waiters.append(&mut self.discovery.next_waiters);
        out.push(Effect::Discover);
        self.discovery.next = now.mono + self.settings.rediscover;
        self.schedule(self.discovery.next, Timer::Discover);
    }

    /// What the journal says runs on an engine that has not answered yet holds its GPU until it has.
    fn claim_what_is_recorded(&mut self, added: &[ServiceName]) {
        for name in added {
            let needs_gpu = self.services.get(name).is_some_and(|service| service.needs_gpu());
            if needs_gpu && self.recorded_on(name).is_some() {
                self.claim(name, Placement::default());
                self.ledger.advance(name, ClaimPhase::Running);
            }
        }
    }

    /// Takes in services that nobody knew before their manifests became unreadable, as those whose
    /// manifests are gone: for as long as something of them runs. Answers which.
    fn take_for_gone(&mut self, unreadable: Vec<Service>) -> Vec<ServiceName> {
        let mut taken = Vec::new();
        for service in unreadable {
            let name = service.manifest.name.clone();
            let is_known = self.services.iter().any(|(known, state)| {
                *known == name || (!state.gone && state.wanted.origin == service.origin)
            });
            let runs = || {
                let mut containers =
                    self.engines.iter().flat_map(|engine| engine.containers.iter());
                containers.any(|found| found.state.holds() && service.project.owns(found))
            };
            if is_known || (self.has_looked_around() && !runs()) {
                continue;
            }
            let state = ServiceState { gone: true, ..ServiceState::new(service) };
            self.services.insert(name.clone(), Box::new(state));
            taken.push(name);
        }
        taken
    }

    /// Asks the sources, unless they were asked since the time was set.
    pub(super) fn discover_if_due(&mut self, now: Now, out: &mut Out) {
        if self.discovery.next <= now.mono {
            self.discover(now, out);
        }
    }

    pub(super) fn on_rediscover(&mut self, request: RequestId, now: Now, out: &mut Out) {
        // An answer that is on its way may be older than what the caller has just written.
        self.discovery.next_waiters.push(request);
        self.discover(now, out);
    }

    pub(super) fn on_discovered(&mut self, discovery: Discovery, now: Now, out: &mut Out) {
        let Discovery { services, problems, unreadable } = discovery;
        let broken: BTreeSet<PathBuf> = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .map(|problem| problem.origin.clone())
            .collect();
        let mut found = BTreeMap::new();
        for service in services {
            found.insert(service.manifest.name.clone(), service);
        }
        let mut report = Rediscovered::default();
        for (name, state) in &mut self.services {
            match found.remove(name) {
                Some(service) => {
                    state.gone = false;
                    // What is at fault now keeps its last good version.
                    let keeps = service.unusable.is_some()
                        && state.wanted.unusable.is_none()
                        && state.wanted.origin == service.origin;
                    if state.wanted != service && !keeps {
                        let selector = &state.wanted.project.selector;
                        if *selector != service.project.selector {
                            // One is enough for each way of telling its containers from others.
                            state.former.retain(|former| former.selector != *selector);
                            state.former.push(Arc::clone(&state.wanted.project));
                        }
                        state.wanted = service;
                        report.changed.push(name.clone());
                    }
                }
                // What cannot be read now keeps its last good version.
                None if broken.iter().any(|path| state.wanted.origin.starts_with(path)) => {}
                None => {
                    if !state.gone {
                        report.removed.push(name.clone());
                    }
                    state.gone = true;
                }
            }
        }
        for (name, service) in found {
            report.added.push(name.clone());
            self.services.insert(name, Box::new(ServiceState::new(service)));
        }
        let lost = self.take_for_gone(unreadable);
        self.claim_what_is_recorded(&report.added);
        self.claim_what_is_recorded(&lost);
        for name in &report.changed {
            self.place(name);
        }
        if !lost.is_empty() {
            self.reassign_all();
        }
        for name in &lost {
            self.advance(name, now, out);
        }
        self.problems = problems.clone().into();
        let differs =
            !report.added.is_empty() || !report.changed.is_empty() || !report.removed.is_empty();
        if differs {
            self.reassign_all();
            out.push(Effect::Announce(Change::Discovered {
                added: report.added.clone(),
                changed: report.changed.clone(),
                removed: report.removed.clone(),
            }));
            let names: Vec<_> = self.services.keys().cloned().collect();
            for name in names {
                self.advance(&name, now, out);
                self.probe_due(&name, now, out);
            }
        }
        report.total = self.services.values().filter(|service| !service.gone).count();
        report.problems = problems;
        self.discovery.running = false;
        self.discovery.done = true;
        let gone = self.services.iter().filter(|(_, service)| service.gone);
        let gone: Vec<_> = gone.map(|(name, _)| name.clone()).collect();
        for name in &gone {
            self.drop_if_gone(name, now, out);
        }
        self.take_up_journal(now, out);
        for request in std::mem::take(&mut self.discovery.waiters) {
            out.push(Effect::Reply(request, Answer::Rediscovered(report.clone())));
        }
        if std::mem::take(&mut self.discovery.again) || !self.discovery.next_waiters.is_empty() {
            self.discover(now, out);
        }
    }
}
