//! Several GPUs: who is where, and what it is told.

use std::process::Command;

use serde_json::{Value, json};

use crate::house::GPU;
use crate::kind::{Kind, Program};
use crate::stage::Stage;

/// Says which GPU it was told to use, and goes on.
fn teller() -> Program {
    let says = "echo on $CUDA_VISIBLE_DEVICES$NVIDIA_VISIBLE_DEVICES; exec sleep 86400";
    Program { wants_gpus: true, ..Program::new(says) }
}

/// What a manifest says that wants one GPU of these, of which nobody knows more than how many.
fn only(devices: &str) -> String {
    format!("gpus: {{count: 1, devices: {devices}}}\n")
}

fn with_two_gpus(command: &mut Command) {
    command.args(["--gpu", "24GiB,24GiB", "--gpu-policy", "exclusive-per-gpu"]);
}

/// What a container is, in the eyes of its engine.
fn container(stage: &Stage, service: &str) -> Value {
    stage.status(service)["containers"][0]["id"].clone()
}

pub(crate) fn a_service_runs_on_the_gpu_it_was_given_and_stays_there(kind: &'static dyn Kind) {
    let mut stage = Stage::new(kind);
    for (service, devices) in [("first", "[0, 1]"), ("second", "[0, 1]"), ("third", "[1]")] {
        stage.add(service, &only(devices), &teller());
    }
    stage.open_with(with_two_gpus);
    // Two GPUs for three services.
    for (service, on) in [("first", "on 0"), ("second", "on 1")] {
        stage.started(service);
        stage.says_lines(service, &[on]);
    }
    let refused = stage.start("third", "").expect(409);
    assert_eq!(refused["conflicts"], json!(["second"]), "{refused}");

    // Whoever comes after a crash knows who is where.
    let before = ["first", "second"].map(|service| stage.run(service));
    stage.end_with("KILL");
    stage.open_with(with_two_gpus);
    for service in ["first", "second"] {
        let now = stage.until(service, |now| now["ready"] == true);
        assert_eq!(now["drift"], false, "{now}");
    }
    assert_eq!(stage.start("third", "").expect(409)["conflicts"], json!(["second"]));
    let answer = stage.start("third", r#"{"force": true}"#).expect(200);
    assert_eq!(answer["stopped"], json!(["second"]), "{answer}");
    stage.says_lines("third", &["on 1"]);
    assert_eq!(stage.run("first"), before[0]);
    assert!(!stage.runs("second"));
}

pub(crate) fn what_moves_to_another_gpu_is_made_anew_there(kind: &'static dyn Kind) {
    let mut stage = Stage::new(kind);
    stage.add("mover", &only("[0]"), &teller());
    stage.open_with(with_two_gpus);
    stage.started("mover");
    stage.says_lines("mover", &["on 0"]);
    let first = container(&stage, "mover");
    // Where it was, it starts as it is.
    stage.stop("mover", "").expect(200);
    stage.started("mover");
    stage.says_lines("mover", &["on 0", "on 0"]);
    assert_eq!(container(&stage, "mover"), first);

    let run = stage.run("mover");
    kind.change(&stage, "mover", &format!("{GPU}{}", only("[1]")), &teller());
    stage.ask("POST", "/rediscover", "").expect(200);
    assert_eq!(stage.started("mover")["message"], "Service 'mover' is already running");
    assert_eq!(stage.run("mover"), run, "what runs stays where it is");
    stage.stop("mover", "").expect(200);
    stage.started("mover");
    stage.says_lines("mover", &["on 1"]);
    assert_ne!(container(&stage, "mover"), first);
    assert_eq!(stage.status("mover")["drift"], false);
}
