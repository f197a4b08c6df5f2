//! How a program is ended, with all that descends from it.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;

use super::keeper::{LOOK_AGAIN, PATIENCE};
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
}

impl Ending {
    /// Those who do not obey `signal` are killed when the deadline is over; all are, if there is none.
    pub(super) fn new(signal: Option<Signal>, deadline: Duration) -> Self {
        Self { signal, deadline, is_told: false, signalled: BTreeSet::new(), looked: None }
    }

    /// Whether it is time for another look: not for every line that is printed meanwhile.
    pub(super) fn is_due(&self) -> bool {
        self.looked.is_none_or(|looked| uptime() >= looked.saturating_add(LOOK_AGAIN))
    }

    /// Whether what was killed should have been gone long ago.
    pub(super) fn has_failed(&self) -> bool {
        uptime() > self.deadline.saturating_add(PATIENCE)
    }

    /// Signals those of the `family` whose turn it is.
    pub(super) fn go_on(&mut self, family: &[Process], main: Identity, main_has_ended: bool) {
        self.looked = Some(uptime());
        if uptime() >= self.deadline {
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
