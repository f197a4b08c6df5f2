//! How engine calls ended, and what that means for the work they were part of.

use std::time::Duration;

use super::service::{Patience, Work};
use super::up::pause;
use super::world::{Call, Out, World};
use super::{CallId, EngineIndex, Now, Outcome, Preparing};
use crate::backend::{BackendError, ErrorKind, ImageInfo};
use crate::name::{ContainerId, ServiceName};
use crate::project::{Step, Subject};

/// So many failures in a row that waiting may cure are tolerated.
const TOLERATED: u32 = 5;
/// So many times in a row an engine that answers lists may refuse a call as if it were away: some
/// four minutes. One that answers no lists gets no calls.
const REFUSALS: u32 = 50;

/// So long after it was given up, a start may still take effect.
const LATE: Duration = Duration::from_secs(120);

impl World {
    pub(super) fn on_done(&mut self, id: CallId, outcome: Outcome, now: Now, out: &mut Out) {
        let Some(call) = self.calls.remove(&id) else { return };
        let name = call.service.clone();
        if let Some(service) = self.services.get_mut(&name)
            && service.calls.get(&call.subject) == Some(&id)
        {
            service.calls.remove(&call.subject);
        }
        match outcome {
            Outcome::Container(container) => {
                let id = container.id.clone();
                self.observe(call.engine, container);
                self.record(&name, &call.step, None);
                self.check_ours(&call, &id, now, out);
            }
            Outcome::Gone(id) => self.forget(call.engine, &id),
            Outcome::Ensured(notice) => {
                self.note(&name, &call.subject, notice);
                self.record(&name, &call.step, None);
            }
            Outcome::Image(image) => self.record(&name, &call.step, Some(image)),
            Outcome::Failed(error) => self.on_failure(&call, error, now, out),
        }
        self.observe_exits(&name, false, now, out);
        self.advance(&name, now, out);
    }

    /// A container that was made for a service and is not recognised as its own would be made again
    /// and again.
    fn check_ours(&mut self, call: &Call, id: &ContainerId, now: Now, out: &mut Out) {
        let name = &call.service;
        let ours = self.services.get(name).is_none_or(|s| s.containers.contains_key(id));
        if matches!(call.step, Step::Create { .. }) && !ours {
            let reason = "the engine made a container without the labels it was asked for";
            self.fail_up(name, reason.to_owned(), None, now, out);
        }
    }

    pub(super) fn on_preparing(&mut self, id: CallId, progress: Preparing) {
        let Some(call) = self.calls.get(&id) else { return };
        let name = call.service.clone();
        if let Some(service) = self.services.get_mut(&name)
            && matches!(service.work, Work::Up(_))
        {
            service.preparing = Some(progress);
            self.touch(&name);
        }
    }

    /// Notes what is to be told about a network or volume; what was told before is over.
    fn note(&mut self, name: &ServiceName, subject: &Subject, notice: Option<String>) {
        let Some(service) = self.services.get_mut(name) else { return };
        match notice {
            Some(notice) => drop(service.notices.insert(subject.clone(), notice)),
            None => drop(service.notices.remove(subject)),
        }
    }

    /// Notes what the work under way has got done.
    fn record(&mut self, name: &ServiceName, step: &Step, image: Option<ImageInfo>) {
        let Some(service) = self.services.get_mut(name) else { return };
        if let Step::Start { id, .. } = step {
            service.stop_requested.remove(id);
            service.put_down.remove(id);
        }
        let (progress, patience) = match &mut service.work {
            Work::None => return,
            Work::Up(up) => (&mut up.progress, &mut up.patience),
            Work::Down(down) => (&mut down.progress, &mut down.patience),
        };
        patience.failures = 0;
        patience.refusals = 0;
        match step {
            Step::Network(network) => drop(progress.networks.insert(network.spec.name.clone())),
            Step::Volume(volume) => drop(progress.volumes.insert(volume.spec.name.clone())),
            Step::Image(wanted) => {
                let image = image.unwrap_or_else(|| ImageInfo::new(""));
                progress.images.insert(wanted.reference.clone(), image);
            }
            Step::Fill { id, .. } => drop(progress.filled.insert(id.clone())),
            Step::Start { id, .. } => drop(progress.started.insert(id.clone())),
            // What we stopped on the way up is to be started again.
            Step::Stop { id, .. } | Step::Kill { id } => drop(progress.started.remove(id)),
            Step::RemoveNetwork(network) => {
                progress.removed_networks.insert(network.spec.name.clone());
            }
            Step::Create { .. } | Step::Rename { .. } | Step::Remove { .. } => {}
        }
    }

