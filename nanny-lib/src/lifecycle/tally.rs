//! Counting: what came of a service, for whoever draws curves of it. Nothing is decided by it.

use std::time::Duration;

use super::Now;
use crate::nanny::Tally;

/// A service's counters. They begin with its first manifest and end with its last container.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) starts: u64,
    pub(super) failures: u64,
    /// How long claims lasted that have ended.
    gpu_time: Duration,
    /// Since when there is one.
    gpu_since: Option<Now>,
}

impl Counters {
    /// It has a claim, from now on or since before.
    pub(super) fn claim_begins(&mut self, now: Now) {
        self.gpu_since.get_or_insert(now);
    }

    /// It has none any more.
    pub(super) fn claim_ends(&mut self, now: Now) {
        if let Some(since) = self.gpu_since.take() {
            self.gpu_time += now.mono.saturating_sub(since.mono);
        }
    }

    pub(super) fn has_claim(&self) -> bool {
        self.gpu_since.is_some()
    }

    /// How they look to readers, whose clock is the one on the wall.
    pub(super) fn view(&self) -> Tally {
        Tally {
            starts: self.starts,
            failures: self.failures,
            gpu_time_before: self.gpu_time,
            gpu_since: self.gpu_since.map(|since| since.wall),
        }
    }
}
