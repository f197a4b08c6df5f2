//! One test for each kind of fault that a simulation found, on calls that the test answers.

mod engine;
mod services;

use std::sync::Arc;

use self::engine::Engine;
use super::Settings;
use super::engines::PATIENCE;
use crate::backend::{BackendError, BackendInfo, Capabilities, ErrorKind, ImageInfo};
use crate::error::Error;
use crate::gpu::ClaimPhase;
use crate::gpu::Exclusive;
use crate::journal::{Entry, Journal};
use crate::lifecycle::{
    Answer, CallId, Command, Effect, EngineIndex, Input, Now, Outcome, RequestId, World,
};
use crate::manifest::Discovery;
use crate::name::ContainerId;
use crate::nanny::{StartOptions, StopOptions};
use crate::project::Step;

fn world(journal: Journal) -> World {
    let able = Capabilities { images: true, ..Capabilities::default() };
    let engines = ["one", "two"].map(|name| (BackendInfo::new(name, ""), able.clone()));
    World::new(Settings::default(), Arc::new(Exclusive), engines, journal, "boot".to_owned())
}

fn failed(id: CallId, kind: ErrorKind) -> Input {
    Input::Done(id, Outcome::Failed(BackendError::new(kind, "call", format!("{kind:?}"))))
}

/// A world whose calls and lists wait until the test answers them.
struct Desk {
    world: World,
    engine: Engine,
    now: u64,
    calls: Vec<(CallId, Step)>,
    lists: Vec<u64>,
    answers: Vec<Answer>,
    journal: Journal,
    discoveries: usize,
}

impl Desk {
    fn new(names: &[&str]) -> Self {
        let mut desk = Self {
            world: world(Journal::default()),
            engine: Engine::default(),
            now: 0,
            calls: Vec::new(),
            lists: Vec::new(),
            answers: Vec::new(),
            journal: Journal::default(),
            discoveries: 0,
        };
        let effects = desk.world.begin(desk.instant());
        desk.take(effects);
        let services = names.iter().map(|name| services::service(name, 1)).collect();
        desk.tell(Input::Discovered(Discovery::new(services, Vec::new())));
        desk.list();
        desk
    }

    fn instant(&self) -> Now {
        let mono = std::time::Duration::from_millis(self.now);
        Now::new(mono, jiff::Timestamp::UNIX_EPOCH)
    }

    fn tell(&mut self, input: Input) {
        self.now += 1;
        let effects = self.world.step(self.instant(), input);
        self.take(effects);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Call { id, step, .. } => self.calls.push((id, step)),
                Effect::List { engine: EngineIndex(0), issued } => self.lists.push(issued),
                Effect::Reply(_, answer) => self.answers.push(answer),
                Effect::Discover => self.discoveries += 1,
                Effect::Journal => self.journal = self.world.journal().clone(),
                _ => {}
            }
        }
    }

    /// Time passes, until retries are due.
    fn pass(&mut self, millis: u64) {
        self.now += millis;
        self.tell(Input::Tick);
    }

    /// Answers the lists that were asked for.
    fn list(&mut self) {
        for issued in std::mem::take(&mut self.lists) {
            let result = Ok(self.engine.list());
            self.tell(Input::Listed { engine: EngineIndex(0), issued, result });
        }
    }

    /// The next list is not answered.
    fn silence(&mut self, kind: ErrorKind) {
        self.pass(6000);
        for issued in std::mem::take(&mut self.lists) {
            let result = Err(BackendError::new(kind, "list", "silence"));
            self.tell(Input::Listed { engine: EngineIndex(0), issued, result });
        }
    }

    fn start(&mut self, name: &str, options: StartOptions) {
        self.tell(Input::Command(RequestId(0), Command::Start(name.to_owned(), options)));
    }

    fn stop(&mut self, name: &str) {
        let stop = Command::Stop(name.to_owned(), StopOptions::default());
        self.tell(Input::Command(RequestId(0), stop));
    }

    /// The call under way whose step reads like this.
    fn call(&mut self, step: &str) -> (CallId, Step) {
        let at = self.calls.iter().position(|(_, call)| call.to_string().starts_with(step));
        let at = at.unwrap_or_else(|| panic!("no '{step}' among {:?}", self.calls));
        self.calls.remove(at)
    }

    /// The engine does what the step says, and says so.
    fn obey(&mut self, step: &str) -> ContainerId {
        let (call, step) = self.call(step);
        let container = self.execute(&step);
        self.seen(call, &container);
        container
    }

    fn seen(&mut self, call: CallId, container: &ContainerId) {
        let outcome = match self.engine.get(container) {
            Some(container) => Outcome::Container(container.clone()),
            None => Outcome::Image(ImageInfo::new("id")),
        };
        self.tell(Input::Done(call, outcome));
    }

    fn execute(&mut self, step: &Step) -> ContainerId {
        self.engine.execute(step)
    }

    fn bring_up(&mut self, name: &str) {
        self.start(name, StartOptions::default());
        self.obey("image");
        while !self.calls.is_empty() {
            let step = self.calls[0].1.to_string();
            self.obey(&step);
        }
        assert!(matches!(self.answers.pop(), Some(Answer::Started(Ok(_)))), "{name} is up");
    }

    fn claim(&self, name: &str) -> Option<ClaimPhase> {
        let mut claims = self.world.ledger().iter();
        claims.find(|(service, _)| service.as_str() == name).map(|(_, claim)| claim.phase)
    }
}

