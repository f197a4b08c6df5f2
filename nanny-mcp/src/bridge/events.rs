//! The body of an answer, read within limits.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Response;
use tokio::time::timeout;

use super::daemon::root;
use super::failure::Failure;
use super::sse::{Decoder, Event};

/// A body that must not fall silent for longer than a limit.
#[derive(Debug)]
pub(super) struct Body {
    response: Response,
    silence: Duration,
}

impl Body {
    pub(super) fn new(response: Response, silence: Duration) -> Self {
        Self { response, silence }
    }

    async fn chunk(&mut self) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        match timeout(self.silence, self.response.chunk()).await {
            Err(_) => Err(Failure::Cut(format!("it fell silent for {:?}", self.silence))),
            Ok(Err(error)) => Err(Failure::Cut(root(&error))),
            Ok(Ok(chunk)) => Ok(chunk),
        }
    }

    /// All of it, if it is no longer than `limit`.
    pub(super) async fn whole(mut self, limit: usize) -> Result<Vec<u8>, Failure> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            let chunk = chunk.as_ref();
            if whole.len() + chunk.len() > limit {
                return Err(Failure::Unintelligible("its answer was too long".to_owned()));
            }
            whole.extend_from_slice(chunk);
        }
        Ok(whole)
    }
}

/// A body that is a stream of events.
#[derive(Debug)]
pub(super) struct Events {
    body: Body,
    decoder: Decoder,
    ready: VecDeque<Event>,
}

impl Events {
    pub(super) fn new(body: Body, limit: usize) -> Self {
        Self { body, decoder: Decoder::new(limit), ready: VecDeque::new() }
    }

    /// The next event; nothing at the end of the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(chunk) = self.body.chunk().await? else { return Ok(None) };
            let events = self.decoder.feed(chunk.as_ref());
            let events = events.map_err(|error| Failure::Unintelligible(error.to_string()))?;
            self.ready.extend(events);
        }
    }
}
