//! Processes that leave the group.

use std::time::Duration;

use nanny_lib::backend::ContainerBackend as _;

use crate::house::{House, processes_with, until};

/// Runs away in every way there is: into a session of its own, to another parent, without the
/// environment; and does not listen.
fn runs_away(unique: &str) -> String {
    let hides = format!("trap \"\" TERM HUP; while :; do sleep 0.1; done # {unique}");
    format!(
        "setsid sh -c '{hides}' &\n\
         (setsid sh -c '{hides}' &)\n\
         env -i setsid sh -c 'sh -c \"while :; do sleep 0.1; done # {unique}\" & exit' &\n"
    )
}

fn unique() -> String {
    format!("stray-{}-{}", std::process::id(), rand())
}

fn rand() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish()
}

async fn are_there(unique: &str, count: usize) {
    let there = async || (processes_with("cmdline", unique).len() >= count).then_some(());
    until("they have run away", there).await;
}

pub(crate) async fn a_stop_ends_what_has_run_away() {
    let house = House::new();
    let unique = unique();
    let script = format!("{}\ntrap '' TERM; while :; do sleep 0.1; done", runs_away(&unique));
    let id = house.started("a", &script).await;
    are_there(&unique, 4).await;
    house.backend.stop(&id, Some(Duration::from_millis(200))).await.unwrap();
    assert_eq!(processes_with("cmdline", &unique), Vec::<i32>::new());
    house.backend.start(&id).await.unwrap();
    are_there(&unique, 4).await;
    house.backend.kill(&id).await.unwrap();
    assert_eq!(processes_with("cmdline", &unique), Vec::<i32>::new());
}

pub(crate) async fn what_a_program_leaves_behind_ends_with_it() {
    let house = House::new();
    let unique = unique();
    let script = format!("{}\nsleep 0.5; exit 7", runs_away(&unique));
    let id = house.started("a", &script).await;
    let exit = house.ended(&id).await.exit.unwrap();
    assert_eq!(exit.code, Some(7));
    assert_eq!(processes_with("cmdline", &unique), Vec::<i32>::new());
}

pub(crate) async fn a_group_has_its_grace_to_the_end() {
    let house = House::new();
    // The first process obeys at once, and its child wants to finish something.
    let script = "sh -c 'trap \"sleep 0.3; echo finished; exit\" TERM; while :; do sleep 0.05; done' & \
                  sleep 0.1; echo ready; wait";
    let id = house.started("a", script).await;
    house.logged(&id, |line| line == "ready").await;
    house.backend.stop(&id, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(house.inspect(&id).await.exit.unwrap().code, Some(143));
    let log = house.log(&id).await;
    assert!(log.contains(&"finished".to_owned()), "{log:?}");
}
