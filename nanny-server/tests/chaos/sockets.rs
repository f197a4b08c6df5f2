//! The way to the engine: events, connections, and the socket itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use nanny_testkit::dockerd::Survival;
use nanny_testkit::proxy::{Endpoint, Fault, Line, Proxy, Requests};
use serde_json::json;

use crate::house::{IDLE, web};
use crate::site::{Site, for_a_while};

fn events() -> Requests {
    Requests::new("GET", "/events")
}

pub(crate) fn b12_events_lost_or_repeated_are_no_matter() {
    let Some(site) = Site::with_three(Survival::End) else { return };
    let container = site.house.container("gpu");
    for fault in [Fault::RepeatChunks, Fault::LoseChunks, Fault::CutReply(600)] {
        let hits = site.proxy.always(events(), fault);
        site.proxy.cut();
        for _ in 0..2 {
            site.docker(&["stop", "--time", "1", &container]);
            site.sees("gpu", false);
            site.docker(&["start", &container]);
            site.sees("gpu", true);
            // One run, seen once: nothing of what was told twice was answered.
            let before = site.run("gpu");
            site.docker(&["restart", "--time", "1", &container]);
            site.sees("gpu", true);
            site.settles();
            assert_ne!(site.run("gpu"), before);
        }
        if !matches!(fault, Fault::LoseChunks) {
            assert!(hits.count() > 0, "{fault:?} never struck");
        }
        site.proxy.clear();
    }
    site.ends_with(&["gpu", "plain"]);
}

pub(crate) fn b13_an_engine_that_hangs_up_is_not_stormed() {
    let Some(site) = Site::with_three(Survival::End) else { return };
    site.proxy.line(Line::HangUp);
    site.house.sees("gpu", |now| now["status"] == "unknown");
    let before = site.proxy.connections();
    for_a_while(Duration::from_secs(10));
    let tries = site.proxy.connections() - before;
    // Lists every 2 s, and events every 5 s on average at most, after a few quick ones.
    assert!((2..=40).contains(&tries), "{tries} connections in 10 s");
    site.proxy.line(Line::Open);
    site.sees("gpu", true);
    site.ends_with(&["gpu", "plain"]);
}

pub(crate) fn b14_a_socket_may_go_and_come_back() {
    let Some(mut site) = Site::new(Survival::End) else { return };
    site.add("gpu", &web(IDLE, ""));
    // As somebody to whom permissions matter.
    for folder in [site.house.directory().to_owned(), site.engine.folder().to_owned()] {
        fs::set_permissions(folder, Permissions::from_mode(0o777)).expect("it is ours");
    }
    let Endpoint::Unix(socket) = site.proxy.endpoint().clone() else { unreachable!("it is one") };
    let mode =
        |mode| fs::set_permissions(&socket, Permissions::from_mode(mode)).expect("it is ours");
    mode(0o666);
    site.open_with(|command| {
        command.uid(65534).gid(65534);
    });
    site.runs_now("gpu");
    let run = site.run("gpu");
    let is_out = |site: &Site| {
        // Connections that are open would go on, whatever happens to the file.
        site.proxy.cut();
        let now = site.house.sees("gpu", |now| now["status"] == "unknown");
        assert_eq!((&now["is_running"], &now["holds_gpu"]), (&json!(true), &json!(true)), "{now}");
        let engine = &site.house.get("/health")["engines"][0];
        assert!(engine["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{engine}");
    };

    let aside = socket.with_extension("aside");
    fs::rename(&socket, &aside).expect("it is ours");
    is_out(&site);
    fs::rename(&aside, &socket).expect("it is ours");
    site.sees("gpu", true);

    mode(0o600);
    is_out(&site);
    mode(0o666);
    site.sees("gpu", true);

    // Another one in its place leads to the same engine.
    fs::rename(&socket, &aside).expect("it is ours");
    is_out(&site);
    let other = Proxy::start(&Endpoint::unix(&socket), Endpoint::unix(site.engine.socket()));
    let other = other.expect("it can listen");
    mode(0o666);
    site.sees("gpu", true);
    assert_eq!(site.run("gpu"), run);
    assert!(other.connections() > 0);
    site.house.stop("gpu", "").expect(200);
    assert!(!site.runs("gpu"));
    site.ends_with(&[]);
}