    fn on_failure(&mut self, call: &Call, error: BackendError, now: Now, out: &mut Out) {
        let name = &call.service;
        let Some(service) = self.services.get_mut(name) else { return };
        if let Step::Start { id, .. } = &call.step
            && error.is_retryable()
        {
            service.late_starts.insert(id.clone(), now.mono + LATE);
        }
        if matches!(service.work, Work::Down(_)) && call.step.brings_up() {
            // A call of the start that was cancelled. What it changed shows in the next list.
            self.look_again(name, call.engine, now, out);
            return;
        }
        let Some(patience) = service.patience_mut() else {
            self.look_again(name, call.engine, now, out);
            return;
        };
        let cure = cure(&call.step, error.kind(), patience);
        match cure {
            Cure::WaitForEngine => {
                patience.refusals += 1;
                patience.not_before = now.mono + pause(patience.refusals);
            }
            Cure::LookAgain => {
                patience.failures += 1;
                patience.not_before = now.mono + pause(patience.failures);
            }
            Cure::None => {}
        }
        if error.kind() == ErrorKind::NotFound
            && let Step::Start { id, .. }
            | Step::Rename { id, .. }
            | Step::Fill { id, .. }
            | Step::Stop { id, .. }
            | Step::Kill { id } = &call.step
        {
            let id = id.clone();
            self.forget(call.engine, &id);
        }
        if error.kind() == ErrorKind::NotFound
            && call.step.brings_up()
            && let Some(Work::Up(up)) = self.services.get_mut(name).map(|s| &mut s.work)
        {
            // What it needs, and was there, may have been taken away by others since.
            up.progress.networks.clear();
            up.progress.volumes.clear();
            up.progress.images.clear();
        }
        if error.kind() == ErrorKind::Timeout
            && let Some(Work::Down(down)) = self.services.get_mut(name).map(|s| &mut s.work)
        {
            down.kill = true;
        }
        match cure {
            Cure::WaitForEngine | Cure::LookAgain => self.look_again(name, call.engine, now, out),
            Cure::None => {
                let reason = error.to_string();
                self.look_again(name, call.engine, now, out);
                match self.services.get(name).map(|service| &service.work) {
                    Some(Work::Up(_)) => {
                        self.fail_up(name, error.message().to_owned(), Some(error), now, out);
                    }
                    Some(Work::Down(_)) => self.fail_down(name, &reason, now, out),
                    Some(Work::None) | None => {}
                }
            }
        }
    }

    /// Counts a failure, and goes on after a list that was asked for from now on.
    pub(super) fn try_again_after_list(
        &mut self,
        name: &ServiceName,
        engine: EngineIndex,
        now: Now,
        out: &mut Out,
    ) {
        if let Some(patience) = self.services.get_mut(name).and_then(|s| s.patience_mut()) {
            patience.failures += 1;
        }
        self.look_again(name, engine, now, out);
    }

    /// Goes on only after a list that was asked for from now on.
    pub(super) fn look_again(
        &mut self,
        name: &ServiceName,
        engine: EngineIndex,
        now: Now,
        out: &mut Out,
    ) {
        let from = self.next_sequence();
        self.engines[engine.0].await_list(name, from);
        self.list(engine, now, out);
    }
}

/// What may cure a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cure {
    /// The engine is out of reach: nothing is wrong with the request.
    WaitForEngine,
    /// The outcome is unknown, or something else was under way: look, and try again.
    LookAgain,
    /// Nothing.
    None,
}

fn cure(step: &Step, kind: ErrorKind, patience: &Patience) -> Cure {
    let patient = patience.failures < TOLERATED;
    match (kind, step) {
        (ErrorKind::Unavailable, _) if patience.refusals < REFUSALS => Cure::WaitForEngine,
        // A pull that makes no progress, and an image that is nowhere to be had.
        (ErrorKind::Timeout | ErrorKind::NotFound, Step::Image(_)) => Cure::None,
        (ErrorKind::NotFound, Step::Network(_) | Step::Volume(_)) => Cure::None,
        (ErrorKind::Timeout | ErrorKind::NotFound | ErrorKind::Conflict, _) if patient => {
            Cure::LookAgain
        }
        _ => Cure::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ContainerId;
    use crate::project::ImageWanted;

    #[test]
    fn b8_an_unknown_outcome_is_looked_at_before_it_is_repeated() {
        let start =
            Step::Start { part: "web".into(), id: ContainerId::new("1"), settle: Duration::ZERO };
        assert_eq!(cure(&start, ErrorKind::Timeout, &Patience::default()), Cure::LookAgain);
        assert_eq!(
            cure(
                &start,
                ErrorKind::Timeout,
                &Patience { failures: TOLERATED, ..Patience::default() }
            ),
            Cure::None
        );
    }

    #[test]
    fn b1_an_engine_that_lists_and_takes_no_calls_is_given_minutes_and_not_for_ever() {
        let image = Step::Image(Box::new(ImageWanted::new("x")));
        let after = |refusals| Patience { refusals, failures: 99, ..Patience::default() };
        assert_eq!(cure(&image, ErrorKind::Unavailable, &after(30)), Cure::WaitForEngine);
        assert_eq!(cure(&image, ErrorKind::Unavailable, &after(REFUSALS)), Cure::None);
    }

    #[test]
    fn b18_a_missing_image_fails_at_once() {
        let image = Step::Image(Box::new(ImageWanted::new("x")));
        assert_eq!(cure(&image, ErrorKind::NotFound, &Patience::default()), Cure::None);
        let start =
            Step::Start { part: "web".into(), id: ContainerId::new("1"), settle: Duration::ZERO };
        assert_eq!(cure(&start, ErrorKind::Invalid, &Patience::default()), Cure::None);
    }
}
