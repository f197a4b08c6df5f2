//! What happens to containers, from looking at their records several times a second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use nanny_lib::ContainerId;
use nanny_lib::backend::{Event, EventKind, Exit, Selector};

use crate::record::Phase;
use crate::store::{Found, Store};

const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(crate) fn watch(store: Arc<Store>) -> BoxStream<'static, Event> {
    let watching = Watching { store, seen: None, events: VecDeque::new() };
    stream::unfold(watching, |mut watching| async move {
        let event = watching.next().await;
        Some((event, watching))
    })
    .boxed()
}

struct Watching {
    store: Arc<Store>,
    /// What was seen last; `None` if nothing could be.
    seen: Option<BTreeMap<ContainerId, Seen>>,
    events: VecDeque<Event>,
}

/// As much of a container as there are events of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    name: String,
    /// Counts its starts.
    run: u64,
    has_begun: bool,
    is_unwanted: bool,
    exit: Option<Exit>,
}

impl Watching {
    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            if self.seen.is_some() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            match self.look().await {
                Some(now) => self.compare(now),
                // Said again when it can be looked at: nothing may be missed in between.
                None => {
                    self.seen = None;
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    async fn look(&self) -> Option<BTreeMap<ContainerId, Seen>> {
        let store = Arc::clone(&self.store);
        let found = tokio::task::spawn_blocking(move || store.list("watch", &Selector::All));
        let found = found.await.ok()?.ok()?;
        Some(found.into_iter().map(|found| (found.info.id.clone(), Seen::new(&found))).collect())
    }

    fn compare(&mut self, now: BTreeMap<ContainerId, Seen>) {
        let Some(before) = self.seen.replace(now) else {
            self.events.push_back(Event { kind: EventKind::Resync, container: None });
            return;
        };
        let now = self.seen.iter().flatten();
        let told =
            now.flat_map(|(id, seen)| seen.since(before.get(id)).map(move |kind| (id, kind)));
        let told: Vec<_> = told.map(|(id, kind)| (id.clone(), kind)).collect();
        let is_gone =
            |id: &&ContainerId| self.seen.as_ref().is_some_and(|now| !now.contains_key(*id));
        let gone = before.keys().filter(is_gone).map(|id| (id.clone(), EventKind::Removed));
        let all = told.into_iter().chain(gone);
        self.events.extend(all.map(|(id, kind)| Event { kind, container: Some(id) }));
    }
}

impl Seen {
    fn new(found: &Found) -> Self {
        let record = &found.record;
        Self {
            name: found.info.name.clone(),
            // One that is only about to start has not done so.
            run: record.run - u64::from(record.phase == Phase::Starting && record.run > 0),
            has_begun: record.phase != Phase::Starting && record.started_at.is_some(),
            is_unwanted: record.is_unwanted,
            exit: found.info.exit.clone().filter(|_| record.phase == Phase::Ended),
        }
    }

    /// What must have happened since it was seen as `before`.
    fn since(&self, before: Option<&Self>) -> impl Iterator<Item = EventKind> + use<> {
        let is_new = before.is_none();
        let is_renamed = before.is_some_and(|before| before.name != self.name);
        let is_other_run = before.is_none_or(|before| before.run != self.run);
        let began = self.has_begun
            && self.run > 0
            && (is_other_run || before.is_some_and(|before| !before.has_begun));
        let stop =
            self.is_unwanted && (is_other_run || before.is_some_and(|before| !before.is_unwanted));
        let exit = self
            .exit
            .clone()
            .filter(|_| is_other_run || before.is_some_and(|before| before.exit.is_none()));
        let events = [
            is_new.then_some(EventKind::Created),
            is_renamed.then_some(EventKind::Changed),
            began.then_some(EventKind::Started),
            stop.then_some(EventKind::StopRequested),
            exit.map(EventKind::Exited),
        ];
        events.into_iter().flatten()
    }
}
