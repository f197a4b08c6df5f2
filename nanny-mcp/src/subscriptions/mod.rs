//! Who is told what, when something changes: both eras of the protocol, fed by the nanny's one
//! stream of changes.
//!
//! A client of 2026-07-28 opens a stream with `subscriptions/listen` and says what it wants to hear
//! there ([`accepted`], [`listen`]). One of the older revisions subscribes to one resource after the
//! other, and hears of them in its session ([`Session`]). What is told, and when, is the same:
//!
//! | what happens | who is told |
//! |---|---|
//! | anything at all | `service://status` |
//! | anything about a service | its status and its logs |
//! | a service writes a line | its logs, once in `log_pause` |
//! | time passes | `service://metrics`, once in `metrics_pause` |
//! | services come or go | whoever wants to know of the list |
//! | more than could be told | everything that anybody wants |
//!
//! A burst is told at once and once more at its end. Of a service that is not there nobody is told.

mod growth;
mod throttle;
mod wanted;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use nanny_lib::{Change, Heard, ServiceName};
use rmcp::model::{ResourceUpdatedNotificationParam, SubscriptionFilter};
use rmcp::service::{Peer, SubscriptionContext, SubscriptionSink};
use rmcp::{ErrorData, RoleServer};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::growth::{Growth, News};
use self::throttle::Throttle;
use self::wanted::Wanted;
use crate::resources::ResourceUri;
use crate::server::Shared;

/// The part of what a client of 2026-07-28 asks for that it gets.
pub(crate) fn accepted(requested: &SubscriptionFilter) -> SubscriptionFilter {
    Wanted::accepted(requested)
}

/// Tells a client of 2026-07-28 what it asked for, of the changes after `since`, until it hangs up
/// or the nanny ends.
pub(crate) async fn listen(
    shared: &Shared,
    subscription: &SubscriptionContext,
    since: u64,
) -> Result<(), ErrorData> {
    let Ok(_place) = shared.listeners.try_acquire() else {
        return Err(ErrorData::internal_error("too many listen already; try again later", None));
    };
    let (_wants, wanted) = watch::channel(Wanted::by(subscription.accepted()));
    let client = Client::Stream(subscription.sink().clone());
    tokio::select! {
        () = subscription.cancelled() => {}
        () = Forwarder::new(shared, wanted, client).run(since) => {}
    }
    Ok(())
}

/// What a session of the older revisions has subscribed to, and the task that tells it. The task
/// ends with this.
#[derive(Debug)]
pub(crate) struct Session {
    wants: watch::Sender<Wanted>,
    forwarder: Mutex<JoinSet<()>>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self { wants: watch::Sender::new(Wanted::list()), forwarder: Mutex::default() }
    }

    /// Begins to tell the client what it wants to hear; once is enough.
    pub(crate) fn begin(&self, shared: &Arc<Shared>, peer: &Peer<RoleServer>) {
        let mut forwarder = self.forwarder.lock().unwrap_or_else(PoisonError::into_inner);
        if !forwarder.is_empty() {
            return;
        }
        let since = shared.nanny.latest_change();
        let (shared, wanted) = (Arc::clone(shared), self.wants.subscribe());
        let client = Client::Session(peer.clone());
        forwarder.spawn(async move { Forwarder::new(&shared, wanted, client).run(since).await });
    }

    /// The client wants to hear of this, too.
    pub(crate) fn subscribe(&self, uri: &str) -> Result<(), ErrorData> {
        let mut answer = Ok(());
        self.wants.send_modify(|wanted| answer = wanted.add(uri));
        answer
    }

    /// It does not want to any more.
    pub(crate) fn unsubscribe(&self, uri: &str) {
        self.wants.send_modify(|wanted| wanted.remove(uri));
    }
}

/// How a client is reached.
enum Client {
    Stream(SubscriptionSink),
    Session(Peer<RoleServer>),
}

/// A client that cannot be reached any more.
struct Gone;

impl Client {
    async fn updated(&self, uri: &str) -> Result<(), Gone> {
        match self {
            Self::Stream(sink) => sink.notify_resource_updated(uri).await.map_err(|_| Gone),
            Self::Session(peer) => {
                let update = ResourceUpdatedNotificationParam::new(uri);
                peer.notify_resource_updated(update).await.map_err(|_| Gone)
            }
        }
    }

    async fn list_changed(&self) -> Result<(), Gone> {
        match self {
            Self::Stream(sink) => sink.notify_resource_list_changed().await.map_err(|_| Gone),
            Self::Session(peer) => peer.notify_resource_list_changed().await.map_err(|_| Gone),
        }
    }
}

/// What there is to do at a certain time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// Tell that the list of resources is another one.
    List,
    /// Tell of a resource.
    Resource(ResourceUri),
    /// See to it that the logs of a service are followed.
    Follow(ServiceName),
}

/// Tells one client what it wants to hear.
struct Forwarder<'a> {
    shared: &'a Shared,
    wanted: watch::Receiver<Wanted>,
    client: Client,
    due: Throttle<Subject>,
    growth: Growth,
    /// The services in the list that the client was told of last.
    listed: BTreeSet<ServiceName>,
}

