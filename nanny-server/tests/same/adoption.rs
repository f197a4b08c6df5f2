//! The nanny comes and goes; services stay.

use std::path::Path;

use serde_json::{Value, json};

use crate::house::until;
use crate::kind::{Kind, Program};
use crate::stage::Stage;

const FORCE: &str = r#"{"force": true}"#;

fn three(kind: &'static dyn Kind) -> Stage {
    let services =
        [("gpu", Program::idle()), ("rival", Program::idle()), ("plain", Program::idle())];
    let stage = Stage::with(kind, &services);
    stage.started("gpu");
    stage.started("plain");
    stage
}

/// What tells one run of all services from another, in the eyes of the witness and the nanny.
fn runs(stage: &Stage) -> Vec<(String, Value)> {
    ["gpu", "plain"]
        .map(|name| {
            let run = format!("{:?}", stage.run(name));
            let now = stage.until(name, |now| now["ready"] == true);
            (run, now["containers"][0]["id"].clone())
        })
        .to_vec()
}

fn seconds(uptime: &Value) -> f64 {
    let uptime = uptime.as_str().expect("it runs");
    let parts = uptime.split(':').map(|part| part.parse::<f64>().expect("a number"));
    parts.fold(0.0, |sum, part| sum * 60.0 + part)
}

fn is_adopted(stage: &Stage) {
    for service in ["gpu", "plain"] {
        let now = stage.until(service, |now| now["ready"] == true);
        assert_eq!((&now["status"], &now["error"]), (&json!("running"), &Value::Null), "{now}");
        assert_eq!(now["drift"], false, "{now}");
    }
    assert_eq!(stage.start("rival", "").expect(409)["conflicts"], json!(["gpu"]));
    assert_eq!(stage.started("gpu")["message"], "Service 'gpu' is already running");
    stage.ends_with(&["gpu", "plain"]);
}

pub(crate) fn a1_who_is_killed_finds_everything_as_it_was(kind: &'static dyn Kind) {
    let mut stage = three(kind);
    let before = runs(&stage);
    let mut uptime = seconds(&stage.status("gpu")["uptime"]);
    for _ in 0..3 {
        stage.kill_nanny();
        is_adopted(&stage);
        assert_eq!(runs(&stage), before);
        let now = seconds(&stage.status("gpu")["uptime"]);
        assert!(now > uptime, "{now} after {uptime}");
        uptime = now;
    }
    stage.stop("gpu", "").expect(200);
    stage.ends_with(&["plain"]);
    stage.says_lines("gpu", &["up"]);
}

pub(crate) fn l4_a_polite_end_leaves_services_running(kind: &'static dyn Kind) {
    let mut stage = three(kind);
    let before = runs(&stage);
    assert_eq!(stage.end_with("TERM"), Some(0));
    let both = ["gpu", "plain"].map(str::to_owned).into();
    until(|| (stage.up() == both).then_some(()), || format!("{:?} are up", stage.up()));
    stage.open();
    is_adopted(&stage);
    assert_eq!(runs(&stage), before);
}

pub(crate) fn what_ended_while_nobody_looked_is_seen_by_the_next_nanny(kind: &'static dyn Kind) {
    let mut stage = three(kind);
    stage.notes("gpu", "running");
    stage.end_with("KILL");
    kind.stop_by_hand(&stage, "gpu");
    stage.open();
    stage.until("gpu", |now| now["is_running"] == false && now["holds_gpu"] == false);
    assert!(!stage.runs("gpu"), "a stop by hand holds");
    stage.started("rival");
    stage.ends_with(&["rival", "plain"]);
}

pub(crate) fn h8_what_runs_is_not_lost_because_its_manifest_is_unreadable(kind: &'static dyn Kind) {
    let mut stage = three(kind);
    let run = |stage: &Stage, service: &str| format!("{:?}", stage.run(service));
    let before = ["gpu", "plain"].map(|service| run(&stage, service));
    let good = ["gpu", "plain"].map(|service| {
        let file = stage.home(service).join("service.yaml");
        std::fs::read_to_string(file).expect("it has a manifest")
    });
    let break_both = |stage: &Stage| {
        for (service, good) in ["gpu", "plain"].into_iter().zip(&good) {
            stage.write(service, "service.yaml", &format!("{good}tags: [\n"));
        }
    };
    assert_eq!(stage.end_with("TERM"), Some(0));
    break_both(&stage);
    stage.open();
    for (service, holds_gpu) in [("gpu", true), ("plain", false)] {
        let now = stage.until(service, |now| now["is_running"] == true);
        let error = now["error"].as_str().expect("what is wrong");
        assert!(error.contains("service.yaml:") && error.contains("tags"), "{now}");
        assert_eq!(now["holds_gpu"], holds_gpu, "{now}");
    }
    assert_eq!(stage.start("rival", "").expect(409)["conflicts"], json!(["gpu"]));
    assert_eq!(["gpu", "plain"].map(|service| run(&stage, service)), before);
    stage.stop("plain", "").expect(200);
    stage.ends_with(&["gpu"]);
    stage.ask("GET", "/services/plain", "").expect(404);

    // Once it can be read again, it is what it was.
    stage.write("gpu", "service.yaml", &good[0]);
    let now = stage.until("gpu", |now| now["error"].is_null());
    assert_eq!((&now["status"], &now["holds_gpu"]), (&json!("running"), &json!(true)), "{now}");
    assert_eq!(run(&stage, "gpu"), before[0]);

    stage.end_with("KILL");
    break_both(&stage);
    stage.open();
    assert_eq!(stage.start("rival", FORCE).expect(200)["stopped"], json!(["gpu"]));
    stage.ends_with(&["rival"]);
}

pub(crate) fn a3_who_is_killed_in_a_swap_leaves_one_or_none(kind: &'static dyn Kind) {
    let mut stage = three(kind);
    // Killed as soon as the old one is down, which is before the new one is up, or just after.
    let mut swap = ["gpu", "rival"];
    for _ in 0..4 {
        let [old, new] = swap;
        stage.notes(old, "running");
        let place = format!("/proc/{}", stage.run(old).pid);
        let client = stage.begin_start(new, FORCE);
        let gone = || (!Path::new(&place).exists()).then_some(());
        until(gone, || format!("'{old}' never stops"));
        stage.kill_nanny();
        drop(client);
        let settled = |now: &Value| now["status"] == "running" || now["status"] == "stopped";
        for service in swap {
            let now = stage
                .until(service, |now| settled(now) && now["is_running"] == stage.runs(service));
            assert_eq!(now["holds_gpu"], now["is_running"], "{now}");
        }
        assert!(!stage.runs(old), "it was to go");
        stage.started(new);
        stage.ends_with(&[new, "plain"]);
        swap.reverse();
    }
}
