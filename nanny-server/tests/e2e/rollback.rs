//! Forced swaps whose newcomer cannot be started.

use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, STUBBORN, free_port, web};

const NO_COMMAND: &str =
    "services:\n  web:\n    image: nanny-test/busybox:1\n    command: [no-such-command]\n";

/// A house where `old` has the GPU and `new` wants it.
fn house(compose: &str) -> Option<House> {
    let mut house = House::new()?;
    house.add("old", GPU, &web(IDLE, ""));
    house.add("new", GPU, compose);
    house.open();
    house.started("old");
    Some(house)
}

/// Forces the newcomer, and checks that the old one runs again.
fn fails_and_restores(house: &House) -> Value {
    let failed = house.start("new", r#"{"force": true}"#).expect(500);
    assert_eq!((&failed["code"], &failed["restored"]), (&json!("start_failed"), &json!(["old"])));
    assert!(engine::runs(&house.container("old")), "the old one runs again");
    assert!(!engine::runs(&house.container("new")));
    assert_eq!(house.holder(), "old");
    assert_eq!(house.status("old")["status"], "running");
    let new = house.status("new");
    assert_eq!((&new["status"], &new["holds_gpu"]), (&json!("failed"), &json!(false)));
    assert!(new["error"].is_string(), "{new}");
    failed
}

#[test]
fn c3_a_command_that_does_not_exist_is_rolled_back() {
    let file =
        "services:\n  web:\n    image: nanny-test/busybox:1\n    command: [no-such-command]\n";
    let Some(house) = house(file) else { return };
    let failed = fails_and_restores(&house);
    assert!(failed["detail"].as_str().unwrap().contains("no-such-command"), "{failed}");
}

/// On a busy machine even a program that does nothing may run for a while: then its end is an event
/// after the start, and no rollback.
#[test]
fn c3_a_command_that_exits_at_once_is_rolled_back_or_seen_to_fail() {
    let Some(house) = house(&web("echo no weights; exit 3", "")) else { return };
    let answer = house.start("new", r#"{"force": true}"#);
    match answer.status {
        500 => {
            assert_eq!(answer.json()["restored"], json!(["old"]));
            assert_eq!(house.holder(), "old");
        }
        200 => assert_eq!(answer.json()["stopped"], json!(["old"])),
        other => panic!("{other}: {answer:?}"),
    }
    let new = house.until("new", |status| status["status"] == "failed");
    assert!(new["error"].as_str().unwrap().contains('3'), "{new}");
    house.says("new", "web-1  | no weights\n");
}

#[test]
fn b18_a_port_that_is_taken_is_rolled_back() {
    let port = free_port();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let Some(house) = house(&web(IDLE, &format!("ports: [\"127.0.0.1:{port}:8000\"]"))) else {
        return;
    };
    let failed = fails_and_restores(&house);
    assert!(failed["detail"].as_str().unwrap().contains(&port.to_string()), "{failed}");
    // When the port is free again, what had failed goes.
    drop(taken);
    house.start("new", r#"{"force": true}"#).expect(200);
    assert_eq!((house.holder(), house.status("new")["error"].clone()), (json!("new"), Value::Null));
}

#[test]
fn c3_nobody_slips_in_between_a_failed_swap_and_its_rollback() {
    let Some(mut house) = House::new() else { return };
    let stubborn = web(STUBBORN, "stop_grace_period: 1s").replace("init: true", "init: false");
    house.add("old", GPU, &stubborn);
    house.add("new", GPU, NO_COMMAND);
    house.add("third", GPU, &web(IDLE, ""));
    house.open();
    house.started("old");
    thread::scope(|scope| {
        let swap = scope.spawn(|| fails_and_restores(&house));
        while !swap.is_finished() {
            assert!(engine::projects_up(&house.tag).len() <= 1);
            assert_eq!(house.start("third", "").expect(409)["code"], "gpu_conflict");
        }
        swap.join().unwrap();
    });
    assert!(engine::find(&house.container("third")).is_none());
}

#[test]
fn c3_whoever_wants_no_rollback_gets_none() {
    let Some(house) = house(NO_COMMAND) else { return };
    let failed = house.start("new", r#"{"force": true, "rollback": false}"#).expect(500);
    assert_eq!((&failed["code"], &failed["restored"]), (&json!("start_failed"), &json!([])));
    assert_eq!(house.holder(), Value::Null);
    assert_eq!(house.status("old")["status"], "stopped");
    assert!(engine::projects_up(&house.tag).is_empty());
    house.started("old");
}
