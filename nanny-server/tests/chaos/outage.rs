//! The engine is killed, frozen, restarted, or loses its own right hand.

use std::time::Duration;

use nanny_testkit::dockerd::Survival;
use nanny_testkit::proxy::{Fault, Line, Requests};
use serde_json::{Value, json};

use crate::house::{IDLE, until, web};
use crate::site::{FORCE, Site, answered, for_a_while, struck};

#[track_caller]
fn is_refused(site: &Site, request: &str, body: &str) {
    let answer = site.house.ask("POST", &format!("/services/{request}"), body);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert_eq!(answer.expect(503)["code"], "engine_unavailable", "{request}");
}

pub(crate) fn b1_c14_an_engine_that_is_killed_keeps_the_gpu_for_its_holder() {
    let Some(mut site) = Site::new(Survival::End) else { return };
    site.add("gpu", &web(IDLE, "restart: always"));
    site.add("rival", &web(IDLE, ""));
    site.add("plain", &web(IDLE, "restart: always"));
    site.open();
    site.runs_now("gpu");
    site.runs_now("plain");

    site.engine.end("KILL").expect("it runs");
    let now = site.house.sees("gpu", |now| now["status"] == "unknown");
    assert_eq!((&now["is_running"], &now["holds_gpu"]), (&json!(true), &json!(true)), "{now}");
    assert_eq!(site.house.get("/health")["engines"][0]["state"], "down");
    for (request, body) in [("rival/start", ""), ("rival/start", FORCE), ("gpu/stop", "")] {
        is_refused(&site, request, body);
    }
    site.boot_engine();
    // The engine has ended it, and may not restart it; its file wants it back, and it is.
    site.house.until("gpu", |now| now["status"] == "running" && now["stale_since"].is_null());
    assert_eq!(site.house.start("rival", "").expect(409)["conflicts"], json!(["gpu"]));
    site.ends_with(&["gpu", "plain"]);
}

