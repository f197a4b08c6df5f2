//! Create, start, stop, kill, remove.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    ContainerBackend, ContainerInfo, ContainerSpec, ContainerState, ErrorKind, FileInside,
    LogOptions, Mount, MountKind, Selector,
};
use tokio::time::Instant;

use super::context::{Context, Outcome, SHELL, Stop, fail, fails_with, skip, within};
use super::{Program, cases};

cases![
    create_does_not_start,
    create_under_a_taken_name_is_a_conflict_and_changes_nothing,
    creates_at_once_under_one_name_make_one,
    a_dropped_create_made_all_of_it_or_nothing,
    start_runs_it,
    start_of_a_running_container_succeeds_and_changes_nothing,
    starts_at_once_start_it_once,
    an_ended_container_can_be_started_again,
    an_exit_code_is_kept,
    stop_returns_when_it_is_down,
    stop_of_what_does_not_run_succeeds,
    stop_kills_after_the_grace_period,
    stop_without_a_grace_period_uses_the_containers_own,
    stops_at_once_succeed,
    b6_start_during_a_stop_is_not_swallowed,
    b6_start_during_a_stop_by_other_hands_is_not_swallowed,
    b7_kill_overtakes_a_stop,
    kill_ends_it_at_once,
    kill_of_what_does_not_run_succeeds,
    a_dropped_stop_leaves_nothing_behind,
    whatever_happens_to_it_at_once_happens_in_some_order,
    remove_takes_a_running_container_away,
    remove_of_what_is_gone_succeeds,
    b10_removes_at_once_succeed,
    a_removed_name_is_free_again,
    rename_gives_it_another_name,
    rename_to_a_taken_name_is_a_conflict_and_changes_nothing,
    a_volume_without_a_name_goes_over_to_another_container,
    files_are_there_when_it_starts,
];

const SOON: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(3);

async fn create_does_not_start(context: Arc<Context>) -> Outcome {
    let spec = context.spec(Program::Sleeps)?;
    let id = context.backend.create(&spec).await?;
    let info = context.backend.inspect(&id).await?;
    assert_eq!(info.state, ContainerState::Created);
    assert_eq!((&info.id, &info.name), (&id, &spec.name));
    assert_eq!((info.started_at, info.exit), (None, None));
    Ok(())
}

async fn create_under_a_taken_name_is_a_conflict_and_changes_nothing(
    context: Arc<Context>,
) -> Outcome {
    let spec = context.spec(Program::Sleeps)?;
    let id = context.start_spec(&spec).await?;
    let before = context.backend.inspect(&id).await?;
    let mut other = spec.clone();
    other.labels.insert("other".to_owned(), "yes".to_owned());
    fails_with("create", ErrorKind::Conflict, context.backend.create(&other).await)?;
    assert_eq!(context.backend.inspect(&id).await?, before);
    Ok(())
}

async fn creates_at_once_under_one_name_make_one(context: Arc<Context>) -> Outcome {
    let spec = context.spec(Program::Sleeps)?;
    let mut made = Vec::new();
    for created in join_all((0..4).map(|_| context.backend.create(&spec))).await {
        match created {
            Ok(id) => made.push(id),
            failed => fails_with("create", ErrorKind::Conflict, failed)?,
        }
    }
    assert_eq!(made.len(), 1, "{made:?}");
    let all = context.backend.list(&Selector::All).await?;
    let named = all.into_iter().filter(|info| info.name == spec.name);
    assert_eq!(named.map(|info| info.id).collect::<Vec<_>>(), made);
    Ok(())
}

/// The request may have arrived or not, and may be under way still.
async fn a_dropped_create_made_all_of_it_or_nothing(context: Arc<Context>) -> Outcome {
    for patience in [0, 1, 3, 10] {
        let mut spec = context.spec(Program::Sleeps)?;
        spec.labels.insert("conf.dropped".to_owned(), "yes".to_owned());
        let create = context.backend.create(&spec);
        drop(tokio::time::timeout(Duration::from_millis(patience), create).await);
        let info = the_one_named(&context, &spec).await?;
        assert_eq!(info.labels.get("conf.dropped").map(String::as_str), Some("yes"));
        context.backend.start(&info.id).await?;
        context.backend.remove(&info.id).await?;
    }
    Ok(())
}

