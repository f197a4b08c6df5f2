//! What can happen to a nanny, its engine and its services.

use super::dice::Dice;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    KillNanny,
    StopNanny,
    FreezeNanny,
    KillEngine,
    RestartEngine,
    FreezeEngine,
    KillContainerd,
    Hand(&'static str),
    Compose(&'static [&'static str]),
    Requests(u64),
}

/// By how much each is likelier than another.
const ODDS: &[(u64, Deed)] = &[
    (6, Deed::KillNanny),
    (2, Deed::StopNanny),
    (3, Deed::FreezeNanny),
    (3, Deed::KillEngine),
    (2, Deed::RestartEngine),
    (3, Deed::FreezeEngine),
    (1, Deed::KillContainerd),
    (4, Deed::Hand("start")),
    (4, Deed::Hand("stop")),
    (3, Deed::Hand("kill")),
    (3, Deed::Hand("restart")),
    (3, Deed::Hand("rm")),
    (1, Deed::Hand("rename")),
    (2, Deed::Hand("pause")),
    (3, Deed::Compose(&["up", "-d"])),
    (2, Deed::Compose(&["up", "-d", "--force-recreate", "-t", "1"])),
    (2, Deed::Compose(&["down", "-t", "1"])),
    (2, Deed::Compose(&["stop", "-t", "1"])),
    (20, Deed::Requests(1)),
    (12, Deed::Requests(8)),
    (3, Deed::Requests(24)),
];

impl Deed {
    pub(crate) fn any(dice: &mut Dice) -> Self {
        let mut roll = dice.below(ODDS.iter().map(|(odds, _)| odds).sum());
        for (odds, deed) in ODDS {
            if roll < *odds {
                return *deed;
            }
            roll -= odds;
        }
        Self::Requests(1)
    }
}

/// What clients ask for, with its body.
pub(crate) const REQUESTS: &[(&str, &str)] = &[
    ("start", ""),
    ("start", r#"{"force": true}"#),
    ("start", r#"{"force": true}"#),
    ("start", r#"{"force": true, "rollback": false}"#),
    ("start", r#"{"force": true, "timeout": 1}"#),
    ("stop", ""),
    ("stop", r#"{"remove": true}"#),
    ("restart", ""),
];