#[test]
fn b8_the_gpu_is_not_given_away_before_a_lost_call_was_looked_at() {
    let mut desk = Desk::new(&["a", "b"]);
    desk.start("a", StartOptions::default());
    desk.obey("image");
    desk.obey("create");
    let (lost, step) = desk.call("start");
    desk.execute(&step);
    desk.tell(failed(lost, ErrorKind::Timeout));
    // 'a' runs, and nobody has seen it yet.
    desk.start("b", StartOptions::forced());
    assert!(desk.calls.is_empty(), "{:?}", desk.calls);
    desk.list();
    desk.list();
    desk.obey("stop");
    assert_eq!(desk.claim("a"), None);
    desk.obey("image");
}

#[test]
fn b9_a_start_that_comes_after_it_was_given_up_is_undone() {
    let mut desk = Desk::new(&["a"]);
    desk.start("a", StartOptions::default());
    desk.obey("image");
    desk.obey("create");
    let (lost, late) = desk.call("start");
    desk.tell(failed(lost, ErrorKind::Timeout));
    desk.stop("a");
    desk.list();
    desk.list();
    assert!(matches!(desk.answers.pop(), Some(Answer::Stopped(Ok(_)))));
    desk.execute(&late);
    desk.pass(3000);
    desk.list();
    desk.obey("stop");
    assert_eq!(desk.claim("a"), None);
}

#[test]
fn b12_what_is_still_being_made_is_not_started_because_a_list_shows_it() {
    let mut desk = Desk::new(&["a"]);
    desk.start("a", StartOptions::default());
    desk.obey("image");
    let (create, step) = desk.call("create");
    let container = desk.execute(&step);
    desk.pass(3000);
    desk.list();
    assert!(desk.calls.is_empty(), "the answer may be older than a start: {:?}", desk.calls);
    desk.seen(create, &container);
    desk.obey("start");
    assert!(matches!(desk.answers.pop(), Some(Answer::Started(Ok(_)))));
}

#[test]
fn a_start_is_not_complete_while_a_stop_of_before_is_under_way() {
    let mut desk = Desk::new(&["e", "d"]);
    desk.bring_up("e");
    desk.stop("e");
    let (stop, step) = desk.call("stop");
    // Another part's stop has failed meanwhile, say: the stop as a whole was given up.
    let name = crate::name::ServiceName::new("e").expect("a name");
    let now = desk.instant();
    let mut out = Vec::new();
    desk.world.fail_down(&name, "no", now, &mut out);
    desk.take(out);
    desk.answers.clear();
    desk.start("e", StartOptions::default());
    assert!(desk.answers.is_empty(), "it runs, but not for long: {:?}", desk.answers);
    let container = desk.execute(&step);
    desk.seen(stop, &container);
    desk.list();
    desk.obey("image");
    desk.obey("start");
    assert!(matches!(desk.answers.pop(), Some(Answer::Started(Ok(_)))));
}

