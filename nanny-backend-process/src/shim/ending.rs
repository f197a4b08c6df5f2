//! How a program is ended, with all that descends from it.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;

use super::keeper::{LOOK, LOOK_AGAIN, PATIENCE};
use crate::kernel::{Identity, Process, uptime};

/// The end, once it was asked for, or has come.
pub(super) struct Ending {
    signal: Option<Signal>,
    /// Then, by the uptime, whoever is left is killed.
    pub(super) deadline: Duration,
    /// The group has heard of it.
    is_told: bool,
    signalled: BTreeSet<Identity>,
    /// When it was last seen who is left.
    looked: Option<Duration>,
    /// How far it had come by then: the program has ended, and the deadline is over.
    stage: (bool, bool),
    /// Between that look and the next: a look is at all processes there are.
    pace: Duration,
}

impl Ending {
    /// Those who do not obey `signal` are killed when the deadline is over; all are, if there is none.
    pub(super) fn new(signal: Option<Signal>, deadline: Duration) -> Self {
        Self {
            signal,
            deadline,
            is_told: false,
            signalled: BTreeSet::new(),
            looked: None,
            stage: (false, false),
            pace: LOOK_AGAIN,
        }
    }

    /// Whether it is time for another look: not for every line that is printed meanwhile.
    pub(super) fn is_due(&self, main_has_ended: bool) -> bool {
        uptime() >= self.next_look(main_has_ended)
    }

    /// When it is. As long as the program has its grace, others are the program's to end.
    pub(super) fn next_look(&self, main_has_ended: bool) -> Duration {
        let Some(looked) = self.looked else { return Duration::ZERO };
        let by_pace = looked.saturating_add(self.pace);
        match (main_has_ended, looked >= self.deadline) {
            (true, false) if self.stage == (true, false) => by_pace.min(self.deadline),
            (true, false) => looked.saturating_add(LOOK_AGAIN),
            (false, false) => self.deadline,
            (_, true) => by_pace,
        }
    }

    /// Whether what was killed should have been gone long ago.
    pub(super) fn has_failed(&self) -> bool {
        uptime() > self.deadline.saturating_add(PATIENCE)
    }

    /// Signals those of the `family` whose turn it is.
    pub(super) fn go_on(&mut self, family: &[Process], main: Identity, main_has_ended: bool) {
        let now = uptime();
        self.looked = Some(now);
        let stage = (main_has_ended, now >= self.deadline);
        let is_another = stage != self.stage;
        self.pace = if is_another { LOOK_AGAIN } else { self.pace.saturating_mul(2).min(LOOK) };
        self.stage = stage;
        if now >= self.deadline {
            for process in family {
                process.identity.signal(Signal::KILL);
            }
            return;
        }
        let Some(signal) = self.signal else { return };
        for process in family {
            // Those outside the group are the program's to end, as long as it is there; and so is
            // what it begins once it was told: it may need that to tidy up.
            let is_meant = main_has_ended || (!self.is_told && process.group == main.pid);
            if is_meant && self.signalled.insert(process.identity) {
                process.identity.signal(signal);
            }
        }
        self.is_told = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// How long after a look there is another.
    fn pause_after_a_look(ending: &mut Ending, main_has_ended: bool) -> Duration {
        let nobody = Identity { pid: 0, began: 0 };
        ending.go_on(&[], nobody, main_has_ended);
        ending.next_look(main_has_ended) - ending.looked.unwrap()
    }

    #[test]
    fn looks_become_rare_and_none_is_later_than_the_deadline() {
        let mut ending = Ending::new(None, uptime() + HOUR);
        assert!(ending.is_due(false));
        assert!(pause_after_a_look(&mut ending, false) > LOOK, "its grace is not over");
        assert!(ending.next_look(true) < ending.next_look(false), "its end is a reason to look");
        let pauses: Vec<_> = (0..6).map(|_| pause_after_a_look(&mut ending, true)).collect();
        assert!(pauses.is_sorted() && pauses[0] == LOOK_AGAIN && pauses[5] == LOOK, "{pauses:?}");
        ending.deadline = ending.looked.unwrap() + Duration::from_millis(1);
        assert_eq!(ending.next_look(true), ending.deadline);
        // Once they are killed it is not long, at first.
        ending.deadline = Duration::ZERO;
        let pauses: Vec<_> = (0..6).map(|_| pause_after_a_look(&mut ending, true)).collect();
        assert!(pauses.is_sorted() && pauses[0] == LOOK_AGAIN && pauses[5] == LOOK, "{pauses:?}");
    }
}
