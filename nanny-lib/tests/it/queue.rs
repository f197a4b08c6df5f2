//! Starts that wait for a GPU.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use nanny_lib::backend::MemoryBackend;
use nanny_lib::lifecycle::Settings;
use nanny_lib::manifest::{FixedSource, Service};
use nanny_lib::{
    Change, Error, Heard, Nanny, StartOptions, Started, Status, StopOptions, Verdict, Wait,
};
use tokio::task::JoinHandle;

use crate::house::{House, gpu, name};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Whoever is next lets others go first for a minute, and nobody loses the GPU in the first ten
/// seconds.
async fn house(services: impl IntoIterator<Item = Service>) -> House {
    let engine = MemoryBackend::new();
    let mut settings = Settings::default();
    settings.gpu.max_bypass = Some(secs(60));
    settings.gpu.min_hold = secs(10);
    let nanny = Nanny::builder()
        .backend(Arc::new(engine.clone()))
        .source(FixedSource::new(services))
        .settings(settings)
        .start()
        .await
        .expect("a nanny starts");
    House { nanny, engine }
}

fn patient() -> StartOptions {
    StartOptions::default().queued_for(Duration::MAX)
}

/// Asks for a start, and lets it become visible.
async fn ask(
    house: &House,
    service: &str,
    options: StartOptions,
) -> JoinHandle<Result<Started, Error>> {
    let (nanny, service) = (house.nanny.clone(), service.to_owned());
    let asked = tokio::spawn(async move { nanny.start(&service, options).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    asked
}

fn of_priority(service: &str, priority: i32) -> Service {
    let mut service = gpu(service);
    let manifest = Arc::make_mut(&mut service.manifest);
    manifest.priority = priority;
    service
}

fn pinned(service: &str) -> Service {
    let mut service = gpu(service);
    Arc::make_mut(&mut service.manifest).pinned = true;
    service
}

#[tokio::test(start_paused = true)]
async fn a_start_with_a_limit_on_whom_it_stops_does_not_wait_but_joins_one_who_does() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let moment = Duration::from_millis(1);
    let in_place_of_nobody =
        |options: StartOptions| house.nanny.start_in_place_of("b", Vec::new(), options);
    let forced = StartOptions::forced().queued_for(moment);
    let patient_one = StartOptions::default().queued_for(moment);
    for options in [forced, patient_one] {
        let error = in_place_of_nobody(options).await.unwrap_err();
        assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
        assert_eq!(house.status("b"), Status::Stopped);
    }
    let waits = ask(&house, "b", patient()).await;
    let error = in_place_of_nobody(forced).await.unwrap_err();
    assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
    assert_eq!(
        (house.status("b"), house.engine.running()),
        (Status::Queued, vec!["a-main-1".into()])
    );
    let stop_a = async {
        tokio::time::sleep(secs(1)).await;
        house.nanny.stop("a", StopOptions::default()).await
    };
    let (joined, stopped) = tokio::join!(in_place_of_nobody(patient()), stop_a);
    stopped.unwrap();
    assert!(joined.unwrap().stopped.is_empty());
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_that_waits_is_let_in_when_the_gpu_is_free() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let waits = ask(&house, "b", patient()).await;
    assert_eq!(house.status("b"), Status::Queued);
    let seen = house.nanny.snapshot();
    let queue = seen.services["b"].queue.clone().expect("it is queued");
    assert_eq!((queue.position, seen.gpu_queue.clone()), (0, vec![name("b")]));
    assert!(queue.reason.contains("'a'"), "{queue:?}");
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    waits.await.unwrap().unwrap();
    assert_eq!(house.engine.running(), ["b-main-1"]);
    assert!(house.nanny.snapshot().gpu_queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_new_place_in_the_queue_is_told_once() {
    let house = house([gpu("a"), gpu("b"), gpu("c")]).await;
    house.start("a").await;
    let (_first, _second) = (ask(&house, "b", patient()).await, ask(&house, "c", patient()).await);
    tokio::time::sleep(secs(20)).await;
    house.nanny.stop("b", StopOptions::default()).await.unwrap();
    house.nanny.shutdown().await;
    let told = house.nanny.changes(0).filter_map(async |heard| match heard {
        Heard::Change(recorded) => match &recorded.change {
            Change::Queued { service, position } => Some((service.to_string(), *position)),
            _ => None,
        },
        _ => None,
    });
    let told: Vec<_> = told.collect().await;
    let expected = [("b", 0), ("c", 1), ("c", 0)].map(|(name, at)| (name.to_owned(), at));
    assert_eq!(told, expected);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_for_the_queue_is_told_of_it() {
    let house = house([gpu("a"), gpu("b")]).await;
    let at_once = patient().waiting_for(Wait::None);
    let started = house.nanny.start("a", at_once).await.unwrap();
    assert!(started.pending && !started.queued, "{started:?}");
    house.until("a", Status::Running).await;
    let started = house.nanny.start("b", at_once).await.unwrap();
    assert!(started.pending && started.queued, "{started:?}");
}

#[tokio::test(start_paused = true)]
async fn patience_in_the_queue_ends_with_the_conflict_and_changes_nothing() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let error =
        house.nanny.start("b", StartOptions::default().queued_for(secs(20))).await.unwrap_err();
    assert!(matches!(&error, Error::GpuConflict { holders, .. } if holders == &["a"]), "{error:?}");
    assert_eq!((house.status("a"), house.status("b")), (Status::Running, Status::Stopped));
    assert_eq!(house.engine.runs("a-main-1"), 1);
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    tokio::time::sleep(secs(120)).await;
    assert!(house.engine.running().is_empty(), "what gave up is not started later");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_shorter_time_than_others_is_answered_before_them() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let short = StartOptions::default().queued_for(secs(3));
    let before = ask(&house, "b", short).await;
    let long = ask(&house, "b", patient()).await;
    let after = ask(&house, "b", short).await;
    tokio::time::sleep(secs(4)).await;
    for ended in [before, after] {
        assert!(ended.is_finished(), "it still waits");
        let error = ended.await.unwrap().unwrap_err();
        assert!(matches!(error, Error::GpuConflict { .. }), "{error:?}");
    }
    assert_eq!(house.status("b"), Status::Queued);
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    long.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_takes_a_start_out_of_the_queue() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let waits = ask(&house, "b", patient()).await;
    let stopped = house.nanny.stop("b", StopOptions::default()).await.unwrap();
    assert!(!stopped.was_running);
    assert!(matches!(waits.await.unwrap(), Err(Error::Cancelled { .. })));
    assert_eq!((house.status("a"), house.status("b")), (Status::Running, Status::Stopped));
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    tokio::time::sleep(secs(120)).await;
    assert!(house.engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn c10_whoever_is_next_gets_the_gpu_in_the_end() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let began = tokio::time::Instant::now();
    let started = house.nanny.start("b", patient()).await.unwrap();
    assert_eq!(started.stopped, [name("a")]);
    assert!(began.elapsed() >= secs(60), "the holder has its time");
    assert!(began.elapsed() < secs(62), "{:?}", began.elapsed());
    assert_eq!(house.engine.running(), ["b-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_counts_from_when_it_is_let_in() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    house.nanny.start("b", patient().within(secs(5))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_has_just_got_the_gpu_keeps_it_for_a_while() {
    let house = house([gpu("a"), gpu("b"), gpu("c")]).await;
    house.start("a").await;
    let first = ask(&house, "b", patient()).await;
    let second = ask(&house, "c", patient()).await;
    first.await.unwrap().unwrap();
    let began = tokio::time::Instant::now();
    second.await.unwrap().unwrap();
    assert!(began.elapsed() >= secs(9), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_pinned_are_waited_for() {
    let house = house([pinned("a"), gpu("b")]).await;
    house.start("a").await;
    let waits = ask(&house, "b", patient()).await;
    tokio::time::sleep(secs(600)).await;
    assert_eq!((house.status("a"), house.status("b")), (Status::Running, Status::Queued));
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    waits.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_higher_priority_keeps_the_gpu_until_waiting_has_made_up_for_it() {
    let house = house([of_priority("a", 3), gpu("b")]).await;
    house.start("a").await;
    let began = tokio::time::Instant::now();
    house.nanny.start("b", patient()).await.unwrap();
    assert!(began.elapsed() >= secs(180) && began.elapsed() < secs(190), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_higher_priority_goes_first_and_waiting_makes_up_for_it() {
    let house = house([pinned("a"), gpu("b"), of_priority("c", 1), of_priority("d", 2)]).await;
    house.start("a").await;
    let _b = ask(&house, "b", patient()).await;
    let _c = ask(&house, "c", patient()).await;
    assert_eq!(house.nanny.snapshot().gpu_queue, [name("c"), name("b")]);
    tokio::time::sleep(secs(181)).await;
    let _d = ask(&house, "d", patient()).await;
    // Three minutes are worth a priority of three.
    assert_eq!(house.nanny.snapshot().gpu_queue, [name("c"), name("b"), name("d")]);
}

#[tokio::test(start_paused = true)]
async fn c10_nobody_goes_before_one_who_has_waited_long_enough() {
    let house = house([gpu("a"), gpu("b"), gpu("c"), gpu("d")]).await;
    house.start("a").await;
    let _b = ask(&house, "b", patient()).await;
    let waits = ask(&house, "c", patient()).await;
    tokio::time::sleep(secs(65)).await;
    // It waits until 'b' has had the GPU for a while.
    assert_eq!((house.status("b"), house.status("c")), (Status::Running, Status::Queued));
    let error = house.nanny.start("d", StartOptions::default()).await.unwrap_err();
    assert!(matches!(&error, Error::GpuConflict { holders, .. } if holders == &["c"]), "{error:?}");
    waits.await.unwrap().unwrap();
    assert_eq!(house.engine.running(), ["c-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn force_takes_a_start_out_of_the_queue_and_answers_all() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let waits = ask(&house, "b", patient()).await;
    let impatient = house.nanny.start("b", StartOptions::default()).await;
    assert!(matches!(impatient, Err(Error::GpuConflict { .. })), "{impatient:?}");
    assert_eq!(house.status("b"), Status::Queued);
    let forced = house.nanny.start("b", StartOptions::forced()).await.unwrap();
    assert_eq!(forced.stopped, [name("a")]);
    waits.await.unwrap().unwrap();
    assert_eq!(house.engine.runs("b-main-1"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_for_what_it_would_wait() {
    let house = house([gpu("a"), gpu("b"), gpu("c")]).await;
    house.start("a").await;
    let _waits = ask(&house, "b", patient()).await;
    let verdict = |plan: nanny_lib::StartPlan| match plan.verdict {
        Verdict::Wait { position, reason } => (position, reason),
        other => panic!("{other:?}"),
    };
    let (position, reason) = verdict(house.nanny.plan("c", patient()).await.unwrap());
    assert_eq!(position, 1);
    assert!(reason.contains("'a'"), "{reason}");
    assert_eq!(verdict(house.nanny.plan("b", patient()).await.unwrap()).0, 0);
}

#[tokio::test(start_paused = true)]
async fn one_who_does_not_want_to_wait_for_the_answer_is_queued_all_the_same() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("a").await;
    let options = patient().waiting_for(Wait::None);
    let started = house.nanny.start("b", options).await.unwrap();
    assert!(started.pending);
    assert_eq!(house.status("b"), Status::Queued);
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    house.until("b", Status::Running).await;
}

#[tokio::test(start_paused = true)]
async fn what_other_hands_started_meanwhile_waits_no_longer() {
    let house = house([gpu("a"), gpu("b")]).await;
    house.start("b").await;
    house.nanny.stop("b", StopOptions::default()).await.unwrap();
    house.start("a").await;
    let waits = ask(&house, "b", patient()).await;
    house.engine.start_by_hand("b-main-1");
    let started = waits.await.unwrap().unwrap();
    assert!(started.already_running);
    assert_eq!(house.engine.running(), ["a-main-1", "b-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_fails_gives_the_gpu_back_before_the_queue_is_served() {
    let house = house([gpu("a"), gpu("b"), gpu("c")]).await;
    house.start("a").await;
    house.engine.start_fails(
        "b-main-1",
        nanny_lib::backend::BackendError::new(
            nanny_lib::backend::ErrorKind::Other,
            "start",
            "no such device",
        ),
    );
    let _waits = ask(&house, "c", patient()).await;
    let error = house.nanny.start("b", StartOptions::forced()).await.unwrap_err();
    let Error::StartFailed { restored, .. } = error else { panic!("{error:?}") };
    assert_eq!(restored, [name("a")]);
    assert_eq!(house.status("c"), Status::Queued);
    assert_eq!(house.engine.running(), ["a-main-1"]);
}

/// Services are busy until the test says otherwise.
#[derive(Debug, Default)]
struct Busy {
    asked: tokio::sync::Mutex<Vec<String>>,
    done: tokio::sync::Notify,
}

#[async_trait::async_trait]
impl nanny_lib::gpu::Drain for Busy {
    async fn drain(&self, service: &nanny_lib::ServiceName) {
        self.asked.lock().await.push(service.to_string());
        self.done.notified().await;
    }
}

async fn busy_house() -> (House, Arc<Busy>) {
    let (engine, busy) = (MemoryBackend::new(), Arc::new(Busy::default()));
    let nanny = Nanny::builder()
        .backend(Arc::new(engine.clone()))
        .source(FixedSource::new([gpu("a"), gpu("b")]))
        .drain(Arc::<Busy>::clone(&busy))
        .start()
        .await
        .expect("a nanny starts");
    (House { nanny, engine }, busy)
}

#[tokio::test(start_paused = true)]
async fn who_must_make_way_may_finish_what_it_does() {
    let (house, busy) = busy_house().await;
    house.start("a").await;
    let forced = ask(&house, "b", StartOptions::forced()).await;
    assert_eq!(*busy.asked.lock().await, ["a"]);
    tokio::time::sleep(secs(10)).await;
    assert_eq!(house.engine.running(), ["a-main-1"], "it has not finished");
    busy.done.notify_one();
    assert_eq!(forced.await.unwrap().unwrap().stopped, [name("a")]);
    assert_eq!(house.engine.running(), ["b-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_finish_in_time_is_stopped_all_the_same() {
    let (house, _busy) = busy_house().await;
    house.start("a").await;
    let began = tokio::time::Instant::now();
    house.nanny.start("b", StartOptions::forced()).await.unwrap();
    assert!(began.elapsed() >= secs(30) && began.elapsed() < secs(32), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stop_by_name_waits_for_nothing_under_way() {
    let (house, busy) = busy_house().await;
    house.start("a").await;
    let forced = ask(&house, "b", StartOptions::forced()).await;
    let began = tokio::time::Instant::now();
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    assert!(began.elapsed() < secs(1), "{:?}", began.elapsed());
    forced.await.unwrap().unwrap();
    house.nanny.stop("b", StopOptions::default()).await.unwrap();
    assert_eq!(*busy.asked.lock().await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn who_will_not_wait_is_not_made_to_by_a_start_in_the_queue_that_is_to_come() {
    let engine = MemoryBackend::new().with_stop_time(secs(10));
    let house = House::on(engine, [gpu("a"), gpu("b")]).await;
    house.start("b").await;
    let swap = ask(&house, "a", StartOptions::forced()).await;
    // It is on the way down, and is to come back when there is room.
    let waits = ask(&house, "b", patient()).await;
    let again = ask(&house, "b", patient()).await;
    let impatient = ask(&house, "b", StartOptions::default()).await;
    assert!(impatient.is_finished(), "it was not to wait");
    assert!(matches!(impatient.await.unwrap(), Err(Error::GpuConflict { .. })));
    swap.await.unwrap().unwrap();
    house.nanny.start("b", StartOptions::forced()).await.unwrap();
    waits.await.unwrap().unwrap();
    again.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn force_counts_while_the_service_is_still_on_the_way_down() {
    let engine = MemoryBackend::new().with_stop_time(secs(10));
    let house = House::on(engine, [gpu("a"), gpu("b")]).await;
    house.start("b").await;
    let swap = ask(&house, "a", StartOptions::forced()).await;
    let waits = ask(&house, "b", patient()).await;
    let forced = ask(&house, "b", StartOptions::forced()).await;
    tokio::time::sleep(secs(40)).await;
    assert!(forced.is_finished(), "force does not wait for the queue");
    forced.await.unwrap().unwrap();
    waits.await.unwrap().unwrap();
    assert!(swap.await.unwrap().is_err());
    assert_eq!(house.engine.running(), ["b-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_finished_is_not_asked_to_finish_again() {
    let (engine, busy) = (MemoryBackend::new().with_stop_time(secs(10)), Arc::new(Busy::default()));
    let nanny = Nanny::builder()
        .backend(Arc::new(engine.clone()))
        .source(FixedSource::new([gpu("a"), gpu("b"), gpu("c")]))
        .drain(Arc::<Busy>::clone(&busy))
        .start()
        .await
        .expect("a nanny starts");
    let house = House { nanny, engine };
    house.start("a").await;
    let _b = ask(&house, "b", StartOptions::forced()).await;
    busy.done.notify_one();
    tokio::time::sleep(secs(1)).await;
    let began = tokio::time::Instant::now();
    house.nanny.start("c", StartOptions::forced()).await.unwrap();
    assert!(began.elapsed() < secs(12), "{:?}", began.elapsed());
    assert_eq!(*busy.asked.lock().await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_next_on_an_engine_that_is_away_is_in_nobodys_way() {
    let (near, far) = (MemoryBackend::new(), MemoryBackend::new().with_name("far"));
    let mut absent = gpu("b");
    Arc::make_mut(&mut absent.manifest).backend = Some("far".to_owned());
    let mut settings = Settings::default();
    settings.gpu.max_bypass = Some(secs(60));
    let nanny = Nanny::builder()
        .backend(Arc::new(near.clone()))
        .backend(Arc::new(far.clone()))
        .source(FixedSource::new([pinned("a"), absent, gpu("c")]))
        .settings(settings)
        .start()
        .await
        .expect("a nanny starts");
    let house = House { nanny, engine: near };
    house.start("a").await;
    let _waits = ask(&house, "b", patient().waiting_for(Wait::None)).await;
    tokio::time::sleep(secs(90)).await;
    far.go_down();
    tokio::time::sleep(secs(10)).await;
    house.nanny.stop("a", StopOptions::default()).await.unwrap();
    house.start("c").await;
}
