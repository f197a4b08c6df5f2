//! Many callers, and what becomes of those who do not wait.

use std::sync::{Arc, Mutex};
use std::task::{Context, Wake};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use nanny_lib::backend::MemoryBackend;
use nanny_lib::{Error, Nanny, StartOptions, Status, StopOptions};

use crate::house::{House, cpu, gpu};

#[tokio::test(start_paused = true)]
async fn c8_callers_who_leave_while_they_wait_leave_nothing_behind() {
    let engine = MemoryBackend::new().with_start_time(Duration::from_secs(30));
    let house = House::on(engine, [gpu("a"), gpu("b")]).await;
    let impatient = (0..500).map(|n| {
        let nanny = house.nanny.clone();
        async move {
            let start = nanny.start(if n % 5 == 0 { "b" } else { "a" }, StartOptions::default());
            tokio::time::timeout(Duration::from_millis(100), start).await
        }
    });
    let first = house.nanny.start("a", StartOptions::default());
    let (first, answers) = tokio::join!(first, join_all(impatient));
    first.unwrap();
    // Whoever is refused is told at once; whoever joins has left long before it runs.
    let refused = answers.iter().filter(|answer| matches!(answer, Ok(Err(_)))).count();
    let left = answers.iter().filter(|answer| answer.is_err()).count();
    assert_eq!((refused, left), (100, 400));
    assert_eq!((house.status("a"), house.status("b")), (Status::Running, Status::Stopped));
    assert_eq!(house.engine.runs("a-main-1"), 1);

    // Nor does their start come back once it was stopped.
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(house.engine.running().is_empty());
    let plan = house.nanny.plan("b", StartOptions::default()).await.unwrap();
    assert!(matches!(plan.verdict, nanny_lib::Verdict::Admit { .. }));
}

#[tokio::test(start_paused = true)]
async fn c11_whoever_finds_the_inbox_full_is_told_at_once() {
    let house = House::new([gpu("a")]).await;
    let start = || Box::pin(house.nanny.start("a", StartOptions::default()));
    // Nobody else has a turn before all of them were asked for.
    let mut refused = 0;
    let mut accepted = Vec::new();
    for _ in 0..3000 {
        let mut start = start();
        match (&mut start).now_or_never() {
            None => accepted.push(start),
            Some(answer) => {
                assert!(matches!(answer, Err(Error::Overloaded)), "{answer:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && accepted.len() >= 1024, "{refused} of 3000 were refused");
    for answer in join_all(accepted).await {
        answer.unwrap();
    }
    assert_eq!(house.engine.runs("a-main-1"), 1);
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn c16_a_request_that_is_repeated_has_one_effect() {
    let engine = MemoryBackend::new()
        .with_start_time(Duration::from_secs(2))
        .with_stop_time(Duration::from_secs(2));
    let house = House::on(engine, [gpu("a"), gpu("b")]).await;
    house.start("b").await;
    // At once, and again while it is under way, and once more when it is done.
    for round in 0..3 {
        let swaps = (0..50).map(|n| {
            let nanny = house.nanny.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(50 * n)).await;
                nanny.start("a", StartOptions::forced()).await
            }
        });
        for swapped in join_all(swaps).await {
            swapped.unwrap();
        }
        assert_eq!(house.engine.running(), ["a-main-1"], "round {round}");
        assert_eq!(house.engine.runs("a-main-1"), 1, "round {round}");
    }
    let stops = (0..50).map(|_| house.nanny.stop("a", StopOptions::default()));
    for stopped in join_all(stops).await {
        stopped.unwrap();
    }
    assert!(house.engine.running().is_empty());
}

/// Notes a service's status whenever a listener is woken, in that very instant.
struct Look {
    nanny: Nanny,
    seen: Mutex<Vec<Status>>,
}

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        let status = self.nanny.snapshot().services["a"].status;
        self.seen.lock().expect("nobody panicked").push(status);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_hears_of_a_change_finds_it_in_the_snapshot() {
    let house = House::new([cpu("a")]).await;
    let look = Arc::new(Look { nanny: house.nanny.clone(), seen: Mutex::default() });
    let waker = Arc::clone(&look).into();
    let mut context = Context::from_waker(&waker);
    let mut changes = house.nanny.changes(0);
    while changes.poll_next_unpin(&mut context).is_ready() {}
    house.start("a").await;
    assert_eq!(*look.seen.lock().unwrap(), [Status::Starting]);
}
