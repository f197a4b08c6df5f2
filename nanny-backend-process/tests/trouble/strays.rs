//! Processes that leave the group, and those that do not leave at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nanny_lib::backend::{ContainerBackend as _, ContainerState, ErrorKind, Selector};

use crate::house::{House, leaders, not_tested, processes_with, say, until};

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
    let script = "sh -c 'trap \"sleep 0.3; echo finished; exit\" TERM; echo ready; \
                  while :; do sleep 0.05; done' & wait";
    let id = house.started("a", script).await;
    house.logged(&id, |line| line == "ready").await;
    house.backend.stop(&id, Some(Duration::from_secs(20))).await.unwrap();
    assert_eq!(house.inspect(&id).await.exit.unwrap().code, Some(143));
    let log = house.log(&id).await;
    assert!(log.contains(&"finished".to_owned()), "{log:?}");
}

/// A control group whose processes get no signal as long as they are frozen, not even a kill.
struct Ice(PathBuf);

impl Ice {
    fn new() -> Option<Self> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/freezer/nanny-{}", unique()));
        match fs::create_dir(&path) {
            Ok(()) => Some(Self(path)),
            // The one hierarchy of today lets kills through to who is frozen: none is out of reach.
            Err(_) if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() => {
                say("*** NOT TESTED: this kernel can kill whoever is frozen ***");
                None
            }
            Err(error) => {
                not_tested(&format!("no process can be frozen: {}: {error}", path.display()));
                None
            }
        }
    }

    async fn freeze(&self, pid: i32) {
        // In this order, for else it may have a child in there by then.
        fs::write(self.0.join("freezer.state"), "FROZEN").expect("it can be frozen");
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("it can be moved");
        until("it is frozen", async || {
            let state = fs::read_to_string(self.0.join("freezer.state")).expect("it has a state");
            (state.trim() == "FROZEN").then_some(())
        })
        .await;
    }

    fn thaw(&self) {
        fs::write(self.0.join("freezer.state"), "THAWED").expect("it can be thawed");
    }
}

impl Drop for Ice {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let _ = fs::remove_dir(&self.0);
    }
}

pub(crate) async fn what_cannot_be_killed_holds_until_it_has_ended() {
    let house = House::new();
    let Some(ice) = Ice::new() else { return };
    let id = house.started("a", "while :; do sleep 0.1; done").await;
    let [program] = leaders(&id)[..] else { panic!("it runs once") };
    ice.freeze(program).await;
    for _ in 0..2 {
        for said in [
            house.backend.stop(&id, Some(Duration::ZERO)).await,
            house.backend.kill(&id).await,
            house.backend.remove(&id).await,
        ] {
            let error = said.unwrap_err();
            assert!(error.message().contains(&format!("[{program}]")), "{error}");
        }
        let listed = house.backend.list(&Selector::All).await.unwrap();
        assert_eq!(listed[0].state, ContainerState::Stopping);
        let error = house.backend.start(&id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    ice.thaw();
    let exit = house.ended(&id).await.exit.unwrap();
    assert_eq!(exit.code, Some(137));
    house.backend.stop(&id, None).await.unwrap();
    house.starts(&id).await;
    assert_eq!(leaders(&id).len(), 1);
}
