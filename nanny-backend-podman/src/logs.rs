//! A container's log as a stream of lines.

use std::sync::Arc;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use nanny_engine_formats::{Decoder, lines};
use nanny_lib::ContainerId;
use nanny_lib::backend::{LogLine, LogOptions, LogStream, Result};

use crate::backend::{LOOK, inspect};
use crate::connection::Connection;
use crate::error;

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
    let wants_nothing = options.tail == Some(0) && !options.follow;
    if wants_nothing || !container.ever_ran() {
        return Ok(None);
    }
    let question = Question { connection, id, terminal: container.has_terminal() };
    let Some(tail) = options.tail else {
        return Ok(Some(question.ask(options.follow, options.since, None)));
    };
    // Podman's own tail puts lines that were written in pieces together backwards. What it shows is
    // not less than what is wanted, so it tells where to begin; the lines are counted before.
    let shown = question.ask(false, options.since, Some(tail.max(1))).try_next().await?;
    let from = shown.and_then(|line| line.at?.checked_sub(RESOLUTION).ok()).max(options.since);
    let there = question.ask(false, from, None);
    let count = there.try_fold(0_usize, |count, _| async move { Ok(count + 1) }).await?;
    let before = count.saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX));
    if before == count && !options.follow {
        return Ok(None);
    }
    Ok(Some(question.ask(options.follow, from, None).skip(before).boxed()))
}

/// What a log may be asked.
struct Question<'a> {
    connection: &'a Connection,
    id: &'a ContainerId,
    terminal: bool,
}

/// Of a line's time, Podman shows the second.
const RESOLUTION: SignedDuration = SignedDuration::from_secs(1);

impl Question<'_> {
    fn ask(
        &self,
        follow: bool,
        since: Option<Timestamp>,
        tail: Option<u32>,
    ) -> BoxStream<'static, Result<LogLine>> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("stdout", "true").append_pair("stderr", "true");
        query.append_pair("timestamps", "true");
        query.append_pair("follow", if follow { "true" } else { "false" });
        if let Some(lines) = tail {
            query.append_pair("tail", &lines.to_string());
        }
        if let Some(since) = since {
            query.append_pair("since", &since.to_string());
        }
        let path = format!("/containers/{}/logs?{}", self.id, query.finish());
        // A container that is silent has an answer that does not even begin.
        let body = self.connection.stream("logs", self.id, &path);
        // One that is not followed is all there.
        let body = if follow { body } else { self.in_time(body) };
        // Podman frames the log of a terminal too.
        let lines = lines(self.id.clone(), body, Decoder::for_frames());
        let terminal = self.terminal;
        lines.map_ok(move |line| if terminal { of_terminal(line) } else { line }).boxed()
    }

    /// The same, with an end to each wait for more.
    fn in_time(
        &self,
        body: BoxStream<'static, Result<Bytes>>,
    ) -> BoxStream<'static, Result<Bytes>> {
        let id = self.id.clone();
        stream::unfold(Some(body), move |body| {
            let id = id.clone();
            async move {
                let mut body = body?;
                match tokio::time::timeout(LOOK, body.next()).await {
                    Ok(chunk) => Some((chunk?, Some(body))),
                    Err(_) => Some((Err(error::timed_out("logs", id.as_str(), LOOK)), None)),
                }
            }
        })
        .boxed()
    }
}

fn of_terminal(line: LogLine) -> LogLine {
    LogLine::new(line.at, LogStream::Terminal, line.bytes)
}
