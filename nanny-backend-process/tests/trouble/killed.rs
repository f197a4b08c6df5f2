//! Nannies and shims that are killed.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nanny_backend_process::{ProcessBackend, ProcessConfig};
use nanny_lib::backend::{ContainerBackend as _, ContainerState, ErrorKind, Selector};
use rustix::process::Signal;

use crate::house::{House, kill, leaders, processes_with, send, shims, until};

/// A nanny in a process of its own, which does what nannies do until it is killed.
pub(crate) struct Owner(PathBuf);

pub(crate) const WORD: &str = "own-processes";

impl Owner {
    /// Whether this program is to be one.
    pub(crate) fn asked() -> Option<Self> {
        let mut arguments = std::env::args_os().skip(1);
        arguments.next().filter(|word| word == WORD)?;
        Some(Self(arguments.next()?.into()))
    }

    fn begin(house: &House) -> Child {
        Self::begin_with(house, |_| {})
    }

    pub(crate) fn begin_with(house: &House, change: impl FnOnce(&mut Command)) -> Child {
        let program = std::env::current_exe().expect("this program has a path");
        let mut owner = Command::new(program);
        owner.arg(WORD).arg(house.directory.path().join("processes"));
        owner.stdin(Stdio::null()).stdout(Stdio::piped());
        change(&mut owner);
        owner.spawn().expect("this program can be run")
    }

    /// Sees that `stays` runs, and starts, stops and kills `comes` all the time.
    pub(crate) async fn live(self) {
        let backend = ProcessBackend::new(ProcessConfig::new(self.0));
        for round in 0_u32.. {
            let all = backend.list(&Selector::All).await.expect("there is a list");
            let id = |name: &str| all.iter().find(|info| info.name == name).map(|info| &info.id);
            let (stays, comes) =
                (id("stays").expect("it is there"), id("comes").expect("it is there"));
            backend.start(stays).await.expect("it runs");
            let done = match round % 3 {
                0 => backend.start(comes).await,
                1 => backend.stop(comes, Some(Duration::from_millis(20))).await,
                _ => backend.kill(comes).await,
            };
            match done {
                // It is being stopped, as the one before asked.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                done => done.expect("it does what it is asked"),
            }
        }
    }
}

/// Counts, and says who counts.
const COUNTS: &str = "n=0; while :; do n=$((n+1)); echo $$ $n; sleep 0.01; done";

pub(crate) async fn a1_a_nanny_that_is_killed_a_hundred_times_loses_nothing_and_doubles_nothing() {
    let house = House::new();
    let stays = house.started("stays", COUNTS).await;
    let comes = house.created("comes", &format!("trap '' TERM; {COUNTS}")).await;
    let before = leaders(&stays);
    let mut chance = 1_u64;
    for _ in 0..100 {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut owner = Owner::begin(&house);
        tokio::time::sleep(Duration::from_millis((chance >> 33) % 120)).await;
        owner.kill().expect("it can be killed");
        let ended = owner.wait().expect("it ends");
        assert_eq!(ended.code(), None, "it ended by itself");
        assert_eq!(leaders(&stays), before);
        assert!(leaders(&comes).len() <= 1, "it runs twice: {:?}", leaders(&comes));
    }
    // What the last one had begun may begin only now.
    until("nothing is left", async || {
        house.backend.kill(&comes).await.unwrap();
        (leaders(&comes).is_empty() && shims(&comes).is_empty()).then_some(())
    })
    .await;
    assert_eq!(house.inspect(&stays).await.state, ContainerState::Running);
    house.backend.stop(&stays, None).await.unwrap();
    for id in [&stays, &comes] {
        let log = house.log(id).await;
        assert!(!log.is_empty());
        let mut last = (String::new(), 0);
        for line in log {
            let (who, count) = line.split_once(' ').expect("two words");
            let count: u64 = count.parse().expect("a number");
            let expected = if who == last.0 { last.1 + 1 } else { 1 };
            assert_eq!(count, expected, "after {last:?} came {line}");
            last = (who.to_owned(), count);
        }
    }
    until("its shim is gone", async || shims(&stays).is_empty().then_some(())).await;
}

