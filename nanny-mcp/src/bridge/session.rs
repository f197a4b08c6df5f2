//! The session of a client that begins with `initialize`, kept alive across daemons.

use std::collections::BTreeSet;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

use super::daemon::is_event_stream;
use super::failure::Failure;
use super::headers;
use super::link::{Answer, Audience, Link, Place, message_in};
use super::message::Message;

/// A session, as the daemon knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// Which one it is of those that this bridge had.
    pub(super) serial: u64,
    /// What the daemon calls it; some keep none.
    pub(super) id: Option<String>,
    /// The revision that was agreed upon.
    pub(super) version: String,
    /// The client has said that it is ready.
    ready: bool,
}

/// The one session of a bridge, and what it takes to begin it anew.
#[derive(Debug)]
pub(super) struct Sessions {
    link: Link,
    /// Held while a session begins, so that only one does.
    past: Mutex<Past>,
    current: watch::Sender<Option<Session>>,
}

/// What the client did so far, to be repeated before a daemon that knows nothing of it.
#[derive(Debug, Default)]
struct Past {
    initialize: Option<Message>,
    initialized: bool,
    subscriptions: BTreeSet<String>,
}

impl Sessions {
    pub(super) fn new(link: Link) -> Self {
        Self { link, past: Mutex::default(), current: watch::Sender::new(None) }
    }

    pub(super) fn current(&self) -> Option<Session> {
        self.current.borrow().clone()
    }

    /// Passes `initialize` on. In a session, it is up to the daemon what to say to that.
    pub(super) async fn begin(&self, id: &Value, message: &Message) -> Result<(), Failure> {
        let mut past = self.past.lock().await;
        let current = self.current();
        let first = self.initialize(id, &message.text, current.as_ref(), Audience::Client).await;
        let answer = match (first, &current) {
            // That session has gone with its daemon, so this is the first of its kind.
            (Err(Failure::NotFound(_)), Some(_)) => {
                self.initialize(id, &message.text, None, Audience::Client).await?
            }
            (answer, _) => answer?,
        };
        if let Some(session) = self.begun(&answer) {
            *past = Past { initialize: Some(message.clone()), ..Past::default() };
            self.current.send_replace(Some(session));
        }
        Ok(())
    }

    /// The client is ready.
    pub(super) async fn initialized(&self, message: &Message) -> Result<(), Failure> {
        let mut past = self.past.lock().await;
        past.initialized = true;
        let Some(mut session) = self.current() else { return Ok(()) };
        session.ready = true;
        let headers = headers::of_session(&session);
        let posted = self.link.daemon.post(&message.text, headers, self.link.clocks.head).await;
        // If that failed for want of a daemon, the next one will be told.
        self.current.send_replace(Some(session));
        posted.map(drop)
    }

    /// What the client wants to hear of, as the daemon has agreed to in `session`.
    pub(super) async fn subscribed(&self, session: &Session, message: &Message) {
        let Some(uri) = message.params()["uri"].as_str() else { return };
        let mut past = self.past.lock().await;
        match message.method() {
            "resources/subscribe" => drop(past.subscriptions.insert(uri.to_owned())),
            "resources/unsubscribe" => drop(past.subscriptions.remove(uri)),
            _ => return,
        }
        // One that was begun meanwhile knows nothing of it.
        if let Some(other) = self.current().filter(|other| other.serial != session.serial) {
            let id = own_id(other.serial, 0);
            let again = self.ask_again(&other, message.method(), uri, &id).await;
            if let Err(failure) = again {
                tracing::warn!(?failure, uri, "the next session was not told of a subscription");
            }
        }
    }

    /// Another session in place of the one of that number, which the daemon does not know any more.
    pub(super) async fn renew(&self, gone: u64) -> Result<Session, Failure> {
        let past = self.past.lock().await;
        let current = self.current();
        if let Some(session) = current.filter(|session| session.serial != gone) {
            return Ok(session);
        }
        let lost = || Failure::NotFound("the session has gone".to_owned());
        let initialize = past.initialize.as_ref().ok_or_else(lost)?;
        let id = own_id(gone, 0);
        let mut again = initialize.body.clone();
        again["id"] = id.clone();
        let answer = self.initialize(&id, &again.to_string(), None, Audience::Nobody).await?;
        let mut session =
            self.begun(&answer).ok_or_else(|| Failure::Answered(answer.body.clone()))?;
        if past.initialized {
            let message = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            let headers = headers::of_session(&session);
            let limit = self.link.clocks.head;
            self.link.daemon.post(&message.to_string(), headers, limit).await?;
            session.ready = true;
        }
        for (uri, number) in past.subscriptions.iter().zip(1..) {
            self.subscribe_again(&session, uri, &own_id(gone, number)).await?;
        }
        tracing::info!("the daemon is another one: the session was begun anew");
        if past.initialized {
            self.tell_what_may_differ(&answer).await;
        }
        self.current.send_replace(Some(session.clone()));
        Ok(session)
    }

