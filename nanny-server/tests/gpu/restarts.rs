//! A nanny that dies, and a driver that comes late.

use std::fs;

use nanny_fake_nvml::Machine;
use serde_json::{Value, json};

use crate::stage::{GIB, Stage, until};

#[test]
fn a_nanny_that_was_killed_knows_again_who_is_where() {
    let flags = ["--gpu-policy", "fit", "--gpu-pack", "spread"];
    let mut stage = Stage::new(Machine::with_gpus(&[24 * GIB, 24 * GIB]), &flags);
    for (name, gib) in [("one", 16), ("two", 16), ("three", 12)] {
        stage.service(name, gib);
    }
    stage.open();
    stage.start("one", "").expect(200);
    stage.start("two", "").expect(200);
    stage.until_used("one", 16);
    stage.until_used("two", 16);
    let place = |stage: &Stage, service: &str| {
        let gpu = &stage.status(service)["gpus"][0];
        (gpu["id"].clone(), gpu["charge_mib"].clone())
    };
    let before = (place(&stage, "one"), place(&stage, "two"));
    let pids = (stage.pid("one"), stage.pid("two"));
    assert_ne!(before.0.0, before.1.0);

    stage.kill();
    stage.open();
    stage.until_used("one", 16);
    stage.until_used("two", 16);
    assert_eq!((place(&stage, "one"), place(&stage, "two")), before);
    assert_eq!((stage.pid("one"), stage.pid("two")), pids, "nobody was started anew");
    let refused = stage.start("three", "").expect(409);
    assert_eq!(refused["code"], "gpu_conflict", "{refused}");
    assert_eq!(refused["free"].as_object().unwrap().values().collect::<Vec<_>>(), [8 * GIB; 2]);
    let forced = stage.start("three", r#"{"force": true}"#).expect(200);
    assert_eq!(forced["stopped"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_driver_that_comes_late_is_found() {
    let mut stage = Stage::new(Machine::with_gpus(&[24 * GIB]), &["--gpu-policy", "fit"]);
    stage.service("model", 8);
    let (library, away) = (stage.driver.library(), stage.driver.library().with_extension("away"));
    fs::rename(&library, &away).unwrap();
    stage.open();
    let log = stage.log();
    assert!(log.contains("no GPU is known") && log.contains("--gpu 24GiB"), "{log}");
    until(
        || (stage.get("/gpus")["problems"] != json!([])).then_some(()),
        || "that there is no driver is never said".to_owned(),
    );
    let refused = stage.start("model", "").expect(409);
    assert_eq!(refused["code"], "gpu_refused", "{refused}");
    fs::rename(&away, &library).unwrap();
    let gpus = stage.until_gpus(|gpus| gpus["total"] == 1);
    assert_eq!(gpus["problems"], json!([]));
    stage.start("model", "").expect(200);
    stage.until_used("model", 8);
}

#[test]
fn one_at_a_time_needs_no_driver() {
    let mut stage = Stage::new(Machine::with_gpus(&[24 * GIB]), &[]);
    stage.service("one", 8);
    stage.service("two", 8);
    fs::remove_file(stage.driver.library()).unwrap();
    stage.open();
    stage.start("one", "").expect(200);
    let refused = stage.start("two", "").expect(409);
    assert_eq!(refused["detail"], "GPU service 'one' is already running");
    assert_eq!((&refused["conflicts"], &refused["free"]), (&json!(["one"]), &json!({})));
    let holders = stage.get("/gpus")["holders"].clone();
    assert_eq!(holders, json!([{"service": "one", "status": "running", "gpus": []}]));
    assert_eq!(stage.status("one")["queue"], Value::Null);
}
