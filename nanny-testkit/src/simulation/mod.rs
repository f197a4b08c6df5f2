//! A whole nanny against a world that misbehaves, on time that only we move.
//!
//! The nanny is the real one: its driver, its `step`, its effects with their deadlines. The world
//! around it is scripted: two engines that delay, reorder, repeat and lose what is said to them and
//! by them, that execute and lose the reply, or execute long after they said no, that answer a start
//! during a stop, are wedged, die, come back and bring containers with them; people who start, stop,
//! rename and remove; files that are edited; a disk that is full; a clock that jumps; and a nanny
//! that is killed at any call and at any write, and begins again from its journal and what it sees.
//! In some runs the GPU is measured, and what was stopped takes its time to give memory back.
//!
//! A run has three phases. In the first, all of that happens, and safety is judged at every instant.
//! Then it stops, and liveness is judged. At last every service is started and stopped once. A seed
//! reproduces a run exactly: [`run`] judges one, and [`trace`] tells it. `cargo run --release -p
//! nanny-testkit --bin simulate` runs as many as one likes.
//!
//! What is excused, because nobody could keep it: a GPU service beside one that other hands, or an
//! engine, started; beside one that runs on an engine which this nanny has never seen to answer;
//! beside one whose files were taken away while no nanny ran; beside a call of a nanny that has died
//! since; and, for as long as it takes to notice,
//! beside a call that was executed after it was given up.

mod backend;
mod calls;
mod engine;
mod examination;
mod gpu;
mod judge;
mod life;
mod listener;
mod people;
mod play;
mod plugs;
mod random;
mod services;
mod temper;

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nanny_lib::Nanny;
use nanny_lib::lifecycle::Settings;
use tokio::time::sleep;

use self::backend::SimBackend;
use self::judge::Judge;
use self::play::{Play, Stage};
use self::plugs::Plugs;

/// When mischief ends.
const CHAOS: Duration = Duration::from_secs(40);
/// From then on, the view must be right: a call that nobody answers is given up within 5 s.
const SOON: Duration = Duration::from_secs(12);
/// When everything must have come to rest.
const REST: Duration = Duration::from_secs(150);

/// Runs one seed.
///
/// # Errors
///
/// The first promise that was broken.
pub fn run(seed: u64) -> Result<(), String> {
    play(seed, false).0
}

/// Runs one seed, and tells what happened: a line for everything, with milliseconds since the
/// beginning. `?` is what callers ask and `!` what they are told, `>` what the nanny takes in and
/// `<` what it announces; the rest happens in the world.
#[must_use]
pub fn trace(seed: u64) -> String {
    let (verdict, trace) = play(seed, true);
    let verdict = verdict.map_or_else(|broken| broken, |()| "all promises were kept".to_owned());
    format!("{trace}seed {seed}: {verdict}\n")
}

fn play(seed: u64, traced: bool) -> (Result<(), String>, String) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = runtime.enable_time().start_paused(true).build() else {
        return (Err("no runtime".to_owned()), String::new());
    };
    let stage = runtime.block_on(async { Stage::new(seed, traced) });
    let scenes = scenes(&stage);
    // Every word that the nanny logs is looked at, in some of the runs.
    listener::listen(&stage, seed.is_multiple_of(16), || {
        runtime.block_on(async {
            let ended = stage.with(|play| Arc::clone(&play.ended));
            tokio::select! {
                biased;
                () = ended.notified() => {}
                () = scenes => {}
            }
        });
    });
    drop(runtime);
    stage.with(|play| {
        (play.broken.take().map_or(Ok(()), Err), play.trace.take().unwrap_or_default())
    })
}

/// Chaos, rest, and an examination.
async fn scenes(stage: &Stage) {
    begin(stage);
    stage.with(Play::mischief);
    sleep(CHAOS).await;
    stage.with(Play::heal);
    sleep(SOON).await;
    for _ in 0..(REST - SOON).as_secs() {
        stage.with(Play::judge_view);
        sleep(Duration::from_secs(1)).await;
    }
    stage.with(|play| play.rest = Some(Err("it takes no more steps".to_owned())));
    // The next look at the engines is a step.
    sleep(Duration::from_secs(5)).await;
    stage.with(|play| {
        if let Some(Err(wrong)) = play.rest.take() {
            play.broken(format!("L3: {wrong}"));
        }
        play.judge_rest();
    });
    if let Err(failure) = examination::examine(stage).await {
        stage.with(|play| play.broken(format!("L3: at last, {failure}")));
    }
}

/// A nanny begins, from the journal that the last one left.
fn begin(stage: &Stage) {
    let (epoch, boot) = stage.with(|play| {
        play.born_with = play.journal.clone();
        if play.born_with.boot != boot_name(play.boot) {
            play.born_with.engines.clear();
        }
        (play.epoch, boot_name(play.boot))
    });
    let plugs = Plugs { stage: stage.clone(), epoch };
    let clock = stage.clone();
    let mut builder = Nanny::builder()
        .source(plugs.clone())
        .probe(plugs.clone())
        .journal(Arc::new(plugs.clone()))
        .settings(settings())
        .wall_clock(move || clock.with(|play| play.wall()))
        .boot(boot)
        .observer(Arc::new(Judge { stage: stage.clone(), epoch }));
    if stage.with(|play| play.temper.measured) {
        builder = builder.gpus(Arc::new(plugs));
    }
    for engine in 0..2 {
        builder = builder.backend(Arc::new(SimBackend::new(stage.clone(), engine, epoch)));
    }
    let (nanny, driving) = match builder.build() {
        Ok(built) => built,
        Err(error) => return stage.with(|play| play.broken(format!("it cannot begin: {error}"))),
    };
    let driver = tokio::spawn(driving);
    stage.with(|play| {
        play.note(|| "a nanny begins".to_owned());
        play.driver = Some(driver.abort_handle());
        play.nanny = Some(nanny);
    });
    let stage = stage.clone();
    tokio::spawn(async move {
        let ended = driver.await;
        stage.with(|play| {
            if play.epoch == epoch && play.nanny.is_some() {
                play.broken(format!("the driver has ended by itself: {ended:?}"));
            }
        });
    });
}

/// Whoever is next in the queue for the GPU does not wait for minutes.
fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.gpu.max_bypass = Some(Duration::from_secs(4));
    settings.gpu.min_hold = Duration::from_secs(1);
    settings
}

fn boot_name(boot: u32) -> String {
    format!("boot {boot}")
}

/// Runs seeds, several at a time, and says which broke a promise, and how.
///
/// `report` is told of each as it is found, and says whether to go on.
pub fn run_many(seeds: Range<u64>, report: impl Fn(u64, &str) -> bool + Sync) -> u64 {
    let next = AtomicU64::new(seeds.start);
    let broken = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(how) = run(seed) {
                        broken.fetch_add(1, Ordering::Relaxed);
                        if !report(seed, &how) {
                            next.store(seeds.end, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    broken.into_inner()
}
