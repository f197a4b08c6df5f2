//! The examination at the end of a run: once all is well, everything works as it should.
//!
//! Chaos excuses much. Here nothing is excused: each thing that a nanny is for is asked for once,
//! and must be done.

use std::time::Duration;

use nanny_lib::backend::{ContainerSpec, DeviceMapping};
use nanny_lib::{Error, StartOptions, StopOptions, Wait};
use tokio::time::sleep;

use super::engine::{Op, Reply, Starter};
use super::people::{Ask, Told};
use super::play::{Play, Stage};
use super::services;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(120);
/// By then a change has been noticed, and what follows from it is done.
const SOON: Duration = Duration::from_secs(15);

/// What went wrong.
type Failure = String;

/// Examines the nanny of the moment.
pub(super) async fn examine(stage: &Stage) -> Result<(), Failure> {
    stage.with(|play| {
        // From now on the examiner asks.
        play.temper.gentle = false;
        play.temper.readers = false;
        // Nor does anybody wait for memory.
        play.temper.late_memory = 0;
        play.clear_strangers();
    });
    // Files that ask for a GPU go on asking for as long as their service runs.
    stage.demand(&Ask::Stop("e", StopOptions::removing()), LIMIT).await;
    stage.with(|play| {
        for name in services::NAMES {
            play.catalogue.insert(name, 1);
        }
        play.say_changed();
    });
    sleep(Duration::from_secs(5)).await;
    for name in services::NAMES {
        // What was renamed by hand is made anew.
        let away = Ask::Stop(name, StopOptions::removing());
        let answer = stage.demand(&away, LIMIT).await;
        ensure(matches!(answer, Some(Ok(_))), || {
            format!("'{name}' cannot be removed: {answer:?}")
        })?;
    }
    for name in services::NAMES {
        start(stage, name).await?;
        stop(stage, name).await?;
    }
    refusal(stage).await?;
    rollback(stage).await?;
    restart(stage).await?;
    crash(stage).await?;
    outage(stage).await?;
    late(stage).await?;
    strangers(stage).await?;
    stop(stage, "a").await?;
    sleep(Duration::from_secs(6)).await;
    stage.with(Play::judge_view);
    end(stage).await
}

/// Who has the GPU is not stopped without force, and is with it.
async fn refusal(stage: &Stage) -> Result<(), Failure> {
    start(stage, "a").await?;
    let answer = stage.demand(&Ask::Start("g", StartOptions::default()), LIMIT).await;
    let named =
        matches!(&answer, Some(Err(Error::GpuConflict { holders, .. })) if holders == &["a"]);
    ensure(named, || format!("'g' is not refused because of 'a': {answer:?}"))?;
    ensure(runs(stage, "a"), || "'a' was stopped without force".to_owned())?;
    start(stage, "g").await?;
    ensure(!runs(stage, "a"), || "'a' runs beside 'g'".to_owned())?;
    stop(stage, "g").await
}

/// Who made way for one that cannot start is started again, and the caller is told.
async fn rollback(stage: &Stage) -> Result<(), Failure> {
    start(stage, "a").await?;
    stage.with(|play| play.refused.push("b-main-1".to_owned()));
    let answer = stage.demand(&Ask::Start("b", forced()), LIMIT).await;
    stage.with(|play| play.refused.clear());
    let told = matches!(&answer, Some(Err(Error::StartFailed { restored, .. }))
        if restored.iter().any(|name| name.as_str() == "a"));
    ensure(told, || format!("'a' is not given back what 'b' could not use: {answer:?}"))?;
    ensure(runs(stage, "a"), || "'a' is said to run again, and does not".to_owned())
}

/// A restart makes a new run, and keeps the GPU.
async fn restart(stage: &Stage) -> Result<(), Failure> {
    let before = stage.with(|play| play.run_of("a-main-1"));
    let answer = stage.demand(&Ask::Restart("a", StartOptions::default()), LIMIT).await;
    let runs = matches!(answer, Some(Ok(Told::Runs)));
    ensure(runs, || format!("'a' is not restarted: {answer:?}"))?;
    let after = stage.with(|play| play.run_of("a-main-1"));
    ensure(after > before, || "'a' was said to be restarted, and was not".to_owned())
}

/// What crashes is started again, as its file asks; what is stopped by hand is not.
async fn crash(stage: &Stage) -> Result<(), Failure> {
    let crashed = stage.with(|play| play.crash("a-main-1"));
    ensure(crashed, || "'a' does not run".to_owned())?;
    sleep(SOON).await;
    ensure(runs(stage, "a"), || "'a' has crashed, and is not restarted".to_owned())?;
    stage.with(|play| play.by_hand("a-main-1", |id| Op::Stop(id, Duration::from_secs(1))));
    sleep(SOON).await;
    ensure(!runs(stage, "a"), || "'a' was stopped by hand, and runs again".to_owned())?;
    let answer = stage.demand(&Ask::Start("g", StartOptions::default()), LIMIT).await;
    let free = matches!(answer, Some(Ok(Told::Runs)));
    ensure(free, || format!("'a' was stopped by hand, and 'g' cannot start: {answer:?}"))?;
    stop(stage, "g").await
}

