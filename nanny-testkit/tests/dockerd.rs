//! A private engine, from its start to its end.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use nanny_testkit::dockerd::{Dockerd, Survival};

/// Says so where it cannot run, and fails where somebody counts on it.
fn engine(survival: Survival) -> Option<Dockerd> {
    let Some(trouble) = Dockerd::unavailable() else {
        return Some(Dockerd::start(survival).expect("it starts"));
    };
    let is_set = |name| std::env::var(name).is_ok_and(|value| value == "true" || value == "1");
    assert!(!is_set("CI") && !is_set("NANNY_TEST_DOCKER"), "{trouble}");
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {trouble}");
    None
}

fn exists(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

#[test]
fn a_private_engine_comes_goes_and_leaves_nothing() {
    let Some(mut engine) = engine(Survival::End) else { return };
    let (first, folder) = (engine.pid().unwrap(), engine.folder().to_owned());
    assert_eq!(engine.docker(&["ps", "--quiet"]).unwrap(), "");
    assert!(engine.boot().is_err(), "one at a time");
    engine.end("KILL").unwrap();
    assert!(!engine.answers() && !exists(first));
    engine.boot().unwrap();
    engine.wait().unwrap();
    let second = engine.pid().unwrap();
    engine.signal("STOP").unwrap();
    // Its threads stop one after the other.
    let is_frozen = || engine.get("/_ping", Duration::from_millis(300)).is_err();
    assert!((0..200).any(|_| is_frozen()));
    // Even so.
    drop(engine);
    assert!(!exists(second) && !folder.exists());
}
