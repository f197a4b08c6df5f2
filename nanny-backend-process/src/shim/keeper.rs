//! The stages `run` and `adopt`: keep one program, to its end.
//!
//! One thread, which waits for four things: output, requests, signals, and time.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitOptions, WaitStatus};

use super::beginning::begin;
use super::ending::Ending;
use super::signals::Signals;
use super::{Call, Purpose, Reply};
use crate::cgroup::Group;
use crate::home::{Home, Request};
use crate::kernel::{self, Identity, Process, uptime};
use crate::lines::Cutter;
use crate::logfiles::LogFiles;
use crate::record::{Ended, Phase, Record, Slots};
use crate::spec::Saved;

/// Between two looks at what should be gone, at first.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Between two looks at what takes its time, or is not our child.
pub(super) const LOOK: Duration = Duration::from_millis(200);
/// How long what was killed may take to be gone; the kernel may be busy with it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to write what could not be written.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const CHUNK_BYTES: usize = 64 * 1024;

pub(super) fn main(call: &Call, purpose: Purpose) -> ExitCode {
    let _ = rustix::process::setsid();
    // What its descendants leave behind becomes its child, and cannot get away.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let _ = fs::write("/proc/self/comm", "nanny-shim");
    let id = call.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let home = Home { id: ContainerId::new(id), path: call.directory.clone() };
    match begin(call, home, purpose) {
        Ok(keeper) => {
            answer(&Reply::Runs);
            keeper.keep();
            ExitCode::SUCCESS
        }
        Err(reply) => {
            answer(&reply);
            ExitCode::FAILURE
        }
    }
}

/// Answers who launched it, who may be gone, and lets go of them.
pub(super) fn answer(reply: &Reply) {
    let _ = rustix::io::write(rustix::stdio::stdout(), reply.to_text().as_bytes());
    if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}

/// Who keeps a program.
pub(super) struct Keeper {
    pub(super) home: Home,
    pub(super) saved: Saved,
    pub(super) slots: Slots,
    pub(super) record: Record,
    pub(super) main: Identity,
    /// Whether the program is our child; if not, another shim began it.
    pub(super) is_parent: bool,
    /// The program has ended.
    pub(super) has_ended: bool,
    /// How it ended, as its parent is told.
    pub(super) status: Option<WaitStatus>,
    /// There are processes that must end before all has ended.
    pub(super) has_others: bool,
    pub(super) output: [(File, Cutter); 2],
    pub(super) log: LogFiles,
    pub(super) control: File,
    pub(super) half_request: Vec<u8>,
    pub(super) signals: Signals,
    pub(super) ending: Option<Ending>,
    pub(super) group: Option<Group>,
    /// Kills for want of memory in the group, before this run.
    pub(super) old_kills: u64,
    /// For as long as it lives.
    pub(super) lock: File,
}

impl Keeper {
    fn keep(mut self) {
        // What cannot be killed may hold what it held: it has not ended.
        while self.has_others {
            self.wait();
            self.signals.clear();
            self.reap();
            self.read_requests();
            self.read_output();
            self.see_to_the_end();
        }
        self.finish_log();
        let ended = self.ended();
        self.record.end(ended);
        self.record.lost_lines = self.log.lost_lines();
        while self.slots.write(&mut self.record).is_err() {
            pause(TRY_AGAIN);
        }
        if let Some(group) = self.group {
            group.remove();
        }
        drop(self.lock);
    }

