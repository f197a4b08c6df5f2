//! What happens, for those who listen.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::broadcast;

use super::ServiceView;
use crate::name::ServiceName;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// A service was started.
    Started {
        /// Which.
        service: ServiceName,
        /// Who was stopped for it.
        stopped: Vec<ServiceName>,
    },
    /// A service was stopped, by us.
    Stopped {
        /// Which.
        service: ServiceName,
    },
    /// A service was stopped or removed by other hands.
    StoppedByOthers {
        /// Which.
        service: ServiceName,
    },
    /// A GPU service was found running that we did not start.
    Adopted {
        /// Which.
        service: ServiceName,
        /// Who holds a GPU besides.
        others: Vec<ServiceName>,
    },
    /// A container of a service ended by itself.
    Exited {
        /// Which service.
        service: ServiceName,
        /// How, for a person.
        reason: String,
    },
    /// A service is started again after it ended by itself.
    Restarting {
        /// Which.
        service: ServiceName,
    },
    /// A service could not be started or stopped.
    Failed {
        /// Which.
        service: ServiceName,
        /// Why, for a person.
        reason: String,
    },
    /// A start that the last run had begun was not taken up, or one that nobody waits for has left
    /// the queue: there is no room on the GPU.
    Interrupted {
        /// Which.
        service: ServiceName,
    },
    /// A service's status is another one now.
    Status {
        /// Which.
        service: ServiceName,
        /// The new status.
        status: super::Status,
    },
    /// A service has become healthy or ready, or is so no more.
    Health {
        /// Which.
        service: ServiceName,
        /// Whether it is healthy now.
        is_healthy: bool,
        /// Whether it is ready now: running and healthy.
        is_ready: bool,
    },
    /// A service waits for a GPU, at a place in the queue that is new.
    Queued {
        /// Which.
        service: ServiceName,
        /// How many are before it: 0 is the next one.
        position: usize,
    },
    /// Something is newly wrong with a GPU, or cannot be seen of it.
    GpuProblem {
        /// What, for a person.
        problem: String,
    },
    /// Memory on a GPU is not free although the service that had it is down.
    GpuMemoryHeld {
        /// Which GPU.
        gpu: crate::name::GpuId,
        /// Which service.
        service: ServiceName,
        /// How much, and who is there, for a person.
        reason: String,
    },
    /// Services came, changed or went.
    Discovered {
        /// New ones.
        added: Vec<ServiceName>,
        /// Those whose files changed.
        changed: Vec<ServiceName>,
        /// Those that are gone.
        removed: Vec<ServiceName>,
    },
    /// An engine answers.
    EngineUp {
        /// Which.
        engine: String,
    },
    /// An engine does not answer, or not any more.
    EngineDown {
        /// Which.
        engine: String,
        /// Why, for a person.
        reason: String,
    },
}

impl Change {
    /// What is told of a service that looked like `before`, if it was there, and looks like `now`.
    pub(super) fn between(
        before: Option<&ServiceView>,
        now: &ServiceView,
    ) -> impl Iterator<Item = Self> {
        let service = now.name();
        let (status, is_healthy, is_ready) = (now.status, now.is_healthy, now.is_ready());
        let position = now.queue.as_ref().map(|queue| queue.position);
        let was = before.map(|view| view.status);
        let was_well = before.map_or((false, false), |view| (view.is_healthy, view.is_ready()));
        let was_at = before.and_then(|view| view.queue.as_ref()).map(|queue| queue.position);

        let status =
            (was != Some(status)).then(|| Self::Status { service: service.clone(), status });
        let health = (was_well != (is_healthy, is_ready)).then(|| Self::Health {
            service: service.clone(),
            is_healthy,
            is_ready,
        });
        let queued = position
            .filter(|_| was_at != position)
            .map(|position| Self::Queued { service: service.clone(), position });
        [status, queued, health].into_iter().flatten()
    }
}

/// A change, with its number and time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Recorded {
    /// Grows by one with each change since the nanny began.
    pub sequence: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub change: Change,
}

