//! A nanny that is killed, again and again, beside plain processes.

use std::time::Duration;

use serde_json::Value;

use crate::kind::{Kind, Program};
use crate::processes::PROCESS;
use crate::stage::Stage;
use crate::witness;

const FORCE: &str = r#"{"force": true}"#;
const KILLS: u64 = 100;

/// Counts on as long as it runs.
fn counting() -> Program {
    Program::new("n=0; while :; do echo $n; n=$((n+1)); sleep 0.02; done")
}

/// The first processes of a service: those whose parent is none of it.
fn firsts(stage: &Stage, service: &str) -> usize {
    let project = stage.project(service);
    let all = witness::processes(|found| found == project);
    all.iter().filter(|run| !all.iter().any(|other| run.parent == other.pid)).count()
}

/// So long does the nth nanny live: spread over the time that it takes to start, to find out what
/// runs, and to begin what it was told.
fn life(n: u64) -> Duration {
    Duration::from_millis(n * 61 % 173)
}

pub(crate) fn a1_killed_a_hundred_times_it_neither_loses_nor_doubles_a_process() {
    let mut stage = Stage::new(&PROCESS);
    for service in ["plain-steady", "plain-other", "a", "b"] {
        stage.add(service, "", &counting());
    }
    stage.open();
    stage.started("plain-steady");
    stage.started("a");
    let steady = stage.run("plain-steady");
    stage.end_with("KILL");

    let suffix = format!("-{}", stage.tag);
    let gpu = |project: &str| project.ends_with(&suffix) && !project.starts_with("plain");
    witness::never_two(gpu, || {
        for n in 0..KILLS {
            // Every other one is told to do something, and killed before it says that it is done.
            let client = if n % 2 == 0 {
                stage.open_unheard(|command| {
                    command.args(["--backend", PROCESS.name()]);
                });
                None
            } else {
                stage.open();
                let (path, body) = match n / 2 % 4 {
                    0 => ("/services/b/start", FORCE),
                    1 => ("/services/plain-other/start", ""),
                    2 => ("/services/a/start", FORCE),
                    _ => ("/services/plain-other/stop", ""),
                };
                Some(stage.begin("POST", path, body))
            };
            #[expect(clippy::disallowed_methods, reason = "another process is given its time")]
            std::thread::sleep(life(n));
            stage.end_with("KILL");
            drop(client);
            assert_eq!(stage.run("plain-steady"), steady, "after {n}");
        }
    });

    stage.open();
    let settled = |now: &Value| now["status"] == "running" || now["status"] == "stopped";
    for service in ["plain-steady", "plain-other", "a", "b"] {
        stage.until(service, |now| {
            let runs = usize::from(now["is_running"] == true);
            settled(now) && firsts(&stage, service) == runs
        });
    }
    assert_eq!(stage.run("plain-steady"), steady);
    stage.start("b", FORCE).expect(200);
    stage.stop("plain-other", "").expect(200);
    stage.ends_with(&["b", "plain-steady"]);

    // All that it has said since it was started is there, once and in order.
    let answer = stage.logs("plain-steady", "?tail=all");
    let prefix = stage.kind.prefix("plain-steady");
    let lines = answer["logs"].as_str().expect("it is text").lines();
    let numbers: Vec<usize> = lines
        .map(|line| line.strip_prefix(&prefix).expect("whose").parse().expect("a number"))
        .collect();
    assert!(numbers.len() > 100, "it counts slowly: {numbers:?}");
    let gap = numbers.iter().enumerate().find(|(index, number)| index != *number);
    assert_eq!(gap, None, "of {}", numbers.len());
}
