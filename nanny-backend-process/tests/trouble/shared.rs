//! One directory in several hands.

use std::fs;

use futures_util::future::join_all;
use nanny_backend_process::{ProcessBackend, ProcessConfig};
use nanny_lib::backend::{ContainerBackend as _, ContainerState, ErrorKind, Selector};

use crate::house::{House, leaders, spec, until};

const SLEEPS: &str = "while :; do sleep 0.1; done";

fn hands(house: &House) -> Vec<ProcessBackend> {
    let directory = house.directory.path().join("processes");
    (0..2).map(|_| ProcessBackend::new(ProcessConfig::new(&directory))).collect()
}

pub(crate) async fn two_backends_create_one_container_of_a_name() {
    let house = House::new();
    let hands = hands(&house);
    let wanted = spec("a", SLEEPS);
    let created = join_all((0..16).map(|n| hands[n % 2].create(&wanted))).await;
    let (made, refused): (Vec<_>, Vec<_>) = created.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for error in refused.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
}

pub(crate) async fn two_backends_start_one_process() {
    let house = House::new();
    let hands = hands(&house);
    let id = house.created("a", SLEEPS).await;
    for _ in 0..5 {
        for started in join_all((0..6).map(|n| hands[n % 2].start(&id))).await {
            started.unwrap();
        }
        house.starts(&id).await;
        assert_eq!(leaders(&id).len(), 1);
        hands[1].kill(&id).await.unwrap();
        assert_eq!(leaders(&id).len(), 0);
    }
}

pub(crate) async fn a_start_is_seen_by_others_before_its_shim_is_there() {
    let this = std::env::current_exe().unwrap();
    let gates = tempfile::tempdir().unwrap();
    let gate = gates.path().join("open");
    let house = House::with(|config| {
        let wait = format!("while ! test -e '{}'; do sleep 0.05; done", gate.display());
        let slow = format!("{wait}; exec \"$0\" process-shim \"$@\"");
        config.program = "/bin/sh".into();
        config.arguments = vec!["-c".into(), slow.into(), this.into()];
    });
    let others = hands(&house);
    let id = house.created("a", SLEEPS).await;
    for before in [ContainerState::Created, ContainerState::Exited] {
        assert_eq!(others[0].inspect(&id).await.unwrap().state, before);
        let seen = async {
            until("it is seen", async || {
                let state = others[0].inspect(&id).await.unwrap().state;
                state.holds().then_some(state)
            })
            .await
        };
        // A start of somebody else is the same one.
        let waits = async {
            assert_eq!(seen.await, ContainerState::Restarting);
            assert_eq!(leaders(&id).len(), 0);
            fs::write(&gate, "").unwrap();
            others[1].start(&id).await.unwrap();
        };
        let (started, ()) = tokio::join!(house.backend.start(&id), waits);
        started.unwrap();
        house.starts(&id).await;
        assert_eq!(leaders(&id).len(), 1);
        fs::remove_file(&gate).unwrap();
        others[1].stop(&id, None).await.unwrap();
    }
}

pub(crate) async fn names_that_were_half_given_are_free() {
    let house = House::new();
    let id = house.created("a", SLEEPS).await;
    let processes = house.directory.path().join("processes");
    // As if whoever did it had been killed half-way.
    let half_made = processes.join(".new-0123456789abcdef0123456789abcdef");
    fs::create_dir(&half_made).unwrap();
    fs::write(half_made.join("name"), "b").unwrap();
    fs::rename(house.home(&id), processes.join(format!(".gone-{id}"))).unwrap();
    assert_eq!(house.backend.list(&Selector::All).await.unwrap(), []);
    house.created("a", SLEEPS).await;
    house.created("b", SLEEPS).await;
    assert!(!half_made.exists(), "it lies about for ever");
}

pub(crate) async fn a_late_request_does_not_end_the_next_run() {
    let house = House::new();
    let id =
        house.started("a", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done").await;
    house.logged(&id, |line| line == "ready").await;
    house.backend.kill(&id).await.unwrap();
    house.backend.start(&id).await.unwrap();
    until("it is ready again", async || (house.log(&id).await.len() == 2).then_some(())).await;
    // Somebody was held up between a look at the first run and a word about it. It is read first.
    let control = house.home(&id).join("control");
    fs::write(control, "1 kill\n1 stop 9 0\n").unwrap();
    house.backend.stop(&id, None).await.unwrap();
    assert_eq!(house.inspect(&id).await.exit.unwrap().code, Some(7));
}