impl<'a> Forwarder<'a> {
    fn new(shared: &'a Shared, wanted: watch::Receiver<Wanted>, client: Client) -> Self {
        let listed = shared.nanny.snapshot().services.keys().cloned().collect();
        let (due, growth) = (Throttle::new(), Growth::default());
        Self { shared, wanted, client, due, growth, listed }
    }

    /// Goes on until the client is gone, or the nanny.
    async fn run(mut self, since: u64) {
        let mut changes = self.shared.nanny.changes(since);
        self.prepare();
        loop {
            let next = self.due.next();
            tokio::select! {
                heard = changes.next() => match heard {
                    Some(Heard::Change(recorded)) => self.hear(&recorded.change),
                    Some(_) => self.note_all(),
                    None => return,
                },
                (service, news) = self.growth.next() => self.grow(service, news),
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.prepare(),
                    // A stream wants the same for as long as it lives.
                    Err(_) => return,
                },
                () = at(next) => {
                    if let Err(Gone) = self.tell().await {
                        return;
                    }
                }
            }
        }
    }

    /// Sees to it that what is wanted is heard of, and no more.
    fn prepare(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let now = Instant::now();
        self.growth.keep(&wanted);
        for service in wanted.logs() {
            self.growth.follow(&self.shared.nanny, service);
        }
        if wanted.has(&ResourceUri::Metrics) {
            let at = now + self.shared.config.metrics_pause;
            self.due.plan(Subject::Resource(ResourceUri::Metrics), at);
        }
    }

    fn hear(&mut self, change: &Change) {
        self.note(ResourceUri::Overview);
        for service in about(change) {
            self.note(ResourceUri::Status(service.clone()));
            self.note(ResourceUri::Logs(service.clone()));
            self.follow(service);
        }
        // Its containers' logs could not be read before.
        if let Change::EngineUp { .. } = change {
            let services: Vec<_> = self.wanted.borrow().logs().cloned().collect();
            services.iter().for_each(|service| self.follow(service));
        }
        self.note_list();
    }

    fn grow(&mut self, service: ServiceName, news: News) {
        match news {
            News::Grew => self.note(ResourceUri::Logs(service)),
            // If it should be followed all the same, it is, after a pause.
            News::Ended => self.due.note(Subject::Follow(service), Instant::now()),
        }
    }

    /// Something changed and nobody knows what.
    fn note_all(&mut self) {
        let wanted: Vec<_> = self.wanted.borrow().all().cloned().collect();
        for uri in wanted {
            if let ResourceUri::Logs(service) = &uri {
                self.follow(service);
            }
            self.note(uri);
        }
        self.note_list();
    }

    fn note(&mut self, uri: ResourceUri) {
        if self.wanted.borrow().has(&uri) {
            self.due.note(Subject::Resource(uri), Instant::now());
        }
    }

    fn note_list(&mut self) {
        let wanted = self.wanted.borrow().list;
        let now = self.shared.nanny.snapshot();
        if wanted && !now.services.keys().eq(&self.listed) {
            self.listed = now.services.keys().cloned().collect();
            self.due.note(Subject::List, Instant::now());
        }
    }

    fn follow(&mut self, service: &ServiceName) {
        if self.wanted.borrow().has(&ResourceUri::Logs(service.clone())) {
            self.growth.follow(&self.shared.nanny, service);
        }
    }

    /// Does what is due.
    async fn tell(&mut self) -> Result<(), Gone> {
        let config = &self.shared.config;
        let due = self.due.take(Instant::now(), |subject| match subject {
            Subject::Resource(ResourceUri::Logs(_)) | Subject::Follow(_) => config.log_pause,
            Subject::Resource(ResourceUri::Metrics) => config.metrics_pause,
            Subject::Resource(_) | Subject::List => PAUSE,
        });
        for subject in due {
            match subject {
                Subject::List => self.client.list_changed().await?,
                Subject::Follow(service) => self.follow(&service),
                Subject::Resource(uri) => self.tell_of(&uri).await?,
            }
        }
        Ok(())
    }

    async fn tell_of(&mut self, uri: &ResourceUri) -> Result<(), Gone> {
        let given: Vec<_> = self.wanted.borrow().given(uri).cloned().collect();
        if *uri == ResourceUri::Metrics && !given.is_empty() {
            self.due.note(Subject::Resource(ResourceUri::Metrics), Instant::now());
        }
        let now = self.shared.nanny.snapshot();
        if uri.service().is_some_and(|service| !now.services.contains_key(service)) {
            return Ok(());
        }
        for given in given {
            self.client.updated(&given).await?;
        }
        Ok(())
    }
}

/// The services that a change is about.
fn about(change: &Change) -> Vec<&ServiceName> {
    match change {
        Change::Started { service, stopped: others } | Change::Adopted { service, others } => {
            [service].into_iter().chain(others).collect()
        }
        Change::Stopped { service }
        | Change::StoppedByOthers { service }
        | Change::Exited { service, .. }
        | Change::Restarting { service }
        | Change::Failed { service, .. }
        | Change::Interrupted { service }
        | Change::Status { service, .. }
        | Change::Health { service, .. }
        | Change::Queued { service, .. }
        | Change::GpuMemoryHeld { service, .. } => vec![service],
        Change::Discovered { added, changed, removed } => {
            added.iter().chain(changed).chain(removed).collect()
        }
        // What an engine's news mean for a service is told of the service.
        _ => Vec::new(),
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Changes of a service come in bursts: they are told of so often at most.
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
