//! Too much of something: nothing leaks, and what ran out comes back.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;

use serde_json::json;

use crate::engine;
use crate::house::{GPU, House, IDLE, pause, until, web};
use crate::parts::two;

fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).expect("it lives").count()
}

/// A number from the process's status, in KiB where it is a size.
fn status(process: u32, field: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a known field");
    let number = line.trim_start_matches(':').split_whitespace().next().expect("a number");
    number.parse().expect("a number")
}

/// Waits until the process has no more descriptors than `before`, give or take those that come and
/// go with lists and probes.
#[track_caller]
fn settles(process: u32, before: usize) {
    let now = || descriptors(process);
    until(|| (now() <= before + 4).then_some(()), || format!("{before} became {}", now()));
}

/// As many connections as `many`, each with the beginning of a request.
fn flood(house: &House, many: usize) -> Vec<TcpStream> {
    let mut flood: Vec<_> = (0..many).map(|_| house.connect()).collect();
    for stream in &mut flood {
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: ").expect("the backlog takes it");
    }
    flood
}

#[test]
fn i3_a_flood_of_connections_leaves_files_for_the_engine_and_the_journal() {
    let Some(mut house) = House::new() else { return };
    house.add("web", GPU, &web(IDLE, ""));
    house.open_with_files(64);
    house.started("web");
    let process = house.process();
    // Some are about to be closed.
    let looks = (0..20).map(|_| {
        pause();
        descriptors(process)
    });
    let before = looks.min().unwrap();
    let flood = flood(&house, 100);
    until(
        || (descriptors(process) >= before + 12).then_some(()),
        || format!("{before} became {} only", descriptors(process)),
    );
    // It is seen while it happens: afterwards nobody could tell it from a crash.
    engine::docker(&["kill", &house.container("web")]);
    let heard = || house.log().contains("StoppedByOthers").then_some(());
    until(heard, || "it does not see its engine".to_owned());
    let journal = house.state().join("journal.json");
    let written = || fs::read_to_string(&journal).unwrap_or_default();
    until(|| (!written().contains("running")).then_some(()), written);
    drop(flood);
    house.becomes("web", "stopped");
    assert!(!house.log().contains("cannot accept"), "{}", house.log());
    house.started("web");
}

#[test]
fn i3_without_files_to_open_it_waits_and_recovers() {
    let Some(house) = House::with(GPU, &web(IDLE, "")) else { return };
    house.started("web");
    let process = house.process().to_string();
    // Less than it counted on.
    let limited = Command::new("prlimit").args(["--pid", &process, "--nofile=40:40"]).status();
    assert!(limited.expect("there is a prlimit command").success());
    let flood = flood(&house, 100);
    let complaint = "cannot accept connections now";
    until(|| house.log().contains(complaint).then_some(()), || "it never runs out".to_owned());
    drop(flood);
    house.becomes("web", "running");
    assert_eq!(house.process().to_string(), process);
    assert_eq!(house.holder(), "web");
    house.stop("web", "").expect(200);
    house.started("web");
    assert!(engine::runs(&house.container("web")));
    let journal = house.state().join("journal.json");
    let written = || fs::read_to_string(&journal).unwrap_or_default();
    until(|| written().contains("running").then_some(()), written);
    until(
        || (house.get("/health")["degraded"] == json!([])).then_some(()),
        || house.get("/health").to_string(),
    );
    // Ten a second, and no flood of its own.
    assert!(house.log().matches(complaint).count() < 1000);
}

#[test]
fn c8_callers_who_hang_up_while_they_wait_leave_nothing_open() {
    let Some(house) = House::with("", &two("exec sleep 86400")) else { return };
    house.get("/health");
    let (process, before) = (house.process(), descriptors(house.process()));
    let first = house.begin_start("web", "");
    house.becomes("web", "starting");
    let callers: Vec<_> = (0..200).map(|_| house.begin_start("web", "")).collect();
    until(
        || (descriptors(process) > before + 150).then_some(()),
        || format!("only {} of them came in", descriptors(process)),
    );
    drop(callers);
    settles(process, before);
    drop(first);
    let database = format!("{}-db-1", house.project("web"));
    until(|| engine::runs(&database).then_some(()), || "it never runs".to_owned());
    engine::execute(&database, "touch /ready");
    house.becomes("web", "running");
    assert_eq!(engine::containers(&house.project("web")).len(), 2);
}

