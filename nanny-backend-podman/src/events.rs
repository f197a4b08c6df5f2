//! What happens to containers, as it happens. Spawns nothing: it works within its own polls.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use nanny_engine_formats::{JsonLines, delay};
use nanny_lib::ContainerId;
use nanny_lib::backend::{Event, EventKind, Exit, Result};
use serde::Deserialize;
use tokio::sync::broadcast;

use crate::backend::LOOK;
use crate::connection::Connection;
use crate::listing::Listing;

/// Events begin with `Resync`, and say it again when the connection breaks and when it is there
/// again; the stream never ends.
pub(crate) fn watch(
    connection: Arc<Connection>,
    listing: Arc<Listing>,
    stops: broadcast::Receiver<ContainerId>,
) -> BoxStream<'static, Event> {
    let watcher = Watcher {
        connection,
        listing,
        stops,
        messages: None,
        lines: JsonLines::new(MAX_LINE_BYTES),
        news: VecDeque::new(),
        last: None,
        seen: VecDeque::new(),
        failures: 0,
    };
    stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await;
        Some((event, watcher))
    })
    .boxed()
}

struct Watcher {
    connection: Arc<Connection>,
    listing: Arc<Listing>,
    /// The stops that this backend was asked for, of which the engine tells nothing.
    stops: broadcast::Receiver<ContainerId>,
    messages: Option<BoxStream<'static, Result<Bytes>>>,
    lines: JsonLines,
    /// What was read and not told yet.
    news: VecDeque<Event>,
    /// The time of the last event, by the engine's clock.
    last: Option<Timestamp>,
    /// The last events, of which a reconnect asks for some again.
    seen: VecDeque<(String, String, i64)>,
    failures: u32,
}

const RESYNC: Event = Event { kind: EventKind::Resync, container: None };
const MAX_SEEN: usize = 512;
/// No event is longer; a longer one is not read.
const MAX_LINE_BYTES: usize = 256 << 10;
/// An engine that hangs keeps the connection, and is silent.
const SILENCE: Duration = Duration::from_secs(15);
/// What happens between the question and the first answer is asked for too.
const OVERLAP: SignedDuration = SignedDuration::from_secs(1);

impl Watcher {
    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.news.pop_front() {
                return event;
            }
            let Some(messages) = &mut self.messages else {
                // A connection that broke at once must not be made again at once.
                if self.failures > 0 {
                    tokio::time::sleep(delay(self.failures)).await;
                }
                if self.connect().await {
                    return RESYNC;
                }
                self.failures = self.failures.saturating_add(1);
                continue;
            };
            let heard = tokio::select! {
                Ok(id) = self.stops.recv() => {
                    return Event { kind: EventKind::StopRequested, container: Some(id) };
                }
                heard = tokio::time::timeout(SILENCE, messages.next()) => heard,
            };
            match heard {
                Ok(Some(Ok(chunk))) => {
                    self.failures = 0;
                    // What makes no sense is no event: lists tell the rest.
                    for message in self.lines.feed(&chunk).into_iter().flatten() {
                        self.take(message);
                    }
                }
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "the event stream broke");
                    return self.disconnect();
                }
                Ok(None) => return self.disconnect(),
                Err(_) => {
                    let ping = self.connection.ask("events", "", LOOK, |podman| async move {
                        podman.ping().await.map(|_| ())
                    });
                    if ping.await.is_err() {
                        return self.disconnect();
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> bool {
        let since = self.last.unwrap_or_else(Timestamp::now).checked_sub(OVERLAP);
        let since = since.map_or_else(|_| String::new(), |since| since.as_second().to_string());
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("stream", "true")
            .append_pair("since", &since)
            // Those of images and pods are none of ours.
            .append_pair("filters", r#"{"type":["container"]}"#)
            .finish();
        // The engine answers once it has subscribed us.
        let opened = self.connection.open("events", LOOK, &format!("/events?{query}")).await;
        self.lines = JsonLines::new(MAX_LINE_BYTES);
        self.messages = opened.ok();
        self.messages.is_some()
    }

    /// Says so at once: an engine that ends and is back before the next list would not be missed.
    fn disconnect(&mut self) -> Event {
        self.messages = None;
        self.failures = self.failures.saturating_add(1);
        RESYNC
    }

    fn take(&mut self, message: Message) {
        let at = Timestamp::from_nanosecond(i128::from(message.nanoseconds)).ok();
        let kind = kind_of(&message, at);
        let identity = (message.actor.id, message.action, message.nanoseconds);
        if identity.0.is_empty() || self.seen.contains(&identity) {
            return;
        }
        self.last = self.last.max(at);
        let container = ContainerId::new(identity.0.as_str());
        self.seen.push_back(identity);
        if self.seen.len() > MAX_SEEN {
            self.seen.pop_front();
        }
        self.listing.forget(&container);
        if let Some(kind) = kind {
            self.news.push_back(Event { kind, container: Some(container) });
        }
    }
}

/// An event, as far as we care.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    #[serde(rename = "timeNano")]
    nanoseconds: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: Option<HashMap<String, String>>,
}

/// What Podman's own words mean; those of health checks and of its own housekeeping mean nothing.
fn kind_of(message: &Message, at: Option<Timestamp>) -> Option<EventKind> {
    match message.action.as_str() {
        "create" => Some(EventKind::Created),
        "start" | "restart" => Some(EventKind::Started),
        "remove" => Some(EventKind::Removed),
        "kill" => Some(EventKind::StopRequested),
        "died" => {
            let mut exit = Exit::default();
            let code = message.actor.attributes.as_ref().and_then(|a| a.get("containerExitCode"));
            exit.code = code.and_then(|code| code.parse().ok());
            exit.at = at;
            Some(EventKind::Exited(exit))
        }
        "pause" | "unpause" | "rename" | "update" | "health_status" => Some(EventKind::Changed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // From Podman 4.3.1.
    const DIED: &str = r#"{"status":"died","id":"65b5","from":"localhost/nanny-test/busybox:1","Type":"container","Action":"died","Actor":{"ID":"65b5","Attributes":{"containerExitCode":"3","image":"localhost/nanny-test/busybox:1","name":"p1","podId":""}},"scope":"local","time":1795635205,"timeNano":1795635205560606554}"#;

    fn kind(text: &str) -> Option<EventKind> {
        let message = serde_json::from_str::<Message>(text).unwrap();
        kind_of(&message, Timestamp::from_nanosecond(i128::from(message.nanoseconds)).ok())
    }

    #[test]
    fn an_exit_brings_its_code_and_time() {
        let Some(EventKind::Exited(exit)) = kind(DIED) else { panic!("not an exit") };
        let at = Timestamp::from_nanosecond(1_795_635_205_560_606_554).unwrap();
        assert_eq!((exit.code, exit.at), (Some(3), Some(at)));
    }

    #[test]
    fn housekeeping_and_unknown_words_are_no_news() {
        for word in ["cleanup", "init", "sync", "exec", "exec_died", "levitate"] {
            assert_eq!(kind(&DIED.replace("died", word)), None, "{word}");
        }
        assert_eq!(kind(&DIED.replace("died", "health_status")), Some(EventKind::Changed));
        assert_eq!(kind(&DIED.replace("died", "kill")), Some(EventKind::StopRequested));
    }
}
