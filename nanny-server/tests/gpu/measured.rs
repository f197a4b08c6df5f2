//! Several services on what the GPUs really hold.

use std::fs;
use std::time::Duration;

use nanny_fake_nvml::Machine;
use serde_json::{Value, json};

use crate::stage::{GIB, Stage, Stranger, until};

const FIT: [&str; 2] = ["--gpu-policy", "fit"];
const FORCE: &str = r#"{"force": true}"#;

#[test]
fn services_of_8_and_10_gib_share_24_and_one_of_12_evicts_exactly_one() {
    let mut stage = Stage::new(Machine::with_gpus(&[24 * GIB]), &FIT);
    stage.service("small", 8);
    stage.service("middle", 10);
    stage.service("large", 12);
    stage.open();
    let witness = stage.witness();
    stage.start("small", "").expect(200);
    stage.until_used("small", 8);
    stage.start("middle", "").expect(200);
    stage.until_used("middle", 10);
    stage.until_gpus(|gpus| gpus["gpus"][0]["used_mib"] == 18 * GIB);

    let refused = stage.start("large", "").expect(409);
    assert_eq!(refused["code"], "gpu_conflict");
    assert_eq!(refused["need"], json!({"mib": 12 * GIB, "gpus": 1}));
    let free = refused["free"].as_object().unwrap().values().next();
    assert_eq!(free, Some(&json!(6 * GIB)));
    let plan = stage.get("/services/large/plan?force=true");
    assert_eq!((&plan["verdict"], &plan["victims"]), (&json!("evict"), &json!(["small"])));

    let started = stage.start("large", FORCE).expect(200);
    assert_eq!(started["stopped"], json!(["small"]), "whoever has not been used for longest");
    assert!(!stage.is_running("small") && stage.is_running("middle"));
    stage.until_used("large", 12);
    stage.until_used("middle", 10);
    let seen = witness.end();
    assert!(seen.looks > 0);
    assert_eq!(seen.most_mib, [22 * GIB]);
}

#[test]
fn c6_memory_that_comes_back_late_delays_the_newcomer_and_is_never_had_twice() {
    let mut machine = Machine::with_gpus(&[24 * GIB]);
    machine.release_delay_ms = 3000;
    let mut stage = Stage::new(machine, &FIT);
    stage.service("old", 16);
    stage.service("new", 16);
    stage.open();
    let witness = stage.witness();
    stage.start("old", "").expect(200);
    stage.until_used("old", 16);
    stage.start("new", FORCE).expect(200);
    stage.until_used("new", 16);
    // When a process was first seen to be gone, and when the next one took its memory.
    let claims = stage.driver.claims();
    let written = |name: String| fs::metadata(claims.join(name)).unwrap().modified().unwrap();
    let gone = written(format!("{}.gone", stage.pid("old")));
    let taken = written(stage.pid("new").to_string());
    let between = taken.duration_since(gone).unwrap();
    assert!(between >= Duration::from_secs(3), "{between:?}");
    assert_eq!(witness.end().most_mib, [16 * GIB]);
}

#[test]
fn memory_that_does_not_come_back_in_time_fails_the_start_and_is_had_later() {
    let mut machine = Machine::with_gpus(&[24 * GIB]);
    machine.release_delay_ms = 30_000;
    let flags = [&FIT[..], &["--gpu-release-limit", "2"]].concat();
    let mut stage = Stage::new(machine, &flags);
    stage.service("old", 16);
    stage.service("new", 20);
    stage.open();
    stage.start("old", "").expect(200);
    stage.until_used("old", 16);
    let answer = stage.start("new", FORCE);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    let failed = answer.expect(503);
    assert_eq!(failed["code"], "gpu_memory_held");
    assert!(failed["detail"].as_str().unwrap().contains("20480 MiB"), "{failed}");
    assert!(!stage.is_running("new"));
    let served = || Some(stage.start("new", "")).filter(|answer| answer.status == 200);
    until(served, || "the memory never comes back".to_owned());
    stage.until_used("new", 20);
}