/// The container of this name, created if there is none.
async fn the_one_named(context: &Context, spec: &ContainerSpec) -> Outcome<ContainerInfo> {
    for _ in 0..200 {
        match context.backend.create(spec).await {
            Ok(_) => {}
            failed => fails_with("create", ErrorKind::Conflict, failed)?,
        }
        let mut all = context.backend.list(&Selector::All).await?;
        all.retain(|info| info.name == spec.name);
        match all.pop() {
            Some(info) if all.is_empty() => return Ok(info),
            Some(_) => return fail("there are two of one name"),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    fail("the name stays taken by nothing")
}

async fn start_runs_it(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    let info = context.backend.inspect(&id).await?;
    assert_eq!(info.state, ContainerState::Running);
    assert!(info.started_at.is_some());
    Ok(())
}

async fn start_of_a_running_container_succeeds_and_changes_nothing(
    context: Arc<Context>,
) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    let before = context.backend.inspect(&id).await?;
    context.backend.start(&id).await?;
    assert_eq!(context.backend.inspect(&id).await?, before);
    Ok(())
}

async fn starts_at_once_start_it_once(context: Arc<Context>) -> Outcome {
    let id = context.created(Program::Sleeps).await?;
    for started in join_all((0..8).map(|_| context.backend.start(&id))).await {
        started?;
    }
    assert_eq!(context.backend.inspect(&id).await?.state, ContainerState::Running);
    Ok(())
}

async fn an_ended_container_can_be_started_again(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    let first = context.backend.inspect(&id).await?;
    context.backend.stop(&id, Some(GRACE)).await?;
    context.backend.start(&id).await?;
    let second = context.backend.inspect(&id).await?;
    assert_eq!((second.state, &second.id), (ContainerState::Running, &first.id));
    assert!(second.started_at >= first.started_at);
    Ok(())
}

async fn an_exit_code_is_kept(context: Arc<Context>) -> Outcome {
    let id = context.ended(Program::Exits(3)).await?;
    let info = context.backend.inspect(&id).await?;
    assert_eq!(info.state, ContainerState::Exited);
    let exit = info.exit.unwrap_or_default();
    assert_eq!((exit.code, exit.out_of_memory, &exit.error), (Some(3), false, &None));
    assert!(exit.at.is_some());
    Ok(())
}

async fn stop_returns_when_it_is_down(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    // The first process of a container hears nothing before its `trap`.
    tokio::time::sleep(SHELL).await;
    within(SOON, context.backend.stop(&id, Some(SOON * 2))).await??;
    let info = context.backend.inspect(&id).await?;
    assert_eq!(info.state, ContainerState::Exited);
    assert!(info.exit.is_some());
    Ok(())
}

async fn stop_of_what_does_not_run_succeeds(context: Arc<Context>) -> Outcome {
    let id = context.created(Program::Sleeps).await?;
    context.backend.stop(&id, Some(GRACE)).await?;
    assert_eq!(context.backend.inspect(&id).await?.state, ContainerState::Created);
    context.backend.start(&id).await?;
    context.backend.stop(&id, Some(GRACE)).await?;
    context.backend.stop(&id, Some(GRACE)).await?;
    assert_eq!(context.backend.inspect(&id).await?.state, ContainerState::Exited);
    Ok(())
}

async fn stop_kills_after_the_grace_period(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::IgnoresStop).await?;
    let began = Instant::now();
    within(SOON, context.backend.stop(&id, Some(Duration::from_secs(1)))).await??;
    assert!(began.elapsed() >= Duration::from_millis(900), "killed after {:?}", began.elapsed());
    let exit = context.backend.inspect(&id).await?.exit;
    assert_eq!(exit.and_then(|exit| exit.code), Some(137));
    Ok(())
}

async fn stop_without_a_grace_period_uses_the_containers_own(context: Arc<Context>) -> Outcome {
    let mut spec = context.spec(Program::IgnoresStop)?;
    // No engine has it for a default.
    spec.stop_grace = Some(Duration::from_secs(13));
    let id = context.start_spec(&spec).await?;
    tokio::time::sleep(SHELL).await;
    let began = Instant::now();
    within(SOON, context.backend.stop(&id, None)).await??;
    assert!(began.elapsed() >= Duration::from_secs(12), "killed after {:?}", began.elapsed());
    assert_eq!(context.backend.inspect(&id).await?.state, ContainerState::Exited);
    Ok(())
}

