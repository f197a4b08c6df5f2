//! The nanny is killed, or frozen, at every awkward moment.

use std::time::Duration;

use nanny_testkit::dockerd::Survival;
use nanny_testkit::proxy::{Fault, Requests};
use serde_json::{Value, json};

use crate::house::{IDLE, web};
use crate::site::{FORCE, Site, for_a_while, struck};

/// Longer than any test: what is held so long is never delivered.
const FOR_EVER: Duration = Duration::from_secs(600);

fn creates() -> Requests {
    Requests::new("POST", "/containers/create")
}

fn starts() -> Requests {
    Requests::new("POST", "/containers/*/start")
}

fn stops() -> Requests {
    Requests::new("POST", "/containers/*/stop")
}

pub(crate) fn a1_killed_again_and_again_it_finds_all_as_it_was() {
    let Some(mut site) = Site::with_three(Survival::End) else { return };
    let before = ["gpu", "plain"].map(|service| site.run(service));
    // Some are killed before they have looked around, some after.
    for wait in [0, 150, 20, 400, 90, 0, 700, 50, 250, 10] {
        site.kill_nanny();
        site.open();
        for_a_while(Duration::from_millis(wait));
    }
    site.settles();
    assert_eq!(["gpu", "plain"].map(|service| site.run(service)), before);
    assert_eq!(site.house.holder(), "gpu");
    assert_eq!(site.house.start("rival", "").expect(409)["conflicts"], json!(["gpu"]));
    site.ends_with(&["gpu", "plain"]);
}

/// Kills the nanny when `fault` has struck a start of `service`, and starts it again.
fn killed_at(site: &mut Site, service: &str, requests: Requests, fault: Fault) {
    site.strikes_out(service);
    let hits = site.proxy.once(requests, fault);
    let client = site.house.begin_start(service, FORCE);
    struck(&hits, 1);
    site.writes_down(service);
    site.kill_nanny();
    drop(client);
    site.proxy.clear();
    site.proxy.cut();
    site.open();
}

pub(crate) fn a2_killed_between_create_and_start_makes_no_second() {
    let Some(mut site) = Site::new(Survival::End) else { return };
    site.add("gpu", &web(IDLE, ""));
    site.open();
    // It has created one that it never hears of.
    killed_at(&mut site, "gpu", creates(), Fault::LoseReply);
    site.runs_now("gpu");
    assert_eq!((site.containers("gpu"), site.runs("gpu")), (1, true));
    site.house.stop("gpu", r#"{"remove": true}"#).expect(200);

    // It is about to start what it has created.
    killed_at(&mut site, "gpu", starts(), Fault::Swallow);
    site.runs_now("gpu");
    assert_eq!((site.containers("gpu"), site.runs("gpu")), (1, true));
    site.ends_with(&["gpu"]);
}

pub(crate) fn a3_killed_in_a_swap_it_ends_with_one() {
    let Some(mut site) = Site::with_three(Survival::End) else { return };
    let moments = [
        // The old one is asked to go, or is gone, and the nanny does not know.
        (stops(), Fault::Swallow),
        (stops(), Fault::LoseReply),
        (stops(), Fault::HoldReply(FOR_EVER)),
        // The new one is made, or is about to run, or runs.
        (creates(), Fault::LoseReply),
        (starts(), Fault::Swallow),
        (starts(), Fault::LoseReply),
        (starts(), Fault::HoldReply(FOR_EVER)),
    ];
    let mut swap = ["gpu", "rival"];
    for (requests, fault) in moments {
        let [old, new] = swap;
        // It is created anew each time.
        site.house.stop(new, r#"{"remove": true}"#).expect(200);
        killed_at(&mut site, new, requests, fault);
        // A swap that was cut short is taken up.
        site.house.until(new, |now| now["status"] == "running");
        assert!(site.runs(new) && !site.runs(old), "after {fault:?}");
        assert_eq!(site.house.holder(), new, "after {fault:?}");
        assert_eq!(site.containers(new), 1, "after {fault:?}");
        site.ends_with(&[new, "plain"]);
        swap.reverse();
    }
}

pub(crate) fn a4_killed_in_a_pull_it_pulls_on_and_can_be_stopped() {
    let Some(mut site) = Site::new(Survival::End) else { return };
    // A registry that takes connections and says nothing, as far as the engine can see.
    let _registry = site.silent_listener(5000);
    let stalled = web(IDLE, "").replace("nanny-test/busybox:1", "127.0.0.1:5000/stalled:1");
    site.add("gpu", &stalled);
    site.add("rival", &web(IDLE, ""));
    site.open();
    let client = site.house.begin_start("gpu", "");
    site.asks("POST /images/create", 1);
    assert_eq!(site.house.status("gpu")["status"], "starting");
    site.writes_down("gpu");
    site.kill_nanny();
    drop(client);
    site.open();
    site.asks("POST /images/create", 2);
    assert_eq!(site.house.start("rival", "").expect(409)["conflicts"], json!(["gpu"]));
    site.house.stop("gpu", "").expect(200);
    assert_eq!(site.house.status("gpu")["status"], "stopped");
    site.runs_now("rival");
    assert_eq!(site.containers("gpu"), 0);
    site.ends_with(&["rival"]);
}

pub(crate) fn a12_who_was_frozen_looks_before_it_acts() {
    let Some(site) = Site::with_three(Survival::End) else { return };
    let plain = site.run("plain");
    site.signal_nanny("STOP");
    site.docker(&["stop", &site.house.container("gpu")]);
    // Longer than a list may take, and than the time between two.
    for_a_while(Duration::from_secs(8));
    site.signal_nanny("CONT");
    site.sees("gpu", false);
    assert_eq!(site.house.holder(), Value::Null);
    assert_eq!(site.run("plain"), plain);

    // In a swap: its deadlines are over when it wakes up, and what it asked for has been done.
    let held = site.proxy.once(starts(), Fault::HoldReply(Duration::from_secs(1)));
    let client = site.house.begin_start("rival", FORCE);
    struck(&held, 1);
    site.signal_nanny("STOP");
    for_a_while(Duration::from_secs(3));
    site.signal_nanny("CONT");
    site.house.until("rival", |now| now["status"] == "running");
    drop(client);
    assert_eq!(site.containers("rival"), 1);
    site.ends_with(&["rival", "plain"]);
}
