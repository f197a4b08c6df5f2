//! Calls that are carried out though nobody hears of it, or later than anybody waits.

use std::time::Duration;

use nanny_testkit::dockerd::{SLOW_RUNTIME, Survival};
use nanny_testkit::proxy::{Fault, Requests};
use serde_json::json;

use crate::house::{IDLE, until, web};
use crate::site::{FORCE, Site, struck};

const LIST: &str = "GET /containers/json";
const REMOVE: &str = r#"{"remove": true}"#;

fn site() -> Option<Site> {
    let mut site = Site::new(Survival::End)?;
    site.add("gpu", &web(IDLE, ""));
    site.add("rival", &web(IDLE, ""));
    site.open();
    Some(site)
}

pub(crate) fn b8_a_reply_that_is_lost_is_no_second_effect() {
    let Some(site) = site() else { return };
    let post = |path| Requests::new("POST", path);
    let lost = [
        site.proxy.once(post("/networks/create"), Fault::LoseReply),
        site.proxy.once(post("/containers/create"), Fault::LoseReply),
        site.proxy.once(post("/containers/*/start"), Fault::LoseReply),
    ];
    site.runs_now("gpu");
    assert!(lost.iter().all(|lost| lost.count() == 1), "{lost:?}");
    assert_eq!((site.containers("gpu"), site.runs("gpu")), (1, true));
    let networks = site.docker(&["network", "ls", "--quiet", "--filter", "name=gpu-"]);
    assert_eq!(networks.lines().count(), 1, "{networks}");
    let run = site.run("gpu");

    let lost = [
        site.proxy.once(post("/containers/*/stop"), Fault::LoseReply),
        site.proxy.once(post("/containers/*/start"), Fault::LoseReply),
    ];
    let swapped = site.house.start("rival", FORCE).expect(200);
    assert_eq!(swapped["stopped"], json!(["gpu"]));
    assert!(lost.iter().all(|lost| lost.count() == 1), "{lost:?}");
    assert_eq!(site.run("gpu"), run, "it was not started again meanwhile");
    site.ends_with(&["rival"]);

    let lost = site.proxy.once(Requests::new("DELETE", "/containers/*"), Fault::LoseReply);
    site.house.stop("rival", REMOVE).expect(200);
    assert_eq!((lost.count(), site.containers("rival")), (1, 0));
    // Also when the request itself never arrives.
    site.proxy.once(post("/containers/*/start"), Fault::Refuse);
    site.runs_now("rival");
    site.ends_with(&["rival"]);
}

pub(crate) fn b8_b6_a_start_after_a_stop_whose_reply_is_lost_runs() {
    let Some(site) = site() else { return };
    site.runs_now("gpu");
    for fault in [Fault::LoseReply, Fault::HoldReply(Duration::from_secs(2)), Fault::Refuse] {
        let hits = site.proxy.once(Requests::new("POST", "/containers/*/stop"), fault);
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| site.house.stop("gpu", ""));
            struck(&hits, 1);
            // The last word counts, whatever the engine is at.
            site.house.start("gpu", "").expect(200);
            let stop = stop.join().expect("an answer");
            assert!(matches!(stop.status, 200 | 409), "{stop:?}");
        });
        site.house.until("gpu", |now| now["status"] == "running");
        assert!(site.runs("gpu"), "after {fault:?}");
        assert_eq!(site.containers("gpu"), 1);
    }
    site.ends_with(&["gpu"]);
}