#[test]
fn a_process_of_20_gib_is_in_the_way_by_name() {
    let mut stage = Stage::new(Machine::with_gpus(&[24 * GIB]), &FIT);
    stage.service("model", 8);
    stage.open();
    let stranger = Stranger::new();
    stage.driver.claim(stranger.pid(), 0, 20 * GIB).unwrap();
    stage.until_gpus(|gpus| gpus["gpus"][0]["foreign_mib"] == 20 * GIB);
    for body in ["", FORCE] {
        let refused = stage.start("model", body).expect(409);
        let detail = refused["detail"].as_str().unwrap();
        let who = format!("process {} (sleep, 20480 MiB)", stranger.pid());
        assert!(detail.contains(&who), "{detail}");
        let holder = &refused["holders"][0];
        assert_eq!((&holder["name"], &holder["pid"]), (&json!("sleep"), &json!(stranger.pid())));
        assert!(holder["gpus"].as_object().unwrap().values().eq([&json!(20 * GIB)]));
    }
    let shown = &stage.get("/gpus")["gpus"][0]["others"][0];
    assert_eq!(shown["pid"], stranger.pid());
    drop(stranger);
    stage.until_gpus(|gpus| gpus["gpus"][0]["foreign_mib"] == 0);
    stage.start("model", "").expect(200);
}

#[test]
fn a_gpu_that_is_lost_is_reported_and_the_others_go_on() {
    let flags = [&FIT[..], &["--gpu-pack", "spread"]].concat();
    let mut stage = Stage::new(Machine::with_gpus(&[24 * GIB, 24 * GIB]), &flags);
    for (name, gib) in [("one", 20), ("two", 8), ("three", 8)] {
        stage.service(name, gib);
    }
    stage.open();
    stage.start("one", "").expect(200);
    stage.start("two", "").expect(200);
    let on = |stage: &Stage, service: &str| stage.status(service)["gpus"][0]["id"].clone();
    let (first, second) = (on(&stage, "one"), on(&stage, "two"));
    assert_ne!(first, second, "they are told to run apart, and do");
    stage.until_used("one", 20);
    stage.until_used("two", 8);

    let lost = stage.machine.gpus.iter().position(|gpu| first == json!(gpu.uuid)).unwrap();
    stage.change(|machine| machine.gpus[lost].lost = true);
    let state = |gpus: &Value, id: &Value| {
        let all = gpus["gpus"].as_array().unwrap();
        all.iter().find(|gpu| gpu["id"] == *id).map(|gpu| gpu["health"]["state"].clone())
    };
    let gpus = stage.until_gpus(|gpus| state(gpus, &first) == Some(json!("unusable")));
    assert_eq!(state(&gpus, &second), Some(json!("ok")));
    let problems = gpus["problems"].as_array().unwrap();
    assert!(problems.iter().any(|said| said.as_str().unwrap().contains(first.as_str().unwrap())));
    assert!(stage.is_running("two"));
    stage.start("three", "").expect(200);
    assert_eq!(on(&stage, "three"), second, "nobody new goes where it is lost");
    stage.until_used("three", 8);
}

#[test]
fn who_waits_is_served_when_the_holder_stops() {
    let mut stage = Stage::new(Machine::with_gpus(&[24 * GIB]), &FIT);
    stage.service("first", 16);
    stage.service("second", 16);
    stage.open();
    let witness = stage.witness();
    stage.start("first", "").expect(200);
    stage.until_used("first", 16);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| stage.start("second", r#"{"queue": true}"#));
        let status = until(
            || Some(stage.status("second")).filter(|status| status["status"] == "queued"),
            || "it never waits".to_owned(),
        );
        assert_eq!(status["queue"]["position"], 0);
        assert_eq!(stage.get("/gpus")["queue"][0]["service"], "second");
        stage.stop("first");
        waits.join().unwrap().expect(200);
    });
    stage.until_used("second", 16);
    assert_eq!(witness.end().most_mib, [16 * GIB]);
}

#[test]
fn what_a_service_was_seen_to_use_is_what_it_is_charged() {
    let mut stage = Stage::new(Machine::with_gpus(&[24 * GIB]), &FIT);
    stage.service("modest", 4);
    stage.service("other", 8);
    stage.open();
    stage.start("modest", "").expect(200);
    stage.until_used("modest", 4);
    stage.driver.claim(stage.pid("modest"), 0, 18 * GIB).unwrap();
    stage.until_used("modest", 18);
    let gpus = &stage.status("modest")["gpus"][0];
    assert_eq!(
        (&gpus["charge_mib"], &gpus["high_water_mib"]),
        (&json!(18 * GIB), &json!(18 * GIB))
    );
    let refused = stage.start("other", "").expect(409);
    assert_eq!(refused["conflicts"], json!(["modest"]));
    let notices = stage.status("modest")["notices"].to_string();
    assert!(notices.contains("vram_gb: 18"), "{notices}");
}