async fn stops_at_once_succeed(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    for stopped in join_all((0..4).map(|_| context.backend.stop(&id, Some(GRACE)))).await {
        stopped?;
    }
    assert_eq!(context.backend.inspect(&id).await?.state, ContainerState::Exited);
    Ok(())
}

async fn b6_start_during_a_stop_is_not_swallowed(context: Arc<Context>) -> Outcome {
    let stopper = Arc::clone(&context.backend);
    start_during_a_stop(&context, stopper).await
}

async fn b6_start_during_a_stop_by_other_hands_is_not_swallowed(context: Arc<Context>) -> Outcome {
    let stopper = context.harness.other_hands().ok_or_else(|| skip("no other hands"))?;
    start_during_a_stop(&context, stopper).await
}

async fn start_during_a_stop(context: &Context, stopper: Arc<dyn ContainerBackend>) -> Outcome {
    let id = context.started(Program::IgnoresStop).await?;
    let (stopped, started) = tokio::join!(stopper.stop(&id, Some(GRACE * 3)), async {
        // The engine may be slow to begin with it.
        tokio::time::sleep(GRACE).await;
        context.backend.start(&id).await
    });
    stopped?;
    match started {
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => match context.backend.inspect(&id).await?.state {
            ContainerState::Running => Ok(()),
            state => fail(format!("the start succeeded, and the container is {state:?}")),
        },
    }
}

async fn b7_kill_overtakes_a_stop(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::IgnoresStop).await?;
    let began = Instant::now();
    let (stopped, killed) = tokio::join!(context.backend.stop(&id, Some(SOON * 2)), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        context.backend.kill(&id).await
    });
    stopped?;
    killed?;
    assert!(began.elapsed() < SOON, "took {:?}", began.elapsed());
    ends(&context, &id).await
}

async fn kill_ends_it_at_once(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::IgnoresStop).await?;
    within(SOON, context.backend.kill(&id)).await??;
    ends(&context, &id).await?;
    let exit = context.backend.inspect(&id).await?.exit;
    assert_eq!(exit.and_then(|exit| exit.code), Some(137));
    Ok(())
}

async fn kill_of_what_does_not_run_succeeds(context: Arc<Context>) -> Outcome {
    let id = context.created(Program::Sleeps).await?;
    context.backend.kill(&id).await?;
    let ended = context.ended(Program::Exits(0)).await?;
    context.backend.kill(&ended).await?;
    Ok(())
}

async fn a_dropped_stop_leaves_nothing_behind(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::IgnoresStop).await?;
    let stop = context.backend.stop(&id, Some(SOON * 2));
    let dropped = tokio::time::timeout(Duration::from_millis(300), stop).await;
    assert!(dropped.is_err(), "the stop succeeded at once");
    context.backend.kill(&id).await?;
    ends(&context, &id).await?;
    context.backend.start(&id).await?;
    let info = context.backend.inspect(&id).await?;
    assert_eq!(info.state, ContainerState::Running);
    Ok(())
}

async fn whatever_happens_to_it_at_once_happens_in_some_order(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    let backend = &context.backend;
    for _ in 0..3 {
        let (started, stopped, killed, again, inspected, listed) = tokio::join!(
            backend.start(&id),
            backend.stop(&id, Some(GRACE)),
            backend.kill(&id),
            backend.start(&id),
            backend.inspect(&id),
            backend.list(&Selector::All),
        );
        for started in [started, again] {
            match started {
                Ok(()) => {}
                failed => fails_with("start", ErrorKind::Conflict, failed)?,
            }
        }
        stopped?;
        killed?;
        inspected?;
        assert!(listed?.iter().any(|info| info.id == id), "it was left out of the list");
    }
    backend.stop(&id, Some(GRACE)).await?;
    assert_eq!(backend.inspect(&id).await?.state, ContainerState::Exited);
    backend.start(&id).await?;
    assert_eq!(backend.inspect(&id).await?.state, ContainerState::Running);
    Ok(())
}

async fn remove_takes_a_running_container_away(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::IgnoresStop).await?;
    within(SOON, context.backend.remove(&id)).await??;
    fails_with("inspect", ErrorKind::NotFound, context.backend.inspect(&id).await)
}

