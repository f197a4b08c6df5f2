//! The wall clock is set, by a day at a time; the monotonic one goes on.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, until, web};

/// The library that tells the nanny another time than it is (Debian: `libfaketime`).
fn library() -> Option<PathBuf> {
    let multiarch = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut found = multiarch.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1"));
    let found = found.find(|path| path.exists());
    if found.is_none() {
        engine::not_tested("libfaketime is not installed");
    }
    found
}

/// How far the nanny's clock is from ours, by what it says of a probe just now; `None` before the
/// first one, which comes after the service counts as started.
fn ahead(house: &House) -> Option<SignedDuration> {
    let at = house.status("web")["health"]["checked_at"].clone();
    let at: Timestamp = at.as_str()?.parse().expect("a time");
    Some(at.duration_since(Timestamp::now()))
}

fn set(file: &Path, offset: &str) {
    let new = file.with_extension("new");
    fs::write(&new, offset).expect("it is ours");
    fs::rename(new, file).expect("it is ours");
}

#[test]
fn i9_a_clock_that_is_set_by_days_ends_nothing_and_delays_nothing() {
    let Some(library) = library() else { return };
    let Some(mut house) = House::new() else { return };
    // Restarted by us, a second after it ended; crashes when it is told to.
    let fragile = "rm -f /crash; echo up; until test -e /crash; do sleep 0.1; done; exit 7";
    house.add("web", GPU, &web(fragile, "restart: always"));
    let slow = "health_endpoint: http://127.0.0.1:1/health\nhealth_timeout: 600\n";
    house.add("slow", slow, &web(IDLE, ""));
    let offset = house.directory().join("offset");
    set(&offset, "+0");
    house.open_with(|command| {
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &offset)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    });
    house.started("web");
    // It was seen not to run.
    house.started("slow");
    house.stop("slow", "").expect(200);
    let container = house.container("web");
    let day = SignedDuration::from_hours(24);
    let hour = SignedDuration::from_hours(1);
    for (step, days) in [("+1d", 1), ("-1d", -1)] {
        set(&offset, step);
        until(
            || ahead(&house).filter(|ahead| (*ahead - day * days).abs() < hour),
            || format!("its clock is never set to {step}, but {:?}", ahead(&house)),
        );
        let started = engine::inspect(&container)["State"]["StartedAt"].clone();
        let now = house.status("web");
        assert_eq!((&now["status"], &now["holds_gpu"]), (&json!("running"), &json!(true)), "{now}");
        assert_eq!(
            (&now["stale_since"], house.get("/health")["engines"][0]["state"].as_str()),
            (&Value::Null, Some("up"))
        );
        let uptime = now["uptime"].as_str().unwrap_or_default();
        let wanted = if days == 1 { "1 day, 0:0" } else { "0:0" };
        assert!(uptime.starts_with(wanted), "by the clock, and never negative: {uptime}");

        // One that begins now has all its time to get healthy.
        house.started("slow");
        house.until("slow", |now| now["health"]["reason"].is_string());
        let now = house.status("slow");
        assert_eq!(
            (&now["status"], &now["is_healthy"]),
            (&json!("running"), &json!(false)),
            "{step}"
        );
        house.stop("slow", "").expect(200);
        // Nor is a caller's patience over.
        let patient = house.start("web", r#"{"wait": "healthy", "timeout": 5}"#);
        assert_eq!(patient.status, 200, "{patient:?}");

        assert_eq!(
            engine::inspect(&container)["State"]["StartedAt"],
            started,
            "nobody restarted it"
        );
        // Which may end before the command that tells it to does.
        engine::docker(&["exec", "--detach", &container, "touch", "/crash"]);
        until(
            || {
                let state = engine::inspect(&container)["State"].clone();
                (state["Running"] == true && state["StartedAt"] != started).then_some(())
            },
            || format!("after {step} it is never restarted: {}", house.status("web")),
        );
        house.becomes("web", "running");
    }
    house.stop("web", "").expect(200);
}
