//! A log's bytes, as they come, as a stream of lines.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use nanny_lib::ContainerId;
use nanny_lib::backend::{BackendError, ErrorKind, LogLine, Result};

use crate::decoder::{Broken, Decoder};

/// The lines of the log of container `id`, whose bytes are `body`.
#[must_use]
pub fn lines(
    id: ContainerId,
    body: BoxStream<'static, Result<Bytes>>,
    decoder: Decoder,
) -> BoxStream<'static, Result<LogLine>> {
    let reader = Reader { id, body, decoder, state: State::Reading };
    stream::unfold(reader, |mut reader| async move {
        let line = reader.next().await?;
        Some((line, reader))
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

impl Reader {
    async fn next(&mut self) -> Option<Result<LogLine>> {
        while self.state == State::Reading {
            if let Some(line) = self.decoder.next_line() {
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