/// A nanny that is killed while it starts something takes it up again; what it had running goes on.
async fn outage(stage: &Stage) -> Result<(), Failure> {
    start(stage, "e").await?;
    let run = stage.with(|play| play.run_of("e-main-1"));
    let starting = StartOptions::forced().waiting_for(Wait::None);
    let answer = stage.demand(&Ask::Start("g", starting), LIMIT).await;
    let pending = matches!(answer, Some(Ok(Told::Pending)));
    ensure(pending, || format!("'g' is not on its way: {answer:?}"))?;
    // Its journal is written by now; its containers are not yet up.
    sleep(Duration::from_millis(25)).await;
    stage.with(|play| play.kill(false));
    sleep(SOON).await;
    ensure(runs(stage, "g"), || "the start of 'g' was cut short, and not taken up".to_owned())?;
    let same = stage.with(|play| play.run_of("e-main-1")) == run && runs(stage, "e");
    ensure(same, || "'e' did not run on".to_owned())?;
    // The one that came after knows who has the GPU.
    let answer = stage.demand(&Ask::Start("a", StartOptions::default()), LIMIT).await;
    let refused = matches!(answer, Some(Err(Error::GpuConflict { .. })));
    ensure(refused, || format!("'g' runs, and 'a' is not refused: {answer:?}"))?;
    stop(stage, "g").await?;
    stop(stage, "e").await
}

/// A start that was said to have failed, and is executed after its service was stopped, is undone.
async fn late(stage: &Stage) -> Result<(), Failure> {
    stage.with(|play| play.next_start_is_late = true);
    let starting = StartOptions::default().waiting_for(Wait::None);
    let answer = stage.demand(&Ask::Start("a", starting), LIMIT).await;
    ensure(matches!(answer, Some(Ok(_))), || format!("'a' is not on its way: {answer:?}"))?;
    sleep(Duration::from_secs(2)).await;
    stop(stage, "a").await?;
    let runs_before = stage.with(|play| play.run_of("a-main-1"));
    sleep(SOON + SOON).await;
    let came = stage.with(|play| play.run_of("a-main-1")) > runs_before;
    ensure(came, || "the late start never came".to_owned())?;
    ensure(!runs(stage, "a"), || "'a' was stopped, and a late start of it is not undone".to_owned())
}

/// A stranger's container has the GPU: nobody is let in beside it without force, and it is left
/// alone.
async fn strangers(stage: &Stage) -> Result<(), Failure> {
    stage.with(|play| {
        let mut spec = ContainerSpec::new("stranger", "image");
        spec.devices = vec![DeviceMapping::new("/dev/nvidia0")];
        let made = play.execute(0, &Op::Create(Box::new(spec)), Starter::Others);
        if let Ok((Reply::Made(id), _)) = made {
            let _ = play.execute(0, &Op::Start(id), Starter::Others);
        }
    });
    sleep(Duration::from_secs(5)).await;
    let answer = stage.demand(&Ask::Start("a", StartOptions::default()), LIMIT).await;
    let named = matches!(&answer, Some(Err(Error::GpuConflict { holders, .. })) if holders == &["stranger"]);
    ensure(named, || format!("'a' is not refused because of a stranger: {answer:?}"))?;
    start(stage, "a").await?;
    ensure(stage.with(|play| play.run_of("stranger")) == Some(1), || {
        "the stranger was stopped".to_owned()
    })
}

/// The nanny ends in time, and leaves what runs running.
async fn end(stage: &Stage) -> Result<(), Failure> {
    start(stage, "d").await?;
    let run = stage.with(|play| play.run_of("d-db-1"));
    stage.with(Play::shut_down);
    sleep(Duration::from_secs(15)).await;
    let same = runs(stage, "d") && stage.with(|play| play.run_of("d-db-1")) == run;
    ensure(same, || "the end of the nanny was the end of 'd'".to_owned())
}

async fn start(stage: &Stage, name: &'static str) -> Result<(), Failure> {
    let answer = stage.demand(&Ask::Start(name, forced()), LIMIT).await;
    let started = matches!(answer, Some(Ok(Told::Runs)));
    ensure(started && runs(stage, name), || format!("'{name}' cannot be started: {answer:?}"))
}

async fn stop(stage: &Stage, name: &'static str) -> Result<(), Failure> {
    let answer = stage.demand(&Ask::Stop(name, StopOptions::default()), LIMIT).await;
    let stopped = matches!(answer, Some(Ok(_)));
    ensure(stopped && !runs(stage, name), || format!("'{name}' cannot be stopped: {answer:?}"))
}

fn forced() -> StartOptions {
    StartOptions::forced().within(LIMIT)
}

fn runs(stage: &Stage, name: &str) -> bool {
    stage.with(|play| play.holds(name))
}

fn ensure(holds: bool, failure: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(failure()) }
}
