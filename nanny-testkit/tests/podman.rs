//! A private Podman, from its start to its end.

use std::io::Write as _;
use std::path::PathBuf;

use nanny_testkit::podman::Podman;

/// Says so where it cannot run, and fails where somebody counts on it.
fn engine() -> Option<Podman> {
    let Some(trouble) = Podman::unavailable() else {
        return Some(Podman::start().expect("it starts"));
    };
    let is_set = |name| std::env::var(name).is_ok_and(|value| value == "true" || value == "1");
    assert!(!is_set("CI") && !is_set("NANNY_TEST_PODMAN"), "{trouble}");
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {trouble}");
    None
}

fn exists(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

#[test]
fn a_private_podman_comes_goes_and_leaves_nothing() {
    let Some(mut engine) = engine() else { return };
    let (first, folder) = (engine.pid().unwrap(), engine.folder().to_owned());
    assert_eq!(engine.podman(&["ps", "--quiet"]).unwrap(), "");
    assert!(engine.boot().is_err(), "one at a time");
    engine.end("KILL").unwrap();
    assert!(!engine.answers() && !exists(first));
    engine.boot().unwrap();
    engine.wait().unwrap();
    let second = engine.pid().unwrap();
    drop(engine);
    assert!(!exists(second) && !folder.exists());
}