async fn remove_of_what_is_gone_succeeds(context: Arc<Context>) -> Outcome {
    let id = context.created(Program::Sleeps).await?;
    context.backend.remove(&id).await?;
    context.backend.remove(&id).await?;
    Ok(())
}

async fn b10_removes_at_once_succeed(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    for removed in join_all((0..8).map(|_| context.backend.remove(&id))).await {
        removed?;
    }
    fails_with("inspect", ErrorKind::NotFound, context.backend.inspect(&id).await)
}

async fn a_removed_name_is_free_again(context: Arc<Context>) -> Outcome {
    let spec = context.spec(Program::Sleeps)?;
    let first = context.start_spec(&spec).await?;
    context.backend.remove(&first).await?;
    let second = context.start_spec(&spec).await?;
    assert_ne!(first, second, "an identifier was used for two containers");
    Ok(())
}

async fn ends(context: &Context, id: &ContainerId) -> Outcome {
    context.until(id, "it is down", |info| info.state == ContainerState::Exited).await.map(|_| ())
}

async fn rename_gives_it_another_name(context: Arc<Context>) -> Outcome {
    let spec = context.spec(Program::Sleeps)?;
    let id = context.start_spec(&spec).await?;
    let name = context.name();
    context.backend.rename(&id, &name).await?;
    // It has the name already.
    context.backend.rename(&id, &name).await?;
    let info = context.backend.inspect(&id).await?;
    assert_eq!((&info.name, info.state), (&name, ContainerState::Running));
    let next = context.backend.create(&spec).await?;
    assert_ne!(next, id);
    context.backend.remove(&id).await?;
    let gone = context.backend.rename(&id, &context.name()).await;
    fails_with("rename", ErrorKind::NotFound, gone)
}

async fn rename_to_a_taken_name_is_a_conflict_and_changes_nothing(
    context: Arc<Context>,
) -> Outcome {
    let (one, other) = (context.spec(Program::Sleeps)?, context.spec(Program::Sleeps)?);
    let id = context.backend.create(&one).await?;
    context.backend.create(&other).await?;
    fails_with("rename", ErrorKind::Conflict, context.backend.rename(&id, &other.name).await)?;
    assert_eq!(context.backend.inspect(&id).await?.name, one.name);
    Ok(())
}

async fn a_volume_without_a_name_goes_over_to_another_container(context: Arc<Context>) -> Outcome {
    if context.backend.volumes().is_none() {
        return Err(skip("no volumes"));
    }
    let mut old = context.spec(Program::Sleeps)?;
    old.mounts.push(Mount::new("/data", MountKind::Anonymous));
    let old = context.backend.create(&old).await?;
    let volume = context.backend.inspect(&old).await?.volumes.remove("/data");
    let volume = volume.ok_or_else(|| Stop::Fail("the volume is not told of".to_owned()))?;
    let mut new = context.spec(Program::Sleeps)?;
    let kind = MountKind::volume(&volume);
    new.mounts.push(Mount::new("/data", kind));
    let new = context.backend.create(&new).await?;
    context.backend.remove(&old).await?;
    context.backend.start(&new).await?;
    let volumes = context.backend.inspect(&new).await?.volumes;
    assert_eq!(volumes.get("/data"), Some(&volume));
    Ok(())
}

async fn files_are_there_when_it_starts(context: Arc<Context>) -> Outcome {
    if !context.backend.capabilities().files {
        return Err(skip("puts no files into containers"));
    }
    let path = "/run/secrets/deep/key";
    let id = context.created(Program::PrintsFile(path.to_owned())).await?;
    for content in ["first", "second and longer", "3rd"] {
        let mut file = FileInside::new(path, content);
        (file.mode, file.owner) = (0o400, Some((0, 0)));
        context.backend.put_files(&id, &[FileInside::new("/other", "x"), file]).await?;
        context.backend.start(&id).await?;
        context.until(&id, "it ends", |info| !info.state.holds()).await?;
        let log = context.backend.logs(&id, LogOptions::tail(Some(1)));
        let lines: Vec<_> = log.try_collect().await?;
        assert_eq!(lines.last().map(|line| &line.bytes[..]), Some(content.as_bytes()));
    }
    let nobody = ContainerId::new("0123456789ab");
    let put = context.backend.put_files(&nobody, &[FileInside::new("/x", "x")]).await;
    fails_with("put files", ErrorKind::NotFound, put)
}