#[test]
fn e1_readers_of_logs_come_and_go_and_leave_nothing_open() {
    let script = "i=0; while test $$i -lt 200; do echo line $$i; i=$$((i+1)); done; echo done; exec sleep 86400";
    let Some(house) = House::with("", &web(script, "")) else { return };
    house.started("web");
    until(
        || house.logs("web", "")["logs"].as_str()?.contains("done").then_some(()),
        || "never done".to_owned(),
    );
    let (process, before) = (house.process(), descriptors(house.process()));
    let path = format!("/services/{}/logs?tail=all", house.project("web"));
    let request = house.request("GET", &path);
    for _ in 0..25 {
        let mut readers: Vec<_> = (0..12).map(|_| house.connect()).collect();
        for reader in &mut readers {
            reader.write_all(request.as_bytes()).expect("it reads");
        }
        // Every other reads to the end; the rest are gone before there is anything to read.
        for reader in readers.iter_mut().step_by(2) {
            let mut answer = String::new();
            reader.read_to_string(&mut answer).expect("it answers");
            assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("line 199"), "{answer}");
        }
    }
    settles(process, before);
    assert_eq!(house.logs("web", "?tail=1")["logs"], "web-1  | done\n");
}

#[test]
fn e2_reading_a_flood_takes_no_more_memory_than_is_shown_of_it() {
    // In long lines: it is their number that costs time. It goes on while it is read.
    let script = "line=$$(printf '%08000d' 0); n=0; yes $$line | head -n 1500; \
                  until test -e /enough -o $$n -gt 100; do \
                  yes $$line | head -n 20; n=$$((n+1)); sleep 0.2; done; exec sleep 86400";
    let Some(house) = House::with("", &web(script, "stop_grace_period: 0s")) else { return };
    house.started("web");
    let container = house.container("web");
    // A machine may be too slow for the time that the nanny gives a log.
    let whole = || {
        let asked = || {
            let answer = house.ask("GET", "/services/web/logs?tail=all", "");
            (answer.status != 504).then(|| answer.expect(200))
        };
        until(asked, || "its log is never read in time".to_owned())
    };
    until(|| (whole()["truncated"] == true).then_some(()), || "it is never long".to_owned());
    let process = house.process();
    let before = status(process, "VmHWM");
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let answer = whole();
                    let said = answer["logs"].as_str().expect("it is text");
                    assert_eq!(answer["truncated"], true);
                    assert!(said.len() <= 8 << 20 && said.len() > 7 << 20, "{}", said.len());
                    pause();
                }
            });
        }
    });
    engine::execute(&container, "touch /enough");
    // Two answers at once, each of which is text, and JSON, and in the hands of the socket.
    let most = before + 2 * 4 * (8 << 10);
    assert!(status(process, "VmHWM") < most, "{before} KiB became {}", status(process, "VmHWM"));
    assert_eq!(house.status("web")["status"], "running");
}

#[test]
fn i8_hundreds_of_starts_and_stops_leave_nothing_behind() {
    let Some(house) = House::with(GPU, &web(IDLE, "stop_grace_period: 1s")) else { return };
    let process = house.process();
    let cycle = |times: usize| {
        for _ in 0..times {
            house.started("web");
            for _ in 0..20 {
                assert!(house.started("web")["message"].as_str().unwrap().contains("already"));
                house.get("/services");
            }
            house.stop("web", "").expect(200);
            house.stop("web", "").expect(200);
        }
    };
    cycle(4);
    let (fds, memory) = (descriptors(process), status(process, "VmRSS"));
    let threads = status(process, "Threads");
    cycle(10);
    settles(process, fds);
    assert!(status(process, "Threads") <= threads + 4, "{threads} threads before");
    let now = status(process, "VmRSS");
    assert!(now < memory + (8 << 10), "{memory} KiB became {now}");
}