    /// Another daemon may have other things to offer.
    async fn tell_what_may_differ(&self, answer: &Answer) {
        for kind in ["prompts", "resources", "tools"] {
            if answer.body["result"]["capabilities"][kind]["listChanged"] == true {
                let method = format!("notifications/{kind}/list_changed");
                self.link.tell(json!({"jsonrpc": "2.0", "method": method}).to_string()).await;
            }
        }
    }

    async fn subscribe_again(
        &self,
        session: &Session,
        uri: &str,
        id: &Value,
    ) -> Result<(), Failure> {
        self.ask_again(session, "resources/subscribe", uri, id).await?;
        // What happened to it meanwhile, nobody told.
        let updated = json!({
            "jsonrpc": "2.0",
            "method": "notifications/resources/updated",
            "params": {"uri": uri},
        });
        self.link.tell(updated.to_string()).await;
        Ok(())
    }

    async fn ask_again(
        &self,
        session: &Session,
        method: &str,
        uri: &str,
        id: &Value,
    ) -> Result<(), Failure> {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"uri": uri}});
        let (headers, limit) = (headers::of_session(session), self.link.clocks.head);
        let to = (Some(session), Audience::Nobody);
        self.link.exchange(id, &message.to_string(), headers, limit, to).await.map(drop)
    }

    async fn initialize(
        &self,
        id: &Value,
        message: &str,
        session: Option<&Session>,
        audience: Audience,
    ) -> Result<Answer, Failure> {
        let headers = session.map_or_else(HeaderMap::new, headers::of_session_alone);
        let limit = self.link.clocks.initialize;
        self.link.exchange(id, message, headers, limit, (session, audience)).await
    }

    /// The session that an answer to `initialize` begins; nothing if it is an error.
    fn begun(&self, answer: &Answer) -> Option<Session> {
        let version = answer.body["result"]["protocolVersion"].as_str()?.to_owned();
        let serial = self.current().map_or(0, |session| session.serial + 1);
        Some(Session { serial, id: answer.session.clone(), version, ready: false })
    }

    /// Passes on what the daemon has to say by itself, for as long as there are sessions.
    pub(super) async fn listen(&self) {
        let mut sessions = self.current.subscribe();
        loop {
            let heard = |session: &Option<Session>| {
                session.as_ref().is_some_and(|session| session.ready && session.id.is_some())
            };
            let Ok(session) = sessions.wait_for(heard).await.map(|session| session.clone()) else {
                return;
            };
            let Some(session) = session else { continue };
            let other = |current: &Option<Session>| current.as_ref() != Some(&session);
            tokio::select! {
                () = self.hear(&session) => {}
                _ = sessions.wait_for(other) => {}
            }
        }
    }

    /// Passes on what is said in one session, until it is known to have gone.
    async fn hear(&self, session: &Session) {
        let mut place = Place::default();
        let mut tries = 0;
        loop {
            let headers = headers::after_event(session, place.last.as_deref());
            match self.link.daemon.get(headers, self.link.clocks.head).await {
                Ok(response) if is_event_stream(&response) => {
                    let began = Instant::now();
                    let told = self.pass_on(session, response, &mut place).await;
                    if told || began.elapsed() > self.link.clocks.retry {
                        tries = 0;
                    } else {
                        // Taken up where nobody knows it any more, a stream ends at once.
                        place.last = None;
                    }
                }
                Err(Failure::NotFound(_)) => match self.renew(session.serial).await {
                    Ok(_) => return,
                    Err(failure) => tracing::debug!(?failure, "no new session yet"),
                },
                // It has nothing to say by itself.
                Err(Failure::Refused(405, _)) => std::future::pending().await,
                Ok(_) => tracing::debug!("no stream"),
                Err(failure) => tracing::debug!(?failure, "the stream cannot be had now"),
            }
            tries += 1;
            sleep(self.link.clocks.pause(place.retry, tries)).await;
        }
    }

    /// Whether there was anything to pass on.
    async fn pass_on(
        &self,
        session: &Session,
        response: reqwest::Response,
        place: &mut Place,
    ) -> bool {
        let mut stream = self.link.events(response);
        let mut told = false;
        loop {
            match stream.next().await {
                Ok(Some(event)) => {
                    place.note(&event);
                    if let Some(body) = message_in(&event.data) {
                        told = true;
                        self.link.tell_of(session, event.data, &body).await;
                    }
                }
                Ok(None) => return told,
                Err(failure) => {
                    tracing::debug!(?failure, "the stream broke off");
                    return told;
                }
            }
        }
    }

    /// Tells the daemon that the client has gone.
    pub(super) async fn end(&self) {
        let Some(session) = self.current().filter(|session| session.id.is_some()) else { return };
        let headers = headers::of_session(&session);
        let ended = self.link.daemon.delete(headers, self.link.clocks.goodbye).await;
        if let Err(failure) = ended {
            tracing::debug!(?failure, "the daemon was not told of the end");
        }
    }
}

/// An id that no client uses, in requests of the bridge's own.
fn own_id(serial: u64, number: u64) -> Value {
    Value::String(format!("nanny-bridge-{serial}-{number}"))
}