    /// Until there is something to do.
    fn wait(&mut self) {
        let timeout = match &self.ending {
            Some(ending) => Some(ending.next_look(self.has_ended).saturating_sub(uptime())),
            None if self.log.lost_lines() > 0 => Some(TRY_AGAIN),
            None => None,
        };
        // Nobody tells us of the end of what is not our child.
        let timeout =
            if self.is_parent { timeout } else { Some(timeout.unwrap_or(LOOK).min(LOOK)) };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let [(stdout, _), (stderr, _)] = &self.output;
        let sources = [stdout.as_fd(), stderr.as_fd(), self.control.as_fd()];
        let sources = sources.into_iter().chain([self.signals.wakes.as_fd()]);
        let mut polled: Vec<_> =
            sources.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)).collect();
        // Interrupted or not: there is a look at everything now.
        let _ = poll(&mut polled, timeout.as_ref());
        self.log.confess();
    }

    /// Waits for those who have ended, so that they are gone.
    fn reap(&mut self) {
        let has_children = loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if pid.as_raw_nonzero().get() == self.main.pid {
                        self.status = Some(status);
                    }
                }
                Ok(None) => break true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break false,
            }
        };
        if self.is_parent {
            self.has_ended = self.status.is_some();
            self.has_others = has_children;
        } else {
            self.has_ended = !self.main.lives();
            self.has_others = !self.has_ended || !self.family().is_empty();
        }
    }

    /// All processes of the container.
    fn family(&self) -> Vec<Process> {
        if self.is_parent {
            kernel::descendants(rustix::process::getpid().as_raw_nonzero().get())
        } else {
            self.home.orphans(&self.record)
        }
    }

    fn read_requests(&mut self) {
        let mut bytes = [0; 512];
        while let Ok(read @ 1..) = self.control.read(&mut bytes) {
            self.half_request.extend_from_slice(&bytes[..read]);
        }
        while let Some(end) = self.half_request.iter().position(|byte| *byte == b'\n') {
            let line: Vec<_> = self.half_request.drain(..=end).collect();
            match Request::from_line(&String::from_utf8_lossy(&line), self.record.run) {
                Some(Request::Stop { signal, grace }) => self.end_within(signal, grace),
                Some(Request::Kill) => self.end_within(self.saved.stop_signal, Duration::ZERO),
                None => {}
            }
        }
        if self.signals.take_termination() {
            self.end_within(self.saved.stop_signal, self.saved.stop_grace);
        }
    }

    /// Somebody wants it to end. Of several, the most impatient one decides.
    fn end_within(&mut self, signal: i32, grace: Duration) {
        let deadline = uptime().saturating_add(grace);
        match &mut self.ending {
            Some(ending) => ending.deadline = ending.deadline.min(deadline),
            None => self.ending = Some(Ending::new(Signal::from_named_raw(signal), deadline)),
        }
        if !self.has_ended && self.record.phase == Phase::Running {
            self.record.phase = Phase::Stopping;
            self.record.is_unwanted = true;
            let _ = self.slots.write(&mut self.record);
        }
    }

    /// What the program leaves behind ends with it: at once, or within the grace of a stop.
    fn see_to_the_end(&mut self) {
        if self.has_ended && self.ending.is_none() {
            self.ending = Some(Ending::new(None, uptime()));
        }
        if let Some(mut ending) =
            self.ending.take_if(|ending| self.has_others && ending.is_due(self.has_ended))
        {
            let family = self.family();
            ending.go_on(&family, self.main, self.has_ended);
            if ending.has_failed() {
                self.tell_who_is_left(&family);
            }
            self.ending = Some(ending);
        }
    }

    /// Writes down who was killed and is there all the same.
    fn tell_who_is_left(&mut self, family: &[Process]) {
        let left: Vec<_> = family.iter().take(16).map(|process| process.identity.pid).collect();
        if self.record.left != left {
            (self.record.phase, self.record.left) = (Phase::Stopping, left);
            let _ = self.slots.write(&mut self.record);
        }
    }

    /// Reads what there is, a chunk of each stream; answers whether there was any.
    fn read_output(&mut self) -> bool {
        let mut any = false;
        for (pipe, cutter) in &mut self.output {
            let mut bytes = vec![0; CHUNK_BYTES];
            if let Ok(read @ 1..) = pipe.read(&mut bytes) {
                any = true;
                let (at, mut records) = (self.log.now(), Vec::new());
                let lines = cutter.cut(&bytes[..read], at, &mut records);
                self.log.append(&records, lines);
            }
        }
        any
    }

    /// What is in the pipes, and the last lines, which may be without an end.
    fn finish_log(&mut self) {
        let full_pipes = 256;
        for _ in 0..full_pipes {
            if !self.read_output() {
                break;
            }
        }
        for (_, cutter) in &mut self.output {
            let mut records = Vec::new();
            let lines = cutter.finish(self.log.now(), &mut records);
            self.log.append(&records, lines);
        }
    }

    fn ended(&self) -> Ended {
        let began = self.record.started_at.unwrap_or(Timestamp::MIN);
        let mut ended = Ended { at: Some(Timestamp::now().max(began)), ..Ended::default() };
        if let Some(status) = self.status {
            let signal = status.terminating_signal().map(|signal| 128 + signal);
            ended.code = status.exit_status().or(signal).map(i64::from);
        }
        let kills = self.group.as_ref().map(Group::memory_kills).unwrap_or_default();
        ended.out_of_memory = kills > self.old_kills && ended.code != Some(0);
        ended
    }
}

/// Does nothing for so long.
pub(super) fn pause(time: Duration) {
    let time = Timespec::try_from(time).ok();
    let _ = poll(&mut [], time.as_ref());
}
