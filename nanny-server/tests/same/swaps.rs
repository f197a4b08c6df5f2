//! Several services, and one GPU.

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use crate::house::pause;
use crate::kind::{Kind, Program};
use crate::stage::Stage;

const FORCE: &str = r#"{"force": true}"#;

fn two(kind: &'static dyn Kind) -> Stage {
    with_newcomer(kind, Program::idle())
}

/// `old` has the GPU, and `new` wants it.
fn with_newcomer(kind: &'static dyn Kind, program: Program) -> Stage {
    let stage = Stage::with(kind, &[("old", Program::idle()), ("new", program)]);
    stage.started("old");
    stage
}

pub(crate) fn a_second_gpu_service_is_refused_and_the_holder_is_named(kind: &'static dyn Kind) {
    let mut stage = two(kind);
    let run = stage.run("old");
    for body in ["", r#"{"force": false}"#] {
        let refused = stage.start("new", body);
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
        let refused = refused.expect(409);
        assert_eq!(refused["detail"], "GPU service 'old' is already running");
        assert_eq!(refused["code"], "gpu_conflict");
        assert_eq!(refused["conflicts"], json!(["old"]));
    }
    // A service that needs no GPU is nobody's business.
    stage.add("plain", "", &Program::idle());
    stage.appears("plain");
    stage.started("plain");
    stage.ends_with(&["old", "plain"]);
    assert_eq!(stage.run("old"), run);
}

pub(crate) fn a_forced_start_makes_the_holder_go_and_says_so(kind: &'static dyn Kind) {
    let stage = two(kind);
    let mut swap = ["old", "new"];
    for _ in 0..3 {
        let [old, new] = swap;
        let answer = stage.never_two(|stage| stage.start(new, FORCE)).expect(200);
        assert_eq!(answer["stopped"], json!([old]));
        assert_eq!(answer["message"], format!("Service '{new}' started successfully"));
        assert_eq!(stage.status(old)["status"], "stopped");
        stage.ends_with(&[new]);
        swap.reverse();
    }
}

const SERVICES: [&str; 4] = ["a", "b", "c", "d"];

/// Many starts at one moment; the answers.
fn storm(stage: &Stage, callers: usize, body: &str) -> Vec<u16> {
    let gate = Barrier::new(callers);
    let call = |caller: usize| {
        gate.wait();
        let answer = stage.start(SERVICES[caller % SERVICES.len()], body);
        answer.json();
        answer.status
    };
    let call = &call;
    thread::scope(|scope| {
        let calls: Vec<_> = (0..callers).map(|caller| scope.spawn(move || call(caller))).collect();
        calls.into_iter().map(|call| call.join().expect("an answer")).collect()
    })
}

fn four(kind: &'static dyn Kind) -> Stage {
    Stage::with(kind, &SERVICES.map(|service| (service, Program::idle())))
}

/// The one that runs now.
fn winner(stage: &Stage) -> String {
    stage.holder().as_str().expect("somebody has it").to_owned()
}

pub(crate) fn c1_of_many_starts_at_once_one_wins(kind: &'static dyn Kind) {
    let stage = four(kind);
    let answers = stage.never_two(|stage| storm(stage, 32, ""));
    assert!(answers.iter().all(|status| matches!(status, 200 | 409)), "{answers:?}");
    // Every start of the one that won was joined, and no other was let in.
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 8, "{answers:?}");
    stage.ends_with(&[&winner(&stage)]);
}

pub(crate) fn c2_a_storm_of_forced_starts_ends_with_one_and_never_has_two(kind: &'static dyn Kind) {
    let stage = four(kind);
    let answers = stage.never_two(|stage| storm(stage, 16, FORCE));
    assert!(answers.iter().all(|status| matches!(status, 200 | 409)), "{answers:?}");
    assert!(answers.contains(&200), "{answers:?}");
    stage.ends_with(&[&winner(&stage)]);
}

/// Forces the newcomer, and checks that the old one runs again.
fn fails_and_restores(stage: &Stage) -> Value {
    let run = stage.run("old");
    let failed = stage.never_two(|stage| stage.start("new", FORCE)).expect(500);
    assert_eq!((&failed["code"], &failed["restored"]), (&json!("start_failed"), &json!(["old"])));
    assert_ne!(stage.run("old"), run);
    let new = stage.status("new");
    assert_eq!((&new["status"], &new["holds_gpu"]), (&json!("failed"), &json!(false)));
    assert!(new["error"].is_string(), "{new}");
    stage.ends_with(&["old"]);
    failed
}

pub(crate) fn c3_a_swap_whose_newcomer_cannot_start_is_rolled_back(kind: &'static dyn Kind) {
    let stage = with_newcomer(kind, Program::missing());
    let failed = fails_and_restores(&stage);
    assert!(failed["detail"].as_str().is_some_and(|it| it.contains("no-such-program")), "{failed}");

    let unwanted = r#"{"force": true, "rollback": false}"#;
    let failed = stage.start("new", unwanted).expect(500);
    assert_eq!((&failed["code"], &failed["restored"]), (&json!("start_failed"), &json!([])));
    assert_eq!(stage.status("old")["status"], "stopped");
    stage.ends_with(&[]);
}

/// On a busy machine even a program that does nothing may run for a while: then its end is an event
/// after the start, and no rollback.
pub(crate) fn c3_what_exits_at_once_is_rolled_back_or_seen_to_fail(kind: &'static dyn Kind) {
    let stage = with_newcomer(kind, Program::new("echo no weights; exit 3"));
    let answer = stage.never_two(|stage| stage.start("new", FORCE));
    let new = match answer.status {
        500 => {
            assert_eq!(answer.json()["restored"], json!(["old"]));
            stage.ends_with(&["old"]);
            stage.status("new")
        }
        _ => {
            answer.expect(200);
            stage.becomes("new", "failed")
        }
    };
    assert!(new["error"].as_str().is_some_and(|error| error.contains('3')), "{new}");
    assert_eq!((&new["status"], &new["holds_gpu"]), (&json!("failed"), &json!(false)));
    assert_eq!(new["containers"][0]["exit_code"], 3);
    stage.says_lines("new", &["no weights"]);
}

pub(crate) fn a_restart_keeps_the_gpu_between_stop_and_start(kind: &'static dyn Kind) {
    let stage = Stage::with(kind, &[("web", Program::stubborn()), ("rival", Program::idle())]);
    stage.started("web");
    let before = (stage.run("web"), stage.status("web")["containers"][0]["id"].clone());
    thread::scope(|scope| {
        let restart = scope.spawn(|| stage.ask("POST", "/services/web/restart", ""));
        while !restart.is_finished() {
            assert_eq!(stage.start("rival", "").expect(409)["conflicts"], json!(["web"]));
            pause();
        }
        let answer = restart.join().expect("an answer").expect(200);
        assert_eq!(answer["message"], "Service 'web' restarted successfully");
    });
    let after = (stage.run("web"), stage.status("web")["containers"][0]["id"].clone());
    assert_ne!(after.0, before.0);
    assert_eq!(after.1, before.1);
    stage.ends_with(&["web"]);
}