pub(crate) fn b1_an_engine_that_is_killed_in_a_swap_leaves_one() {
    let Some(mut site) = Site::with_three(Survival::LiveOn) else { return };
    let requests = ["/containers/*/stop", "/containers/create", "/containers/*/start"];
    let mut swap = ["gpu", "rival"];
    for path in requests {
        let [old, new] = swap;
        site.house.stop(new, r#"{"remove": true}"#).expect(200);
        let hits = site.proxy.once(Requests::new("POST", path), Fault::LoseReply);
        let client = site.house.begin_start(new, FORCE);
        struck(&hits, 1);
        site.restart_engine("KILL");
        let status = answered(client);
        assert!(matches!(status, 200 | 500 | 503), "{status}");
        site.settles();
        // Who has it now depends on the moment. It is one, and the other can have it.
        let up: Vec<_> = swap.into_iter().filter(|service| site.runs(service)).collect();
        assert!(up.len() <= 1, "{up:?} after {path}");
        site.takes_over(new);
        assert!(!site.runs(old), "after {path}");
        site.ends_with(&[new, "plain"]);
        swap.reverse();
    }
}

pub(crate) fn b2_a_death_that_no_event_tells_of_is_seen() {
    let Some(mut site) = Site::with_three(Survival::LiveOn) else { return };
    let (plain, gpu) = (site.run("plain"), site.inspect("gpu"));
    site.engine.end("KILL").expect("it runs");
    let pid = gpu["State"]["Pid"].as_u64().expect("it ran");
    site.engine.kill_inside(u32::try_from(pid).expect("a number of a process")).expect("it runs");
    site.house.sees("gpu", |now| now["status"] == "unknown");
    site.boot_engine();
    site.sees("gpu", false);
    assert_eq!(site.house.holder(), Value::Null);
    assert_eq!(site.run("plain"), plain);
    site.runs_now("rival");
    site.ends_with(&["rival", "plain"]);
}

pub(crate) fn b3_what_comes_back_beside_the_holder_is_stopped() {
    let Some(mut site) = Site::new(Survival::End) else { return };
    site.add("gpu", &web(IDLE, "restart: always"));
    site.add("rival", &web(IDLE, "restart: always"));
    site.open();
    // By Compose, so that it is the engine that restarts it.
    site.compose("gpu", &["up", "-d"]);
    site.sees("gpu", true);
    assert_eq!(site.house.start("rival", FORCE).expect(200)["stopped"], json!(["gpu"]));

    for signal in ["KILL", "TERM"] {
        site.by_hand("gpu");
        site.restart_engine(signal);
        site.house.until("rival", |now| now["status"] == "running" && now["stale_since"].is_null());
        until(
            || (!site.runs("gpu") && site.runs("rival")).then_some(()),
            || format!("two of them, after {signal}: {}", site.house.get("/services")),
        );
        assert_eq!(site.house.holder(), "rival");
        site.ends_with(&["rival"]);
    }
}

pub(crate) fn b4_a_frozen_engine_is_unknown_and_freezes_nobody_else() {
    let Some(site) = Site::with_three(Survival::End) else { return };
    let descriptors = site.descriptors();
    site.engine.signal("STOP").expect("it runs");
    let now = site.house.until("gpu", |now| now["status"] == "unknown");
    assert_eq!((&now["is_running"], &now["holds_gpu"]), (&json!(true), &json!(true)), "{now}");
    for _ in 0..100 {
        site.house.get("/services");
        site.house.status("gpu");
        assert_eq!(site.house.get("/health")["status"], "healthy");
    }
    for _ in 0..20 {
        is_refused(&site, "rival/start", FORCE);
        is_refused(&site, "gpu/stop", "");
    }
    // Calls that get no answer must not pile up.
    for_a_while(Duration::from_secs(8));
    let most = descriptors + 16;
    assert!(site.descriptors() <= most, "{} of {descriptors}", site.descriptors());
    site.engine.signal("CONT").expect("it runs");
    site.sees("gpu", true);
    site.takes_over("rival");
    site.ends_with(&["rival", "plain"]);
    assert!(site.descriptors() <= most, "{} of {descriptors}", site.descriptors());
}

pub(crate) fn b5_a_containerd_that_is_killed_wedges_nothing() {
    let Some(site) = Site::with_three(Survival::End) else { return };
    site.engine.kill_containerd().expect("it has one");
    // The engine answers pings all the while, and a stop takes it more than 10 s.
    let answer = site.house.start("rival", FORCE);
    assert!(matches!(answer.status, 200 | 500 | 503 | 504), "{answer:?}");
    site.settles();
    site.takes_over("rival");
    assert!(site.runs("rival") && !site.runs("gpu"));
    assert_eq!(site.house.holder(), "rival");
    site.ends_with(&["rival", "plain"]);
}

pub(crate) fn b19_after_a_clean_restart_there_is_one() {
    let Some(mut site) = Site::new(Survival::End) else { return };
    let policies = [
        ("always", "restart: always"),
        ("unless", "restart: unless-stopped"),
        ("failing", "restart: on-failure"),
        ("never", ""),
    ];
    for (service, policy) in policies {
        site.add(service, &web(IDLE, policy));
    }
    site.add("plain", &web(IDLE, "restart: always"));
    site.open();
    site.runs_now("plain");
    // The nanny's own, with policies that the engine has not been told of, one by one.
    for (service, _) in policies {
        site.takes_over(service);
    }
    site.takes_over("unless");
    site.restart_engine("TERM");
    site.house.until("unless", |now| now["status"] == "running" && now["stale_since"].is_null());
    site.ends_with(&["unless", "plain"]);

    // Both at once, as after a reboot: everything is down, and nobody knows in which order.
    site.kill_nanny();
    site.restart_engine("TERM");
    site.open();
    site.settles();
    let up: Vec<_> =
        policies.iter().filter(|(service, _)| site.runs(service)).map(|(name, _)| *name).collect();
    assert!(up.len() <= 1, "{up:?}");
    site.takes_over("always");
    site.ends_with(&["always", "plain"]);
}

pub(crate) fn c3_an_engine_that_dies_in_a_rollback_wedges_nothing() {
    let Some(mut site) = Site::with_three(Survival::LiveOn) else { return };
    // Without an init, which would run for a moment before it says so.
    let broken = web(IDLE, "").replace("command: [sh", "command: [/no/such/program");
    let broken = broken.replace("init: true", "init: false");
    site.add("broken", &broken);
    site.house.appears("broken");
    // The newcomer's start fails, and then the old one is to be started again.
    let starts = || Requests::new("POST", "/containers/*/start");
    let first = site.proxy.once(starts(), Fault::SliceReply(1024));
    let second = site.proxy.once(starts(), Fault::Swallow);
    let client = site.house.begin_start("broken", FORCE);
    struck(&first, 1);
    struck(&second, 1);
    site.proxy.line(Line::Refuse);
    site.engine.end("KILL").expect("it runs");
    site.house.sees("gpu", |now| now["status"] == "unknown");
    site.proxy.line(Line::Open);
    site.boot_engine();
    let status = answered(client);
    assert!(matches!(status, 500 | 503), "{status}");
    site.settles();
    assert!(!site.runs("broken"));
    // Whether it was brought back or not, the GPU is not stuck.
    site.takes_over("rival");
    site.ends_with(&["rival", "plain"]);
}
