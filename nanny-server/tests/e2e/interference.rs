//! Other hands at the same time as ours, on the same containers.

use std::thread;

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, until, web};

/// Waits until nothing is under way, and the nanny sees what there is.
#[track_caller]
fn calm(house: &House) -> Value {
    let seen = || {
        let now = house.status("web");
        let done = matches!(now["status"].as_str(), Some("running" | "stopped" | "failed"));
        let there = engine::containers(&house.project("web"));
        let known: Vec<_> = there.iter().map(|found| &found["Id"]).collect();
        let shown: Vec<_> =
            now["containers"].as_array().into_iter().flatten().map(|found| &found["id"]).collect();
        let runs = there.iter().any(|found| found["State"] == "running");
        let agree = now["is_running"] == runs && now["holds_gpu"] == runs && shown == known;
        (done && agree).then_some(now)
    };
    until(seen, || {
        let there = engine::containers(&house.project("web"));
        format!("there is {there:?}, and seen is {}", house.status("web"))
    })
}

#[test]
fn b16_compose_up_and_down_by_hand_meet_our_start_and_stop() {
    if !engine::has_compose() {
        return;
    }
    let Some(house) = House::with(GPU, &web(IDLE, "")) else { return };
    let home = house.home("web");
    for round in 0..3 {
        for (ours, theirs) in [
            ("start", ["down", "-t0"]),
            ("start", ["up", "-d"]),
            ("stop", ["up", "-d"]),
            ("stop", ["down", "-t0"]),
        ] {
            let answer = thread::scope(|scope| {
                let hands = scope.spawn(|| engine::try_compose(&home, &theirs));
                let answer = house.ask("POST", &format!("/services/web/{ours}"), "");
                hands.join().unwrap();
                answer
            });
            if (ours, theirs[0]) == ("start", "up") && answer.text.contains("ambiguous") {
                // Both have made the network at the same moment, and the engine let them.
                engine::try_compose(&home, &["down", "-t0"]);
                calm(&house);
                continue;
            }
            let met = format!("round {round}, {ours} and {theirs:?}: {answer:?}");
            // A start that somebody else's stop ends may say so; nothing else goes wrong.
            let ended = answer.status == 500 && answer.text.contains("exited");
            assert!(answer.status == 200 || (ours == "start" && ended), "{met}");
            let now = calm(&house);
            assert!(engine::containers(&house.project("web")).len() <= 1, "{met}");
            if (ours, theirs[0]) == ("start", "up") {
                assert_eq!(now["status"], "running", "{met}, then {now}");
            }
            if (ours, theirs[0]) == ("stop", "down") {
                assert_eq!(now["is_running"], false, "{met}, then {now}");
            }
        }
    }
    house.started("web");
    assert_eq!(calm(&house)["status"], "running");
}

#[test]
fn b17_what_compose_makes_anew_is_another_container_of_the_same_service() {
    if !engine::has_compose() {
        return;
    }
    let script = "echo up $$HOSTNAME; exec sleep 86400";
    let Some(house) = House::with(GPU, &web(script, "")) else { return };
    house.started("web");
    let container = house.container("web");
    let mut before = engine::id(&container);
    for _ in 0..3 {
        engine::compose(&house.home("web"), &["up", "-d", "-t0", "--force-recreate"]);
        let now = engine::id(&container);
        assert_ne!(now, before);
        let seen = house.sees("web", |seen| {
            // Both may be there for a moment.
            let is_one = seen["containers"].as_array().is_some_and(|all| all.len() == 1);
            seen["status"] == "running" && is_one && seen["containers"][0]["id"] == now.as_str()
        });
        assert_eq!((house.holder(), &seen["holds_gpu"]), (json!("web"), &json!(true)));
        house.says("web", &format!("web-1  | up {}\n", &now[..12]));
        before = now;
    }
    // It is ours to stop all the same.
    house.stop("web", "").expect(200);
    assert!(!engine::runs(&container));
}

#[test]
fn b16_containers_removed_while_we_start_and_stop_them_are_no_trouble() {
    let Some(house) = House::with(GPU, &web(IDLE, "")) else { return };
    let container = house.container("web");
    for _ in 0..6 {
        thread::scope(|scope| {
            let hands = scope.spawn(|| {
                until(|| engine::find(&container), || "it is never made".to_owned());
                engine::remove(&container);
            });
            let answer = house.start("web", "");
            assert!(answer.status == 200 || answer.text.contains("start_failed"), "{answer:?}");
            hands.join().unwrap();
        });
        calm(&house);
        house.started("web");
        thread::scope(|scope| {
            let hands = scope.spawn(|| engine::remove(&container));
            house.stop("web", r#"{"remove": true}"#).expect(200);
            hands.join().unwrap();
        });
        assert_eq!(calm(&house)["status"], "stopped");
    }
}