#[test]
fn c5_a_newcomer_fails_if_whoever_must_make_way_cannot_be_stopped() {
    let mut desk = Desk::new(&["a", "g"]);
    desk.bring_up("g");
    desk.start("a", StartOptions::forced());
    let (web, step) = desk.call("stop");
    desk.execute(&step);
    desk.tell(failed(web, ErrorKind::Invalid));
    let Some(Answer::Started(Err(Error::StartFailed { reason, .. }))) = desk.answers.pop() else {
        panic!("the newcomer is answered");
    };
    assert!(reason.contains("could not be stopped"), "{reason}");
    assert_eq!(desk.claim("a"), None);
}

#[test]
fn a3_a_restart_that_is_cut_short_is_taken_up() {
    let mut desk = Desk::new(&["a"]);
    desk.bring_up("a");
    let restart = Command::Restart("a".to_owned(), StartOptions::default());
    desk.tell(Input::Command(RequestId(0), restart));
    assert_eq!(desk.journal.services.values().collect::<Vec<_>>(), [&Entry::Starting]);
}

#[test]
fn c14_what_ran_when_its_engine_went_away_before_services_were_known_holds_the_gpu() {
    let mut desk = Desk::new(&["a"]);
    desk.bring_up("a");
    desk.world = world(Journal::default());
    let effects = desk.world.begin(desk.instant());
    desk.take(effects);
    desk.list();
    desk.pass(3000);
    let lists = std::mem::take(&mut desk.lists);
    let down = || BackendError::new(ErrorKind::Unavailable, "list", "down");
    for issued in lists {
        desk.tell(Input::Listed { engine: EngineIndex(0), issued, result: Err(down()) });
    }
    let services = vec![services::service("a", 1)];
    desk.tell(Input::Discovered(Discovery::new(services, Vec::new())));
    assert_eq!(desk.claim("a"), Some(ClaimPhase::Running));
}

#[test]
fn a_service_that_comes_to_need_a_gpu_while_it_is_started_needs_leave() {
    let mut desk = Desk::new(&["a", "e"]);
    desk.bring_up("a");
    desk.start("e", StartOptions::default());
    let services = vec![services::service("a", 1), services::service("e", 3)];
    desk.tell(Input::Discovered(Discovery::new(services, Vec::new())));
    let (image, _) = desk.call("image");
    desk.tell(Input::Done(image, Outcome::Image(ImageInfo::new("id"))));
    assert!(matches!(desk.answers.pop(), Some(Answer::Started(Err(_)))));
    assert_eq!(desk.claim("e"), None);
    assert!(desk.calls.is_empty(), "{:?}", desk.calls);
}

/// A desk with "a", which has run and is about to be started again, and "e".
fn starting_anew() -> (Desk, CallId, Step) {
    let mut desk = Desk::new(&["a", "e"]);
    desk.bring_up("a");
    desk.stop("a");
    desk.obey("stop");
    desk.list();
    desk.answers.clear();
    desk.start("a", StartOptions::default());
    desk.obey("image");
    let (start, step) = desk.call("start");
    (desk, start, step)
}

/// Whether somebody was told that the engine is out of reach, and nobody anything else.
fn is_told(desk: &mut Desk) -> bool {
    let answers = std::mem::take(&mut desk.answers);
    let [answer] = &answers[..] else { return false };
    matches!(answer, Answer::Started(Err(Error::EngineUnavailable { .. })))
}

#[test]
fn b4_who_waits_for_a_start_waits_on_while_the_engine_is_busy_with_it() {
    let (mut desk, start, step) = starting_anew();
    for _ in 0..PATIENCE {
        desk.silence(ErrorKind::Timeout);
    }
    assert!(desk.answers.is_empty(), "{:?}", desk.answers);
    // Nothing else is begun there.
    desk.start("e", StartOptions::default());
    assert!(is_told(&mut desk) && desk.calls.is_empty());
    let container = desk.execute(&step);
    desk.seen(start, &container);
    desk.pass(60_000);
    desk.list();
    assert!(matches!(desk.answers.pop(), Some(Answer::Started(Ok(_)))));
}

#[test]
fn b4_nobody_waits_for_a_silent_engine_for_ever() {
    let (mut desk, start, step) = starting_anew();
    for _ in 0..=PATIENCE {
        desk.silence(ErrorKind::Timeout);
    }
    assert!(is_told(&mut desk));
    // The call goes on, and nobody has forgotten it.
    let container = desk.execute(&step);
    desk.seen(start, &container);
    desk.pass(60_000);
    desk.list();
    assert_eq!(desk.claim("a"), Some(ClaimPhase::Running));
}

