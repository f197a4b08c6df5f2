//! What happens to containers, as it happens. Spawns nothing: it works within its own polls.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use nanny_engine_formats::delay;
use nanny_lib::ContainerId;
use nanny_lib::backend::{Event, EventKind, Exit, Result};

use crate::backend::LOOK;
use crate::connection::Connection;
use crate::convert::Inspected;
use crate::listing::Listing;

/// Events begin with `Resync`, and say it again when the connection breaks and when it is there
/// again; the stream never ends.
pub(crate) fn watch(
    connection: Arc<Connection>,
    listing: Arc<Listing>,
) -> BoxStream<'static, Event> {
    let watcher = Watcher {
        connection,
        listing,
        messages: None,
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
    messages: Option<BoxStream<'static, Result<EventMessage>>>,
    /// The time of the last event, by the engine's clock.
    last: Option<Timestamp>,
    /// Identities of the last events: a reconnect asks for some of them again.
    ///
    /// Not just times: events of several containers do not come in the order of their times.
    seen: VecDeque<(String, String, i64)>,
    failures: u32,
}

const RESYNC: Event = Event { kind: EventKind::Resync, container: None };
const MAX_SEEN: usize = 512;
/// An engine that hangs keeps the connection, and is silent.
const SILENCE: Duration = Duration::from_secs(15);
/// The engine does not say when it has begun to report; it is asked for what came just before.
const OVERLAP: SignedDuration = SignedDuration::from_secs(1);
const ACTIONS: &[&str] = &[
    "create",
    "start",
    "die",
    "kill",
    "destroy",
    "oom",
    "pause",
    "unpause",
    "rename",
    "update",
    "health_status",
];

impl Watcher {
    async fn next(&mut self) -> Event {
        loop {
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
            match tokio::time::timeout(SILENCE, messages.next()).await {
                Ok(Some(Ok(message))) => {
                    self.failures = 0;
                    if let Some(event) = self.news(&message) {
                        return event;
                    }
                }
                Ok(Some(Err(error))) => {
                    tracing::debug!(%error, "the event stream broke");
                    return self.disconnect();
                }
                Ok(None) => return self.disconnect(),
                Err(_) => {
                    let ping = |client: bollard::Docker| async move { client.ping().await };
                    if self.connection.ask("events", "", LOOK, ping).await.is_err() {
                        return self.disconnect();
                    }
                }
            }
        }
    }

    async fn connect(&mut self) -> bool {
        let since = self.last.unwrap_or_else(Timestamp::now).checked_sub(OVERLAP);
        let options = EventsOptions {
            since: since.ok().map(|since| since.as_second().to_string()),
            filters: Some(filters(None)),
            ..EventsOptions::default()
        };
        let opened = self.connection.ask("events", "", LOOK, |client| async move {
            client.ping().await?;
            Ok(client)
        });
        let Ok(client) = opened.await else {
            return false;
        };
        let messages = client
            .events(Some(options))
            .map(|message| message.map_err(|error| crate::error::from_client("events", "", error)));
        self.messages = Some(messages.boxed());
        true
    }

    /// Says so at once: an engine that ends and is back before the next list would not be missed.
    fn disconnect(&mut self) -> Event {
        self.messages = None;
        self.connection.forget();
        self.failures = self.failures.saturating_add(1);
        RESYNC
    }

    fn news(&mut self, message: &EventMessage) -> Option<Event> {
        let id = message.actor.as_ref()?.id.clone()?;
        let action = message.action.clone()?;
        let nanoseconds = message.time_nano.unwrap_or_default();
        let identity = (id, action, nanoseconds);
        if self.seen.contains(&identity) {
            return None;
        }
        let at = Timestamp::from_nanosecond(i128::from(nanoseconds)).ok();
        self.last = self.last.max(at);
        let container = ContainerId::new(identity.0.as_str());
        let kind = kind_of(&identity.1, message, at);
        self.seen.push_back(identity);
        if self.seen.len() > MAX_SEEN {
            self.seen.pop_front();
        }
        self.listing.forget(&container);
        Some(Event { kind: kind?, container: Some(container) })
    }
}