pub(crate) async fn a_shim_that_is_killed_is_replaced_and_the_log_goes_on() {
    let house = House::new();
    let id = house.started("a", "n=0; while :; do n=$((n+1)); echo $n; sleep 0.01; done").await;
    let program = leaders(&id);
    house.logged(&id, |line| line == "20").await;
    let [shim] = shims(&id)[..] else { panic!("it has one shim") };
    send(shim, Signal::KILL);
    until("it is gone", async || shims(&id).is_empty().then_some(())).await;
    // More than a line, less than a pipe: nobody reads it as yet.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(house.inspect(&id).await.state, ContainerState::Running);
    // Whoever lists finds that it has none.
    until("it has one again", async || {
        house.backend.list(&Selector::All).await.unwrap();
        (shims(&id).len() == 1).then_some(())
    })
    .await;
    assert_eq!(leaders(&id), program);
    let last: u64 = house.log(&id).await.last().unwrap().parse().unwrap();
    house.logged(&id, |line| line == (last + 20).to_string()).await;
    house.backend.stop(&id, None).await.unwrap();
    let exit = house.inspect(&id).await.exit.unwrap();
    assert_eq!((exit.code, exit.error), (None, None));
    assert!(leaders(&id).is_empty());
    let log: Vec<u64> = house.log(&id).await.iter().map(|line| line.parse().unwrap()).collect();
    assert!(log.is_sorted_by(|a, b| a < b), "{log:?}");
    // Some may have been on their way from one pipe to the log when the shim was killed.
    assert!(log.len() as u64 + 20 >= *log.last().unwrap(), "{} of {:?}", log.len(), log.last());
}

pub(crate) async fn a_shim_that_is_killed_while_it_starts_something_leaves_one_or_none() {
    let house = House::new();
    let id = house.created("a", "while :; do sleep 0.1; done").await;
    let mut killed = 0;
    for round in 0..500 {
        if round >= 40 && killed > 0 {
            break;
        }
        let start = tokio::spawn({
            let (backend, id) = (house.backend.clone(), id.clone());
            async move { backend.start(&id).await }
        });
        tokio::time::sleep(Duration::from_millis(round)).await;
        for shim in shims(&id) {
            // It may have ended in between.
            let shim = rustix::process::Pid::from_raw(shim).unwrap();
            killed += u32::from(rustix::process::kill_process(shim, Signal::KILL).is_ok());
        }
        let said = start.await.unwrap();
        let state = house.inspect(&id).await.state;
        let there = leaders(&id).len();
        assert!(there <= 1, "it runs {there} times");
        assert!(there == 0 || state.holds(), "it runs, and is {state:?} after {said:?}");
        // Whatever has become of it can be ended, and started again.
        house.backend.kill(&id).await.unwrap();
        assert_eq!(processes_with("environ", &format!("NANNY_PROCESS_ID={id}")), Vec::<i32>::new());
    }
    assert!(killed > 0, "no shim was there to be killed");
    house.starts(&id).await;
    assert_eq!((leaders(&id).len(), shims(&id).len()), (1, 1));
}

pub(crate) async fn what_is_left_of_a_killed_shim_and_program_is_not_started_twice() {
    let house = House::new();
    let script = "sleep 1234 & echo started; trap '' TERM; while :; do sleep 0.1; done";
    let id = house.started("a", script).await;
    house.logged(&id, |line| line == "started").await;
    let before = processes_with("environ", &format!("NANNY_PROCESS_ID={id}"));
    kill([shims(&id), leaders(&id)].concat()).await;
    assert!(house.inspect(&id).await.state.holds(), "its child may hold what it held");
    house.starts(&id).await;
    let now = processes_with("environ", &format!("NANNY_PROCESS_ID={id}"));
    assert_eq!(leaders(&id).len(), 1);
    assert!(!now.iter().any(|pid| before.contains(pid)), "{before:?} and now {now:?}");
}

pub(crate) async fn a_session_without_shim_program_or_mark_is_ended_all_the_same() {
    let house = House::new();
    // The program obeys, and its child, which carries no mark, does not.
    let unique = format!("unmarked {}", house.directory.path().display());
    let hides = format!("trap \"\" TERM; echo hides; while :; do sleep 0.1; done # {unique}");
    let script = format!("env -i \"PATH=$PATH\" sh -c '{hides}' & exec sleep 1000");
    let hidden = || processes_with("cmdline", &unique);
    for kills_program in [false, true] {
        let id = house.started("a", &script).await;
        house.logged(&id, |line| line == "hides").await;
        kill(shims(&id)).await;
        if kills_program {
            kill(leaders(&id)).await;
        }
        assert!(house.inspect(&id).await.state.holds(), "its child may hold what it held");
        house.backend.stop(&id, Some(Duration::from_millis(200))).await.unwrap();
        assert_eq!(hidden(), Vec::<i32>::new());
        assert_eq!(house.inspect(&id).await.state, ContainerState::Exited);
        house.backend.remove(&id).await.unwrap();
    }
}