/// What happens, remembered for a while and told to those who listen.
#[derive(Debug)]
pub(crate) struct Changes {
    ring: Mutex<Ring>,
    /// `None` once the nanny has ended.
    live: Mutex<Option<broadcast::Sender<Arc<Recorded>>>>,
}

impl Changes {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            ring: Mutex::new(Ring::new(capacity)),
            live: Mutex::new(Some(broadcast::channel(capacity).0)),
        }
    }

    /// Notes a change, and tells it.
    pub(crate) fn announce(&self, at: Timestamp, change: Change) {
        let recorded = self.ring().push(at, change);
        if let Some(live) = &*self.live() {
            // Nobody listens: nothing is lost, the ring has it.
            let _ = live.send(recorded);
        }
    }

    /// Ends all streams once they have told what there is.
    pub(crate) fn close(&self) {
        self.live().take();
    }

    /// The number of the latest change; 0 before the first.
    pub(crate) fn latest(&self) -> u64 {
        self.ring().next - 1
    }

    /// The changes after `sequence`, and all that follow.
    pub(crate) fn follow(self: Arc<Self>, sequence: u64) -> BoxStream<'static, Heard> {
        let live = self.live().as_ref().map(broadcast::Sender::subscribe);
        let (known, missed) = self.ring().after(sequence);
        let seen = known.last().map_or(sequence, |last| last.sequence);
        let gap = missed.then_some(Heard::Missed);
        let known = gap.into_iter().chain(known.into_iter().map(Heard::Change));
        let live = stream::unfold((live, seen), |(live, seen)| async move {
            let mut live = live?;
            loop {
                match live.recv().await {
                    Ok(recorded) if recorded.sequence <= seen => {}
                    Ok(recorded) => {
                        let seen = recorded.sequence;
                        return Some((Heard::Change(recorded), (Some(live), seen)));
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        return Some((Heard::Missed, (Some(live), seen)));
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        stream::iter(known).chain(live).boxed()
    }

    fn live(&self) -> MutexGuard<'_, Option<broadcast::Sender<Arc<Recorded>>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// A change.
    Change(Arc<Recorded>),
    /// Some changes were forgotten before they could be told: look at the snapshot.
    Missed,
}

/// The last changes, so many at most.
#[derive(Debug)]
pub(crate) struct Ring {
    recent: VecDeque<Arc<Recorded>>,
    capacity: usize,
    next: u64,
}

impl Ring {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { recent: VecDeque::with_capacity(capacity), capacity, next: 1 }
    }

    /// Notes a change and numbers it.
    pub(crate) fn push(&mut self, at: Timestamp, change: Change) -> Arc<Recorded> {
        if self.recent.len() == self.capacity {
            self.recent.pop_front();
        }
        let recorded = Arc::new(Recorded { sequence: self.next, at, change });
        self.next += 1;
        self.recent.push_back(Arc::clone(&recorded));
        recorded
    }

    /// The changes after `sequence`, and whether some of them are forgotten already.
    pub(crate) fn after(&self, sequence: u64) -> (Vec<Arc<Recorded>>, bool) {
        let first = self.recent.front().map_or(self.next, |oldest| oldest.sequence);
        let missed = sequence.saturating_add(1) < first;
        let recent = self.recent.iter().filter(|recorded| recorded.sequence > sequence);
        (recent.cloned().collect(), missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(n: u64) -> Change {
        Change::EngineUp { engine: n.to_string() }
    }

    #[test]
    fn the_ring_keeps_the_latest_and_says_what_it_forgot() {
        let mut ring = Ring::new(3);
        for n in 0..5 {
            ring.push(Timestamp::UNIX_EPOCH, change(n));
        }
        let numbers = |(changes, missed): (Vec<Arc<Recorded>>, bool)| {
            (changes.iter().map(|c| c.sequence).collect::<Vec<_>>(), missed)
        };
        assert_eq!(numbers(ring.after(0)), (vec![3, 4, 5], true));
        assert_eq!(numbers(ring.after(2)), (vec![3, 4, 5], false));
        assert_eq!(numbers(ring.after(5)), (vec![], false));
    }
}
