//! What happens, as it happens.

use std::sync::Arc;
use std::time::Duration;

use futures_core::stream::BoxStream;
use futures_util::StreamExt as _;
use nanny_lib::ContainerId;
use nanny_lib::backend::{Event, EventKind};

use super::context::{Context, Outcome, Stop, within};
use super::{Program, cases};

cases![
    a_stream_begins_with_resync,
    a_life_is_told,
    an_exit_is_told_with_its_code,
    a_stop_is_told_as_wanted,
    every_stream_tells_all,
];

const SOON: Duration = Duration::from_secs(60);

async fn watch(context: &Context) -> Outcome<BoxStream<'static, Event>> {
    let mut events = context.backend.watch();
    let first = within(SOON, events.next()).await?;
    let resync = Event { kind: EventKind::Resync, container: None };
    assert_eq!(first, Some(resync), "the first event is not Resync");
    Ok(events)
}

/// Waits for an event of `id` that `is_it`; events may come in any order and more than once.
async fn told(
    events: &mut BoxStream<'static, Event>,
    id: &ContainerId,
    what: &str,
    is_it: impl Fn(&EventKind) -> bool,
) -> Outcome<EventKind> {
    let mut others = Vec::new();
    let found = async {
        while let Some(event) = events.next().await {
            if event.container.as_ref() == Some(id) {
                if is_it(&event.kind) {
                    return Some(event.kind);
                }
                others.push(event.kind);
            }
        }
        None
    };
    let found = tokio::time::timeout(SOON, found).await.ok().flatten();
    found.ok_or_else(|| Stop::Fail(format!("waited for {what}; there were {others:?}")))
}

async fn a_stream_begins_with_resync(context: Arc<Context>) -> Outcome {
    watch(&context).await.map(|_| ())
}

async fn a_life_is_told(context: Arc<Context>) -> Outcome {
    let mut events = watch(&context).await?;
    let id = context.created(Program::Sleeps).await?;
    told(&mut events, &id, "Created", |kind| *kind == EventKind::Created).await?;
    context.backend.start(&id).await?;
    told(&mut events, &id, "Started", |kind| *kind == EventKind::Started).await?;
    context.backend.kill(&id).await?;
    told(&mut events, &id, "Exited", |kind| matches!(kind, EventKind::Exited(_))).await?;
    context.backend.remove(&id).await?;
    told(&mut events, &id, "Removed", |kind| *kind == EventKind::Removed).await?;
    Ok(())
}

async fn an_exit_is_told_with_its_code(context: Arc<Context>) -> Outcome {
    let mut events = watch(&context).await?;
    let id = context.started(Program::Exits(3)).await?;
    let exited =
        told(&mut events, &id, "Exited", |kind| matches!(kind, EventKind::Exited(_))).await?;
    assert!(matches!(&exited, EventKind::Exited(exit) if exit.code == Some(3)), "{exited:?}");
    Ok(())
}

async fn a_stop_is_told_as_wanted(context: Arc<Context>) -> Outcome {
    let id = context.started(Program::Sleeps).await?;
    let mut events = watch(&context).await?;
    context.backend.stop(&id, Some(SOON)).await?;
    told(&mut events, &id, "StopRequested", |kind| *kind == EventKind::StopRequested).await?;
    Ok(())
}

async fn every_stream_tells_all(context: Arc<Context>) -> Outcome {
    let mut streams = [watch(&context).await?, watch(&context).await?];
    let id = context.started(Program::Exits(0)).await?;
    for events in &mut streams {
        told(events, &id, "Exited", |kind| matches!(kind, EventKind::Exited(_))).await?;
    }
    Ok(())
}
