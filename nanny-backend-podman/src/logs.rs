//! A container's log as a stream of lines.

use std::sync::Arc;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use nanny_engine_formats::{Decoder, lines};
use nanny_lib::ContainerId;
use nanny_lib::backend::{LogLine, LogOptions, LogStream, Result};

use crate::backend::inspect;
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
    if !container.ever_ran() || options.tail == Some(0) && !options.follow {
        return Ok(None);
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("stdout", "true").append_pair("stderr", "true");
    query.append_pair("timestamps", "true");
    query.append_pair("follow", if options.follow { "true" } else { "false" });
    if let Some(lines) = options.tail {
        query.append_pair("tail", &lines.to_string());
    }
    if let Some(since) = options.since {
        query.append_pair("since", &since.to_string());
    }
    let path = format!("/containers/{id}/logs?{}", query.finish());
    // A container that is silent has an answer that does not even begin.
    let body = connection.stream("logs", id, &path);
    // Podman frames the log of a terminal too.
    let lines = lines(id.clone(), body, Decoder::for_frames());
    let is_terminal = container.has_terminal();
    Ok(Some(lines.map_ok(move |line| if is_terminal { of_terminal(line) } else { line }).boxed()))
}

fn of_terminal(line: LogLine) -> LogLine {
    LogLine::new(line.at, LogStream::Terminal, line.bytes)
}
