//! A few seeds of the simulation, so that it runs wherever tests run; `.ci/run` plays thousands.

use std::sync::Mutex;

use nanny_testkit::simulation;

#[test]
fn whatever_happens_the_promises_hold() {
    let broken = Mutex::new(Vec::new());
    simulation::run_many(0..150, |seed, how| {
        broken.lock().expect("nobody panics").push(format!("seed {seed}: {how}"));
        true
    });
    let broken = broken.into_inner().expect("nobody panics");
    let first = broken.first().and_then(|line| line.split([' ', ':']).nth(1)?.parse().ok());
    let trace = first.map(simulation::trace).unwrap_or_default();
    assert!(broken.is_empty(), "{trace}\n{}", broken.join("\n"));
}

#[test]
fn a_seed_reproduces_a_run() {
    for seed in [7, 11, 13] {
        assert_eq!(simulation::trace(seed), simulation::trace(seed));
    }
}
