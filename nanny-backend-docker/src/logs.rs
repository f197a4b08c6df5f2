//! A container's log as a stream of lines.

use std::sync::Arc;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use nanny_lib::ContainerId;
use nanny_lib::backend::{BackendError, ErrorKind, LogLine, LogOptions, Result};

use crate::backend::{LOOK, inspect};
use crate::connection::Connection;
use crate::decoder::{Broken, Decoder};

pub(crate) fn logs(
    connection: Arc<Connection>,
    id: ContainerId,
    options: LogOptions,
) -> BoxStream<'static, Result<LogLine>> {
    stream::once(async move { open(&connection, &id, options).await })
        .flat_map(|opened| match opened {
            Ok(Some(reader)) => reader.lines(),
            Ok(None) => stream::empty().boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .boxed()
}

struct Reader {
    id: ContainerId,
    body: BoxStream<'static, Result<Bytes>>,
    decoder: Decoder,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Reading,
    /// The body has ended; what the decoder holds is left.
    Ending,
    Done,
}

async fn open(
    connection: &Connection,
    id: &ContainerId,
    options: LogOptions,
) -> Result<Option<Reader>> {
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
    Ok(Some(Reader { id: id.clone(), body, decoder, state: State::Reading }))
}

impl Reader {
    fn lines(self) -> BoxStream<'static, Result<LogLine>> {
        stream::unfold(self, |mut reader| async move {
            let line = reader.next().await?;
            Some((line, reader))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<LogLine>> {
        while self.state == State::Reading {
            if let Some(line) = self.decoder.next() {
                return Some(line.map_err(|broken| self.fail(broken)));
            }
            match self.body.next().await {
                Some(Ok(chunk)) => self.decoder.feed(chunk),
                Some(Err(error)) => {
                    self.state = State::Done;
                    return Some(Err(error));
                }
                None => self.state = State::Ending,
            }
        }
        if self.state == State::Done {
            return None;
        }
        self.decoder.finish().map(Ok)
    }

    fn fail(&mut self, broken: Broken) -> BackendError {
        self.state = State::Done;
        let message = match broken {
            Broken::NotFramed => "what the engine sends is no log".to_owned(),
            Broken::Complaint(words) => words,
        };
        BackendError::new(ErrorKind::Other, "logs", message).on(&self.id)
    }
}
