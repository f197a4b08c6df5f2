//! A container's log as a stream of lines.

use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use nanny_engine_formats::{Decoder, lines};
use nanny_lib::ContainerId;
use nanny_lib::backend::{LogLine, LogOptions, Result};

use crate::backend::{LOOK, inspect};
use crate::connection::Connection;

pub(crate) fn logs(
    connection: Arc<Connection>,
    id: ContainerId,
    options: LogOptions,
) -> BoxStream<'static, Result<LogLine>> {
    stream::once(async move { open(&connection, &id, options).await })
        .flat_map(|opened| match opened {
            Ok(Some(lines)) => lines,
            Ok(None) => stream::empty().boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .boxed()
}

async fn open(
    connection: &Connection,
    id: &ContainerId,
    options: LogOptions,
) -> Result<Option<BoxStream<'static, Result<LogLine>>>> {
    let container = inspect(connection, "logs", id).await?;
    if !container.ever_ran() {
        return Ok(None);
    }
    let mut path = format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1");
    if options.follow {
        path.push_str("&follow=1");
    }
    if let Some(lines) = options.tail {
        path.push_str(&format!("&tail={lines}"));
    }
    if let Some(since) = options.since {
        path.push_str(&format!("&since={}.{:09}", since.as_second(), since.subsec_nanosecond()));
    }
    let decoder =
        if container.has_terminal() { Decoder::for_terminal() } else { Decoder::for_frames() };
    // A log may be silent for days, headers included.
    let body = connection.stream("logs", id, LOOK, path).await?;
    Ok(Some(lines(id.clone(), body, decoder)))
}
