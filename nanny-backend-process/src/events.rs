//! What happens to containers, from looking at their records several times a second.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use nanny_lib::ContainerId;
use nanny_lib::backend::{Event, EventKind, Exit};

use crate::backend::LOOK;
use crate::record::Phase;
use crate::store::{Found, Stamp, Store};

const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Of so many looks, one is at everything.
const THOROUGH: u32 = 10;

pub(crate) fn watch(store: Arc<Store>) -> BoxStream<'static, Event> {
    let watching = Watching { store, seen: None, looks: 0, events: VecDeque::new() };
    stream::unfold(watching, |mut watching| async move {
        let event = watching.next().await;
        Some((event, watching))
    })
    .boxed()
}

struct Watching {
    store: Arc<Store>,
    /// What was seen last; `None` if nothing could be.
    seen: Option<All>,
    /// How often there was a look.
    looks: u32,
    events: VecDeque<Event>,
}

/// What was seen of all containers, and the stamps of the files that it was read from.
type All = BTreeMap<ContainerId, (Stamp, Seen)>;

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

    /// Reads what was written about since the last look; now and then everything, since a clock
    /// may be too coarse to tell.
    async fn look(&mut self) -> Option<All> {
        let before = self.seen.clone().unwrap_or_default();
        let is_thorough = self.looks.is_multiple_of(THOROUGH);
        self.looks = self.looks.wrapping_add(1);
        let store = Arc::clone(&self.store);
        let look = tokio::task::spawn_blocking(move || {
            let mut now = All::new();
            for (home, stamp) in store.stamps()? {
                let known = before.get(&home.id).filter(|(known, _)| *known == stamp);
                let seen = match known.filter(|_| !is_thorough) {
                    Some((_, seen)) => Ok(seen.clone()),
                    None => store.find("watch", &home).map(|found| Seen::new(&found)),
                };
                // One that cannot be read is in no list, either.
                if let Ok(seen) = seen {
                    now.insert(home.id, (stamp, seen));
                }
            }
            io::Result::Ok(now)
        });
        tokio::time::timeout(LOOK, look).await.ok()?.ok()?.ok()
    }

    fn compare(&mut self, now: All) {
        let Some(before) = &self.seen else {
            self.events.push_back(Event { kind: EventKind::Resync, container: None });
            self.seen = Some(now);
            return;
        };
        for (id, (_, seen)) in &now {
            let kinds = seen.since(before.get(id).map(|(_, seen)| seen));
            self.events.extend(kinds.map(|kind| Event { kind, container: Some(id.clone()) }));
        }
        for id in before.keys().filter(|id| !now.contains_key(*id)) {
            self.events.push_back(Event { kind: EventKind::Removed, container: Some(id.clone()) });
        }
        self.seen = Some(now);
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