pub(crate) fn b9_a_start_that_comes_late_is_stopped_again() {
    let Some(site) = site() else { return };
    let late = Fault::Late(Duration::from_secs(6));
    let hits = site.proxy.once(Requests::new("POST", "/containers/*/start"), late);
    let answer = site.house.start("gpu", r#"{"timeout": 1}"#).expect(504);
    assert_eq!(answer["code"], "start_timeout");
    // What comes before it may take longer than the client waits.
    let requests = || site.proxy.requests().into_iter();
    until(
        || requests().any(|request| request.ends_with("/start")).then_some(()),
        || "it is never asked to start".to_owned(),
    );
    assert_eq!(site.house.start("rival", "").expect(409)["conflicts"], json!(["gpu"]));
    // It ends as it was last told to, though it runs in between.
    site.house.stop("gpu", "").expect(200);
    struck(&hits, 1);
    site.house.until("gpu", |now| now["status"] == "stopped");
    until(|| (!site.runs("gpu")).then_some(()), || "it goes on running".to_owned());
    site.runs_now("rival");
    site.ends_with(&["rival"]);
}

pub(crate) fn b9_a_create_that_comes_after_it_was_given_up_makes_no_second() {
    let Some(site) = site() else { return };
    // The nanny gives a create 30 s.
    let late = Fault::Late(Duration::from_secs(45));
    let hits = site.proxy.once(Requests::new("POST", "/containers/create"), late);
    let client = site.house.begin_start("gpu", "");
    site.asks("POST /containers/create", 2);
    site.house.until("gpu", |now| now["status"] == "running");
    drop(client);
    struck(&hits, 1);
    assert_eq!((site.containers("gpu"), site.runs("gpu")), (1, true));
    site.takes_over("rival");
    site.ends_with(&["rival"]);
}

pub(crate) fn b17_what_replaces_a_container_is_followed() {
    let Some(site) = site() else { return };
    site.runs_now("gpu");
    for _ in 0..3 {
        let (old, _) = site.run("gpu");
        site.compose("gpu", &["up", "-d", "--force-recreate", "-t", "1"]);
        let (new, _) = site.run("gpu");
        assert_ne!(old, new);
        site.house.sees("gpu", |now| {
            now["status"] == "running"
                && now["containers"]
                    .as_array()
                    .is_some_and(|all| all.len() == 1 && all[0]["id"] == new)
        });
        assert_eq!(site.house.holder(), "gpu");
    }
    // What it is told now, it does to the new one.
    site.takes_over("rival");
    assert!(!site.runs("gpu"));
    site.ends_with(&["rival"]);
}

pub(crate) fn c4_a_holder_that_dies_in_a_swap_is_released_once() {
    let Some(site) = site() else { return };
    for (old, new) in [("gpu", "rival"), ("rival", "gpu"), ("gpu", "rival")] {
        site.runs_now(old);
        let late = Fault::Late(Duration::from_secs(15));
        let id = site.inspect(old)["Id"].as_str().expect("it has one").to_owned();
        let stop = format!("POST /containers/{id}/stop");
        let so_far = site.proxy.requests().iter().filter(|asked| **asked == stop).count();
        let hits = site.proxy.once(Requests::new("POST", "/containers/*/stop"), late);
        std::thread::scope(|scope| {
            let swap = scope.spawn(|| site.house.start(new, FORCE));
            site.asks(&stop, so_far + 1);
            site.crash(old);
            let swapped = swap.join().expect("an answer").expect(200);
            assert_eq!(swapped["stopped"], json!([old]));
            struck(&hits, 1);
        });
        assert_eq!(site.house.holder(), new);
        site.ends_with(&[new]);
        site.house.stop(new, "").expect(200);
    }
}

pub(crate) fn b4_an_engine_that_takes_its_time_over_a_start_is_not_away() {
    let Some(mut site) = Site::new(Survival::End) else { return };
    site.add("gpu", &web(IDLE, &format!("runtime: {SLOW_RUNTIME}")));
    site.add("plain", &web(IDLE, ""));
    site.open();
    site.runs_now("plain");
    let asked =
        |what: &str| site.proxy.requests().iter().filter(|asked| asked.ends_with(what)).count();
    let begun = asked("/start");
    std::thread::scope(|scope| {
        // Neither is told that the engine is out of reach.
        let house = &site.house;
        let ask = move |path| house.ask("POST", path, "");
        let start = scope.spawn(move || ask("/services/gpu/start"));
        let is_starting = || (asked("/start") > begun).then_some(());
        until(is_starting, || "it is never asked to start".to_owned());
        site.asks(LIST, asked(LIST) + 8);
        ask("/services/plain/stop").expect(200);
        ask("/services/plain/start").expect(200);
        assert!(!start.is_finished());
        std::fs::write(site.engine.folder().join("go"), "").expect("it is ours");
        start.join().expect("an answer").expect(200);
    });
    site.ends_with(&["gpu", "plain"]);
}
