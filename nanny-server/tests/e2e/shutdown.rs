//! The end of a nanny that has a lot to do.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, STUBBORN, free_port, until, web};
use crate::registry::Registry;

/// More than the server's answer and the buffers of two sockets hold.
const NOISE: &str =
    "line=$$(printf '%01000d' 0); yes $$line | head -n 10000; echo done; exec sleep 86400";

/// All that comes until the connection ends; a reset counts as an end.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Starts a pull that does not end, and waits until it is under way.
fn begin_pull(house: &mut House) -> (Registry, TcpStream) {
    let registry = Registry::new(&house.tag, house.directory());
    let file = web(IDLE, "").replace("nanny-test/busybox:1", &registry.reference);
    house.add("big", "", &file);
    house.appears("big");
    let start = house.begin_start("big", "");
    registry.is_asked();
    house.becomes("big", "starting");
    house.notes("big", "starting");
    (registry, start)
}

#[test]
fn a5_a_polite_end_in_the_midst_of_it_all_answers_everybody_and_loses_nothing() {
    let Some(mut house) = House::new() else { return };
    house.add("gpu", GPU, &web(IDLE, ""));
    let never =
        format!("health_endpoint: http://localhost:{}/\nhealth_timeout: 600\n", free_port());
    house.add("late", &never, &web(IDLE, ""));
    house.add("stubborn", "stop_timeout: 600\n", &web(STUBBORN, ""));
    house.add("noisy", "", &web(NOISE, ""));
    house.open();
    for service in ["gpu", "stubborn", "noisy"] {
        house.started(service);
    }
    let gpu = engine::inspect(&house.container("gpu"));
    until(
        || (house.logs("noisy", "?tail=1")["logs"] == "web-1  | done\n").then_some(()),
        || "the noise never ends".to_owned(),
    );

    let (registry, pull) = begin_pull(&mut house);
    let healthy = house.begin_start("late", r#"{"wait": "healthy", "timeout": 3600}"#);
    house.until("late", |now| now["is_running"] == true);
    let mut idle = house.begin("GET", "/nowhere", "");
    let mut answer = [0; 64];
    let length = idle.read(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 404"));
    let silent = house.connect();
    let stop = house.begin("POST", "/services/stubborn/stop", "");
    house.becomes("stubborn", "stopping");
    // A machine may be too slow for the time that the nanny gives a log.
    let begun = || {
        let slow = house.begin("GET", "/services/noisy/logs?tail=all", "");
        let mut head = [0; 12];
        slow.peek(&mut head).ok()?;
        (head == *b"HTTP/1.1 200").then_some(slow)
    };
    let slow = until(begun, || "its log is never read in time".to_owned());
    // Its body does not come, and is not waited for so long. The nanny says when it begins to.
    let mut half = house.connect();
    let head = format!("POST /rediscover HTTP/1.1\r\n{}", house.headers());
    write!(half, "{head}expect: 100-continue\r\ncontent-length: 9\r\n\r\n").unwrap();
    let mut said = [0; 25];
    half.read_exact(&mut said).unwrap();
    assert_eq!(said[..13], *b"HTTP/1.1 100 ");

    #[expect(clippy::disallowed_methods, reason = "another process is timed")]
    let began = std::time::Instant::now();
    assert_eq!(house.end_with("TERM"), Some(0), "{}", house.log());
    let took = began.elapsed();
    assert!(took.as_secs() < 60, "10 s are its budget; it took {took:?}");

    for (what, stream) in [("pull", pull), ("wait", healthy), ("stop", stop), ("half", half)] {
        let answer = rest(stream);
        let told = answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"shutting_down\"");
        assert!(told, "{what}: {answer:.300}");
    }
    for stream in [silent, idle] {
        assert!(!rest(stream).contains("HTTP/1.1"), "nothing was asked");
    }
    // Its head was answered; the rest is cut off where its reader could tell.
    let slow = rest(slow);
    assert!(slow.starts_with("HTTP/1.1 200") && slow.len() < 8_000_000, "{}", slow.len());

    let journal = fs::read(house.directory().join("state/journal.json")).unwrap();
    let journal: Value = serde_json::from_slice(&journal).unwrap();
    for (service, entry) in
        [("gpu", "running"), ("late", "running"), ("big", "starting"), ("stubborn", "stopping")]
    {
        assert_eq!(journal["services"][house.project(service)], entry, "{journal}");
    }
    let same = |now: Value| (now["Id"].clone(), now["State"]["StartedAt"].clone());
    assert_eq!(same(engine::inspect(&house.container("gpu"))), same(gpu.clone()));

    registry.open();
    house.open();
    house.becomes("big", "running");
    house.becomes("stubborn", "stopping");
    engine::docker(&["kill", &house.container("stubborn")]);
    house.becomes("stubborn", "stopped");
    assert!(engine::runs(&house.container("big")) && !engine::runs(&house.container("stubborn")));
    assert_eq!(house.holder(), "gpu");
    assert_eq!(same(engine::inspect(&house.container("gpu"))), same(gpu));
    assert_eq!(house.status("late")["is_running"], json!(true));
    house.stop("big", r#"{"remove": true}"#).expect(200);
}

#[test]
fn a6_a_second_signal_ends_it_at_once_and_loses_nothing_either() {
    let Some(mut house) = House::new() else { return };
    house.open();
    let (registry, pull) = begin_pull(&mut house);
    house.signal("TERM");
    until(
        || house.log().contains("shutting down").then_some(()),
        || "the first signal is not heard".to_owned(),
    );
    assert_eq!(house.end_with("INT"), Some(1), "{}", house.log());
    assert!(house.log().contains("second signal"));
    assert!(!rest(pull).contains("200 OK"));
    registry.open();
    house.open();
    house.becomes("big", "running");
    house.stop("big", r#"{"remove": true}"#).expect(200);
}
