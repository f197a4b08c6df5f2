//! Restarts by us: with a growing delay, and not for ever.
//!
//! An engine brings containers back after its own crash, beside whoever took their GPU since. So
//! the containers of a service that needs a GPU are made without a restart policy, and what their
//! file asks for is done here.

use std::collections::VecDeque;
use std::time::Duration;

/// The delay before the first restart; it doubles with each one after.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// So many restarts within [`WINDOW`] are tolerated.
const TOLERATED: usize = 5;
/// See [`TOLERATED`].
const WINDOW: Duration = Duration::from_secs(600);

/// A service's recent restarts.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    recent: VecDeque<Duration>,
    /// When the next is due, if one is.
    pub(super) due: Option<Duration>,
}

impl Restarts {
    /// Schedules a restart and says when; `None` if there were too many.
    pub(super) fn schedule(&mut self, now: Duration) -> Option<Duration> {
        while self.recent.front().is_some_and(|&at| at + WINDOW < now) {
            self.recent.pop_front();
        }
        if self.recent.len() >= TOLERATED {
            self.due = None;
            return None;
        }
        let doublings = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        let at = now + delay(FIRST_DELAY, LONGEST_DELAY, doublings);
        self.recent.push_back(at);
        self.due = Some(at);
        Some(at)
    }

    /// How many there were lately.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.recent.len()).unwrap_or(u32::MAX)
    }

    /// Forgets everything: somebody took matters into their own hands.
    pub(super) fn reset(&mut self) {
        self.recent.clear();
        self.due = None;
    }
}

/// `first`, doubled so often, and never more than `longest`.
pub(super) fn delay(first: Duration, longest: Duration, doublings: u32) -> Duration {
    let factor = 1u32.checked_shl(doublings).filter(|&factor| factor != 0);
    factor.and_then(|factor| first.checked_mul(factor)).map_or(longest, |delay| delay.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn delays_double_up_to_a_minute() {
        let delays: Vec<_> =
            (0..8).map(|n| delay(FIRST_DELAY, LONGEST_DELAY, n).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(FIRST_DELAY, LONGEST_DELAY, 40), LONGEST_DELAY);
    }

    #[test]
    fn d10_the_sixth_restart_in_ten_minutes_is_refused() {
        let mut restarts = Restarts::default();
        let mut now = secs(0);
        for _ in 0..5 {
            now = restarts.schedule(now).unwrap();
        }
        assert_eq!(restarts.schedule(now), None);
        assert!(restarts.schedule(now + secs(601)).is_some());
    }
}
