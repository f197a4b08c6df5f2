//! How bad things are in one run.

use nanny_lib::backend::ErrorKind;

use super::random::Random;

/// What becomes of a call to an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is executed and answered.
    Obeyed,
    /// It is not executed, and answered with an error.
    Refused(ErrorKind),
    /// It is executed, and the reply is lost: an error in its place, or nothing at all.
    Lost(Option<ErrorKind>),
    /// It is executed after it was answered with an error.
    Late,
}

/// How bad things are: percentages, and milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Temper {
    /// Nothing goes wrong and nobody interferes; only callers ask, and some of these runs are held
    /// to promises that mischief would excuse.
    pub(super) gentle: bool,
    /// In a gentle run: at first callers ask, and later they only look.
    pub(super) only_reads_later: bool,
    /// By now, nobody has asked for anything.
    pub(super) readers: bool,
    /// Between two acts of mischief.
    pub(super) pause: u64,
    /// Of calls, events and answers.
    delay: u64,
    faults: u64,
    /// Of containers, by themselves.
    pub(super) crashes: u64,
    lost_events: u64,
    /// Other hands at the engines.
    pub(super) hands: u64,
    /// Engines out of reach, restarted, wedged.
    pub(super) outages: u64,
    /// The nanny killed or ended at any time ...
    pub(super) kills: u64,
    /// ... and, per ten thousand calls and writes, at exactly that one.
    kills_at_calls: u64,
    /// Files edited, and sources that fail.
    pub(super) edits: u64,
    /// Writes of the journal that fail.
    disk: u64,
    /// The wall clock jumps.
    pub(super) clock: u64,
    pub(super) force: u64,
    /// Callers who wait for the GPU.
    pub(super) queue: u64,
    /// Somebody measures the GPU.
    pub(super) measured: bool,
    /// How long the memory of what has ended is still in use.
    pub(super) late_memory: u64,
    /// A start during a stop is answered as if it had worked, and has not.
    pub(super) swallows: bool,
}

impl Temper {
    pub(super) fn new(random: &mut Random) -> Self {
        let gentle = random.percent(12);
        let only_reads_later = gentle && random.percent(25);
        let mut one_of = |these: &[u64]| random.pick(these).unwrap_or(0);
        let mut temper = Self {
            gentle,
            only_reads_later,
            readers: false,
            pause: one_of(&[200, 800, 2000, 6000]),
            delay: one_of(&[5, 100, 1000, 4000]),
            faults: one_of(&[0, 0, 5, 25]),
            crashes: one_of(&[0, 5, 20]),
            lost_events: one_of(&[0, 10, 100]),
            hands: one_of(&[0, 0, 10, 25]),
            outages: one_of(&[0, 0, 3, 10]),
            kills: one_of(&[0, 0, 2, 8]),
            kills_at_calls: one_of(&[0, 0, 50, 300]),
            edits: one_of(&[0, 0, 5, 15]),
            disk: one_of(&[0, 0, 0, 30]),
            clock: one_of(&[0, 0, 0, 3]),
            force: one_of(&[0, 50, 50, 90]),
            queue: one_of(&[0, 0, 30, 60]),
            measured: one_of(&[0, 1]) == 1,
            late_memory: one_of(&[0, 300, 1500, 6000]),
            swallows: one_of(&[0, 0, 1]) == 1,
        };
        if gentle {
            temper.calm_down();
            temper.force = one_of(&[0, 50]);
            temper.hands = 0;
            if only_reads_later {
                temper.pause = temper.pause.min(800);
                temper.queue = 0;
            }
        }
        temper
    }

    /// From now on all is well.
    pub(super) fn calm_down(&mut self) {
        self.delay = self.delay.min(50);
        self.faults = 0;
        self.crashes = 0;
        self.lost_events = 0;
        self.outages = 0;
        self.kills = 0;
        self.kills_at_calls = 0;
        self.edits = 0;
        self.disk = 0;
        self.clock = 0;
        self.swallows = false;
    }

    /// How long anything takes on its way: mostly little.
    pub(super) fn delay(&self, random: &mut Random) -> u64 {
        let most = if random.percent(10) { self.delay } else { self.delay.min(50) };
        random.below(most)
    }

    pub(super) fn fate(&self, random: &mut Random, changes_something: bool) -> Fate {
        if !random.percent(self.faults) {
            return Fate::Obeyed;
        }
        let kinds = [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Conflict,
            ErrorKind::NotFound,
            ErrorKind::Invalid,
        ];
        match random.below(9) {
            0 if changes_something => Fate::Late,
            1 if changes_something => Fate::Lost(Some(ErrorKind::Timeout)),
            2 | 3 if changes_something => Fate::Lost(Some(ErrorKind::Unavailable)),
            4 => Fate::Lost(None),
            5..9 if changes_something => {
                Fate::Refused(random.pick(&kinds).unwrap_or(ErrorKind::Timeout))
            }
            _ => Fate::Refused(
                random.pick(&[ErrorKind::Unavailable, ErrorKind::Timeout]).unwrap_or(kinds[0]),
            ),
        }
    }

    /// Whether the nanny dies just here.
    pub(super) fn kills_here(&self, random: &mut Random) -> bool {
        self.kills_at_calls > 0 && random.below(10_000) < self.kills_at_calls
    }

    /// Nobody says how the GPU is.
    pub(super) fn hides_gpu(&self, random: &mut Random) -> bool {
        random.percent(self.faults)
    }

    pub(super) fn disk_fails(&self, random: &mut Random) -> bool {
        random.percent(self.disk)
    }

    /// How many times an event arrives.
    pub(super) fn echoes(&self, random: &mut Random) -> u64 {
        match random.below(100) {
            lost if lost < self.lost_events => 0,
            twice if twice > 95 => 2,
            _ => 1,
        }
    }
}