fn kind_of(action: &str, message: &EventMessage, at: Option<Timestamp>) -> Option<EventKind> {
    match action {
        "create" => Some(EventKind::Created),
        "start" => Some(EventKind::Started),
        "destroy" => Some(EventKind::Removed),
        "kill" if asks_for_the_end(attribute(message, "signal")) => Some(EventKind::StopRequested),
        "die" => {
            let mut exit = Exit::default();
            exit.code = attribute(message, "exitCode").and_then(|code| code.parse().ok());
            exit.at = at;
            Some(EventKind::Exited(exit))
        }
        "kill" | "oom" | "pause" | "unpause" | "rename" | "update" => Some(EventKind::Changed),
        _ if action.starts_with("health_status") => Some(EventKind::Changed),
        _ => None,
    }
}

/// A stop or a kill can use any signal; these three mean reload and the like.
fn asks_for_the_end(signal: Option<&str>) -> bool {
    const HUP_USR1_USR2: [&str; 3] = ["1", "10", "12"];
    signal.is_none_or(|signal| !HUP_USR1_USR2.contains(&signal))
}

fn attribute<'a>(message: &'a EventMessage, name: &str) -> Option<&'a str> {
    message.actor.as_ref()?.attributes.as_ref()?.get(name).map(String::as_str)
}

/// Health checks flood the unfiltered stream with `exec_*`; other types than containers may have
/// names that the client does not know.
fn filters(kill_of: Option<&ContainerId>) -> std::collections::HashMap<String, Vec<String>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let mut filters = std::collections::HashMap::from([("type".to_owned(), words(&["container"]))]);
    match kill_of {
        Some(id) => {
            filters.insert("container".to_owned(), vec![id.to_string()]);
            filters.insert("event".to_owned(), words(&["kill"]));
        }
        None => {
            filters.insert("event".to_owned(), words(ACTIONS));
        }
    }
    filters
}

/// Whether somebody else is stopping a container that the engine calls running.
///
/// The engine says so nowhere but in the events of its near past: a stop begins with a signal. A
/// signal that asked for the end of this run counts for as long as a stop may take.
pub(crate) async fn is_being_stopped(
    connection: &Connection,
    id: &ContainerId,
    container: &Inspected,
) -> bool {
    let now = Timestamp::now();
    let stops_take = SignedDuration::try_from(container.grace() + Duration::from_secs(1));
    let earliest = now.checked_sub(stops_take.unwrap_or(SignedDuration::ZERO)).unwrap_or(now);
    let since = container.started_at().map_or(earliest, |started| started.max(earliest));
    let seconds = |time: Timestamp| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond());
    let options = EventsOptions {
        since: Some(seconds(since)),
        until: Some(seconds(now)),
        filters: Some(filters(Some(id))),
    };
    let asked = connection.ask("start", id, Duration::from_secs(2), |client| async move {
        let mut signals = Vec::new();
        let mut messages = client.events(Some(options));
        while let Some(Ok(message)) = messages.next().await {
            signals.push(attribute(&message, "signal").map(str::to_owned));
        }
        Ok(signals)
    });
    asked.await.is_ok_and(|signals| signals.iter().any(|s| asks_for_the_end(s.as_deref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> EventMessage {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_exit_brings_its_code() {
        // From dockerd 20.10.24.
        let died = message(
            r#"{"status":"die","id":"6a1f","from":"nanny-test/busybox:1","Type":"container","Action":"die","Actor":{"ID":"6a1f","Attributes":{"exitCode":"3","image":"nanny-test/busybox:1","name":"x"}},"scope":"local","time":1795423986,"timeNano":1795423986123456789}"#,
        );
        let at = Timestamp::from_nanosecond(1_795_423_986_123_456_789).unwrap();
        let Some(EventKind::Exited(exit)) = kind_of("die", &died, Some(at)) else {
            panic!("not an exit")
        };
        assert_eq!((exit.code, exit.at), (Some(3), Some(at)));
    }

    #[test]
    fn a_reload_is_no_request_to_end() {
        let kill = |signal: &str| {
            let json = r#"{"Type":"container","Action":"kill","Actor":{"ID":"6a1f","Attributes":{"signal":"SIGNAL"}},"timeNano":1}"#;
            kind_of("kill", &message(&json.replace("SIGNAL", signal)), None)
        };
        assert_eq!(kill("15"), Some(EventKind::StopRequested));
        assert_eq!(kill("9"), Some(EventKind::StopRequested));
        assert_eq!(kill("28"), Some(EventKind::StopRequested));
        assert_eq!(kill("1"), Some(EventKind::Changed));
    }
}