#[test]
fn b1_an_engine_that_cannot_be_reached_is_away_whatever_it_is_at() {
    let mut desk = Desk::new(&["a"]);
    desk.start("a", StartOptions::default());
    desk.obey("image");
    desk.call("create");
    desk.silence(ErrorKind::Unavailable);
    assert!(is_told(&mut desk));
}

#[test]
fn questions_for_services_do_not_multiply() {
    let mut desk = Desk::new(&["a"]);
    for _ in 0..5 {
        desk.tell(Input::Command(RequestId(0), Command::Rediscover));
        desk.tell(Input::Discovered(Discovery::new(vec![services::service("a", 1)], Vec::new())));
    }
    desk.discoveries = 0;
    for _ in 0..10 {
        desk.pass(60_000);
        desk.tell(Input::Discovered(Discovery::new(vec![services::service("a", 1)], Vec::new())));
    }
    assert_eq!(desk.discoveries, 10, "in ten minutes, at one a minute");
}

#[test]
fn what_is_recorded_on_an_engine_that_is_silent_keeps_its_gpu() {
    let mut desk = Desk::new(&["a", "g"]);
    desk.bring_up("a");
    desk.world = world(desk.journal.clone());
    desk.lists.clear();
    let effects = desk.world.begin(desk.instant());
    desk.take(effects);
    let services = vec![services::service("a", 1), services::service("g", 1)];
    desk.tell(Input::Discovered(Discovery::new(services, Vec::new())));
    let issued = desk.lists[0];
    let down = BackendError::new(ErrorKind::Unavailable, "list", "down");
    desk.tell(Input::Listed { engine: EngineIndex(0), issued, result: Err(down) });
    desk.tell(Input::Listed { engine: EngineIndex(1), issued: 2, result: Ok(Vec::new()) });
    assert_eq!(desk.claim("a"), Some(ClaimPhase::Running));
    desk.start("g", StartOptions::default());
    let refused = desk.answers.pop();
    assert!(
        matches!(&refused, Some(Answer::Started(Err(Error::GpuConflict { holders, .. })))
            if holders == &["a"]),
        "{refused:?}"
    );
    desk.start("g", StartOptions::forced());
    let unknown = desk.answers.pop();
    assert!(
        matches!(unknown, Some(Answer::Started(Err(Error::EngineUnavailable { .. })))),
        "{unknown:?}"
    );
    assert!(desk.calls.is_empty(), "{:?}", desk.calls);
    // It is gone, as turns out.
    desk.engine = Engine::default();
    desk.lists = vec![issued + 1000];
    desk.list();
    assert_eq!(desk.claim("a"), None);
}

#[test]
fn b16_a_network_that_others_remove_during_a_start_is_made_again() {
    let mut desk = Desk::new(&["d"]);
    desk.start("d", StartOptions::default());
    desk.obey("image");
    desk.obey("network");
    let (create, _) = desk.call("create");
    desk.tell(failed(create, ErrorKind::NotFound));
    desk.pass(3000);
    desk.list();
    desk.obey("network");
    desk.obey("create");
    assert!(desk.answers.is_empty(), "{:?}", desk.answers);
}

#[test]
fn a_service_that_comes_to_need_no_gpu_on_its_way_down_gives_it_back() {
    let mut desk = Desk::new(&["a"]);
    let files = |variant| vec![services::service("a", 1), services::service("e", variant)];
    desk.tell(Input::Discovered(Discovery::new(files(3), Vec::new())));
    desk.bring_up("e");
    desk.start("a", StartOptions::forced());
    desk.tell(Input::Discovered(Discovery::new(files(1), Vec::new())));
    desk.start("e", StartOptions::default());
    desk.obey("stop");
    assert_eq!(desk.claim("e"), None);
    assert_eq!(desk.claim("a"), Some(ClaimPhase::Reserved));
    // Both go on.
    desk.obey("image");
    desk.obey("image");
    assert!(
        desk.calls.iter().any(|(_, step)| step.to_string().contains("a-main-1")),
        "{:?}",
        desk.calls
    );
}
