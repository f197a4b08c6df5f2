//! One request and its answer, over as many connections as it takes.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Clocks;
use super::daemon::{Daemon, is_event_stream, is_json};
use super::events::{Body, Events};
use super::failure::Failure;
use super::headers;
use super::message::Message;
use super::questions::Questions;
use super::session::Session;
use super::sse::Event;

/// The way to the daemon, and back to the client.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) daemon: Daemon,
    pub(super) clocks: Clocks,
    questions: Arc<Questions>,
    /// Messages for the client, one a line.
    out: mpsc::Sender<String>,
}

/// An answer of the daemon's.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Value,
    /// The session that it begins.
    pub(super) session: Option<String>,
}

/// Who hears what a stream brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    Client,
    /// It was asked for by the bridge itself.
    Nobody,
}

impl Link {
    pub(super) fn new(daemon: Daemon, clocks: Clocks, out: mpsc::Sender<String>) -> Self {
        Self { daemon, clocks, questions: Arc::default(), out }
    }

    /// Hands a message to the client; waits if that does not read.
    pub(super) async fn tell(&self, message: String) {
        // Without a writer there is no client any more, and the bridge ends by itself.
        let _ = self.out.send(message).await;
    }

    /// The same with what the daemon said in a session.
    pub(super) async fn tell_of(&self, session: &Session, text: String, body: &Value) {
        self.tell(self.questions.show(session.serial, text, body)).await;
    }

    /// The client's answer, as the daemon is to read it; nothing if it is not for this session.
    pub(super) fn answered(&self, session: &Session, answer: &Message) -> Option<String> {
        self.questions.answered(session.serial, answer)
    }

    /// Sends a request, passes on what comes, and gives the answer.
    pub(super) async fn exchange(
        &self,
        id: &Value,
        message: &str,
        headers: HeaderMap,
        limit: Duration,
        (session, audience): (Option<&Session>, Audience),
    ) -> Result<Answer, Failure> {
        let response = self.daemon.post(message, headers, limit).await?;
        let begun = headers::session_id(response.headers());
        let body = if is_event_stream(&response) {
            self.follow(id, response, session, audience).await?
        } else if is_json(&response) {
            self.read(id, response, audience).await?
        } else {
            let status = response.status().as_u16();
            let why = format!("HTTP {status} without a message");
            return Err(Failure::Unintelligible(why));
        };
        Ok(Answer { body, session: begun })
    }

    async fn read(
        &self,
        id: &Value,
        response: Response,
        audience: Audience,
    ) -> Result<Value, Failure> {
        let whole = Body::new(response, self.clocks.silence).whole(LONGEST_ANSWER).await?;
        let unintelligible = |error: &dyn Error| Failure::Unintelligible(error.to_string());
        let text = String::from_utf8(whole).map_err(|error| unintelligible(&error))?;
        let body: Value = serde_json::from_str(&text).map_err(|error| unintelligible(&error))?;
        if !answers(&body, id) {
            return Err(Failure::Unintelligible("the answer is to something else".to_owned()));
        }
        if audience == Audience::Client {
            // In JSON, ends of lines are between words only.
            self.tell(text.replace(['\n', '\r'], " ")).await;
        }
        Ok(body)
    }

    /// Passes a stream on up to its answer. One of a session that breaks off is taken up again
    /// where it broke, if the daemon still knows it.
    async fn follow(
        &self,
        id: &Value,
        response: Response,
        session: Option<&Session>,
        audience: Audience,
    ) -> Result<Value, Failure> {
        let mut stream = self.events(response);
        let mut place = Place::default();
        let mut tries = 0;
        // The event that was passed on last, and whether it may come again.
        let (mut passed_on, mut resumed) = (None, false);
        loop {
            let why = match stream.next().await {
                Ok(Some(event)) => {
                    place.note(&event);
                    let Some(body) = message_in(&event.data) else { continue };
                    if resumed && event.id.is_some() && event.id == passed_on {
                        continue;
                    }
                    tries = 0;
                    passed_on = event.id;
                    match session {
                        _ if audience == Audience::Nobody => {}
                        Some(session) => self.tell_of(session, event.data, &body).await,
                        None => self.tell(event.data).await,
                    }
                    if answers(&body, id) {
                        return Ok(body);
                    }
                    continue;
                }
                Ok(None) => "the stream ended before it".to_owned(),
                Err(Failure::Cut(why)) => why,
                Err(failure) => return Err(failure),
            };
            let resumable = session.filter(|session| session.id.is_some());
            let (Some(session), Some(last)) = (resumable, place.last.as_deref()) else {
                return Err(Failure::Cut(why));
            };
            resumed = true;
            stream = loop {
                tries += 1;
                if tries > MOST_RESUMPTIONS {
                    return Err(Failure::Cut(why));
                }
                sleep(self.clocks.pause(place.retry, tries)).await;
                let headers = headers::after_event(session, Some(last));
                match self.daemon.get(headers, self.clocks.head).await {
                    Ok(response) if is_event_stream(&response) => break self.events(response),
                    Err(Failure::Absent(_) | Failure::Cut(_)) => {}
                    // It is another daemon, most likely.
                    Ok(_) | Err(_) => return Err(Failure::Cut(why)),
                }
            };
        }
    }

    pub(super) fn events(&self, response: Response) -> Events {
        Events::new(Body::new(response, self.clocks.silence), LONGEST_ANSWER)
    }
}

/// Where a stream has got to.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) last: Option<String>,
    pub(super) retry: Option<Duration>,
}

impl Place {
    pub(super) fn note(&mut self, event: &Event) {
        if event.id.is_some() {
            self.last.clone_from(&event.id);
        }
        self.retry = event.retry.or(self.retry);
    }
}

/// The message in an event. Some have none: they only say where the stream is.
pub(super) fn message_in(data: &str) -> Option<Value> {
    if data.trim().is_empty() {
        return None;
    }
    let message = serde_json::from_str(data).ok().filter(Value::is_object);
    if message.is_none() {
        tracing::warn!(bytes = data.len(), "the daemon sent an event that is no message");
    }
    message
}

fn answers(body: &Value, id: &Value) -> bool {
    body.get("method").is_none() && body.get("id") == Some(id)
}

/// What the daemon may say at once, in bytes.
pub(super) const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
const MOST_RESUMPTIONS: u32 = 4;
