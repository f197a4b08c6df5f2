//! Events and logs. The streams spawn nothing: they wait within their own polls.

use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};

use super::{Engine, unavailable, wait};
use crate::backend::{BackendError, Event, EventKind, LogLine, LogOptions, Result};
use crate::name::ContainerId;

pub(super) fn watch(engine: Arc<Engine>) -> BoxStream<'static, Event> {
    // Connection 0 never existed: the first thing said is `Resync`.
    stream::unfold((engine, 0, 0), |(engine, connection, seen)| async move {
        let (event, connection, seen) = next_event(&engine, connection, seen).await;
        Some((event, (engine, connection, seen)))
    })
    .boxed()
}

async fn next_event(engine: &Engine, connection: u64, seen: u64) -> (Event, u64, u64) {
    loop {
        let changed = engine.changed.subscribe();
        let due = {
            let world = engine.settled();
            let resync = Event { kind: EventKind::Resync, container: None };
            if !world.down {
                if world.connection != connection {
                    return (resync, world.connection, world.last_event());
                }
                match world.event(seen) {
                    Err(seen) => return (resync, connection, seen),
                    Ok(Some(event)) => return (event, connection, seen + 1),
                    Ok(None) => {}
                }
            }
            world.next_due()
        };
        wait(changed, due).await;
    }
}

/// Where a reader of a log is: which run it follows, and what it has seen.
struct Reader {
    engine: Arc<Engine>,
    id: ContainerId,
    options: LogOptions,
    /// `None` before the first line.
    seen: Option<u64>,
    run: u64,
    done: bool,
}

pub(super) fn logs(
    engine: Arc<Engine>,
    id: ContainerId,
    options: LogOptions,
) -> BoxStream<'static, Result<LogLine>> {
    let reader = Reader { engine, id, options, seen: None, run: 0, done: false };
    stream::unfold(reader, |mut reader| async move {
        let line = reader.next().await.transpose()?;
        reader.done = line.is_err();
        Some((line, reader))
    })
    .boxed()
}

impl Reader {
    async fn next(&mut self) -> Result<Option<LogLine>, BackendError> {
        if self.done {
            return Ok(None);
        }
        loop {
            let changed = self.engine.changed.subscribe();
            let due = {
                let mut world = self.engine.settled();
                if world.down {
                    return Err(unavailable("logs"));
                }
                let container = match world.container("logs", &self.id) {
                    Ok(container) => container,
                    // Removed while it was read: the end, as in an engine.
                    Err(_) if self.seen.is_some() => return Ok(None),
                    Err(error) => return Err(error),
                };
                let oldest = container.written - container.log.len() as u64;
                let seen = match self.seen {
                    Some(seen) => seen.max(oldest),
                    None => {
                        self.run = container.runs;
                        let wanted = self.options.tail.map_or(u64::MAX, u64::from);
                        container.written.saturating_sub(wanted).max(oldest)
                    }
                };
                self.seen = Some(seen);
                let index = usize::try_from(seen - oldest).unwrap_or(usize::MAX);
                if let Some(line) = container.log.get(index) {
                    self.seen = Some(seen + 1);
                    if self.options.since.is_some_and(|since| line.at < Some(since)) {
                        continue;
                    }
                    return Ok(Some(line.clone()));
                }
                let runs = container.info.state.holds() && container.runs == self.run;
                if !self.options.follow || !runs {
                    return Ok(None);
                }
                world.next_due()
            };
            wait(changed, due).await;
        }
    }
}
