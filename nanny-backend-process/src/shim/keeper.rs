//! The stage `run`: keeps one program, from its start to its end.
//!
//! One thread, which waits for four things: output, requests, signals, and time.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::ContainerId;
use nanny_lib::backend::LogStream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Signal, WaitOptions, WaitStatus};
use signal_hook::consts;

use super::{Call, Purpose, Reply};
use crate::cgroup::Group;
use crate::error::one_line;
use crate::home::{CONTROL, Home, Request, STDERR, STDOUT};
use crate::kernel::{self, Identity, Process, uptime};
use crate::lines::Cutter;
use crate::logfiles::LogFiles;
use crate::record::{Ended, Phase, Record, Slots};
use crate::spec::Saved;

/// How long a process may take to become its program.
const EXEC: Duration = Duration::from_secs(30);
/// How long a lock may be held by who only looks.
const LOCK: Duration = Duration::from_millis(500);
/// Between two looks at what should be gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Between two looks at a program that is not our child.
const LOOK: Duration = Duration::from_millis(200);
/// How long what was killed may take to be gone; the kernel may be busy with it.
const PATIENCE: Duration = Duration::from_secs(10);
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
    match Keeper::begin(call, home, purpose) {
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

struct Keeper {
    home: Home,
    saved: Saved,
    slots: Slots,
    record: Record,
    main: Identity,
    /// Whether the program is our child; if not, another shim began it.
    is_parent: bool,
    /// The program has ended.
    has_ended: bool,
    /// How it ended, as its parent is told.
    status: Option<WaitStatus>,
    /// There are processes that must end before all has ended.
    has_others: bool,
    output: [(File, Cutter); 2],
    log: LogFiles,
    control: File,
    half_request: Vec<u8>,
    signals: Signals,
    ending: Option<Ending>,
    group: Option<Group>,
    /// Kills for want of memory in the group, before this run.
    old_kills: u64,
    /// For as long as it lives.
    _lock: File,
}

/// The end, once it was asked for, or has come.
struct Ending {
    signal: Option<Signal>,
    /// Then, by the uptime, whoever is left is killed.
    deadline: Duration,
    signalled: BTreeSet<Identity>,
    /// When it was last seen who is left.
    looked: Option<Duration>,
}

struct Signals {
    wakes: UnixStream,
    terminated: Arc<AtomicBool>,
}

impl Keeper {
    fn begin(call: &Call, home: Home, purpose: Purpose) -> Result<Self, Reply> {
        let failed = |what: &str, error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Reply::Gone,
            io::ErrorKind::WouldBlock => Reply::Busy,
            _ => Reply::Failed(one_line(&format!("{what}: {error}"))),
        };
        let lock = lock(&home).map_err(|error| failed("its lock cannot be taken", error))?;
        let saved = home.saved().map_err(|error| failed("its spec cannot be read", error))?;
        let slots = home.slots().map_err(|error| failed("its record cannot be read", error))?;
        let last = slots.read().map_err(|error| failed("its record cannot be read", error))?;
        let mut record = last.unwrap_or_else(|| found(&home));
        let pipe = |pipe| home.open_pipe(pipe, OFlags::NONBLOCK);
        let pipe = |it| pipe(it).map_err(|error| failed("its pipes cannot be opened", error));
        let mut control = pipe(CONTROL)?;
        let signals = Signals::catch().map_err(|error| failed("no signals", error))?;
        let output = [
            (pipe(STDOUT)?, Cutter::new(LogStream::Stdout)),
            (pipe(STDERR)?, Cutter::new(LogStream::Stderr)),
        ];
        let log = LogFiles::open(&home.path, saved.log_bytes, record.lost_lines);
        let group = Group::of(home.id.as_str(), &saved.bounds);
        let old_kills = group.as_ref().map(Group::memory_kills).unwrap_or_default();
        // A start that its shim did not see through is undone: it was never said to have worked.
        let is_parent = !record.main_lives() || record.phase == Phase::Starting;
        if is_parent {
            kill_remains(&home, &record)?;
            empty(&mut control);
            if purpose == Purpose::Adopt {
                let why = "it has ended".to_owned();
                record.lose();
                let _ = slots.write(&mut record);
                return Err(Reply::Failed(why));
            }
            record.run += 1;
            record.phase = Phase::Starting;
            kernel::world().clone_into(&mut record.world);
            (record.main, record.is_unwanted) = (None, false);
        }
        if record.phase == Phase::Stopping {
            // Whoever asked has to ask again: how long it had is not known any more.
            record.phase = Phase::Running;
        }
        record.lost_lines = 0;
        record.shim = Identity::own();
        let written = slots.write(&mut record);
        written.map_err(|error| failed("its record cannot be written", error))?;
        if is_parent && let Err(why) = start(call, &home, &slots, &mut record) {
            let why = one_line(&why);
            let error = Some(why.clone());
            record.end(Ended { at: Some(Timestamp::now()), error, ..Ended::default() });
            let _ = slots.write(&mut record);
            if let Some(group) = group {
                group.remove();
            }
            return Err(Reply::Failed(why));
        }
        let main = record.main.ok_or_else(|| Reply::Failed("it is nowhere".to_owned()))?;
        Ok(Self {
            home,
            saved,
            slots,
            record,
            main,
            is_parent,
            has_ended: false,
            status: None,
            has_others: true,
            output,
            log,
            control,
            half_request: Vec::new(),
            signals,
            ending: None,
            group,
            old_kills,
            _lock: lock,
        })
    }

    fn keep(mut self) {
        while self.has_others && !self.has_lost_patience() {
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
    }

    /// Until there is something to do.
    fn wait(&mut self) {
        let timeout = match &self.ending {
            Some(_) if self.has_ended => Some(LOOK_AGAIN),
            Some(ending) => Some(ending.deadline.saturating_sub(uptime()).max(LOOK_AGAIN)),
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
            match Request::from_line(&String::from_utf8_lossy(&line)) {
                Some(Request::Stop { signal, grace }) => self.end_within(signal, grace),
                Some(Request::Kill) => self.end_within(self.saved.stop_signal, Duration::ZERO),
                None => {}
            }
        }
        if self.signals.terminated.swap(false, Ordering::Relaxed) {
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
        if let Some(mut ending) = self.ending.take() {
            // Not for every line that it prints meanwhile.
            let is_due = |looked: Duration| uptime() >= looked.saturating_add(LOOK_AGAIN);
            if self.has_others && ending.looked.is_none_or(is_due) {
                ending.looked = Some(uptime());
                ending.go_on(&self.family(), self.main, self.has_ended);
            }
            self.ending = Some(ending);
        }
    }

    fn has_lost_patience(&self) -> bool {
        let limit = |ending: &Ending| ending.deadline.saturating_add(PATIENCE);
        self.ending.as_ref().is_some_and(|ending| uptime() > limit(ending))
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
        if self.has_others {
            let left = self.family();
            ended.left = left.iter().take(16).map(|process| process.identity.pid).collect();
        }
        ended
    }
}

impl Ending {
    fn new(signal: Option<Signal>, deadline: Duration) -> Self {
        Self { signal, deadline, signalled: BTreeSet::new(), looked: None }
    }

    fn go_on(&mut self, family: &[Process], main: Identity, main_has_ended: bool) {
        if uptime() >= self.deadline {
            for process in family {
                process.identity.signal(Signal::KILL);
            }
            return;
        }
        let Some(signal) = self.signal else { return };
        for process in family {
            // Those outside the group are the program's to end, as long as it is there.
            let is_meant = main_has_ended || process.group == main.pid;
            if is_meant && self.signalled.insert(process.identity) {
                process.identity.signal(signal);
            }
        }
    }
}

impl Signals {
    fn catch() -> io::Result<Self> {
        let (wakes, rings) = UnixStream::pair()?;
        wakes.set_nonblocking(true)?;
        let terminated = Arc::new(AtomicBool::new(false));
        for signal in [consts::SIGTERM, consts::SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&terminated))?;
        }
        // A hangup is of no interest, and a file that gets too big is an error like others.
        let others = [consts::SIGHUP, consts::SIGXFSZ, consts::SIGCHLD];
        for signal in others.into_iter().chain([consts::SIGTERM, consts::SIGINT]) {
            signal_hook::low_level::pipe::register(signal, rings.try_clone()?)?;
        }
        Ok(Self { wakes, terminated })
    }

    fn clear(&mut self) {
        let mut bytes = [0; 64];
        while let Ok(1..) = self.wakes.read(&mut bytes) {}
    }
}

/// The lock of the container. Who looks at it may hold it for a moment; another shim, for long.
fn lock(home: &Home) -> io::Result<File> {
    let deadline = uptime() + LOCK;
    loop {
        if let Some(lock) = home.try_lock()? {
            return Ok(lock);
        }
        if uptime() > deadline {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pause(Duration::from_millis(5));
    }
}

/// What an earlier run left behind, whose shim was killed: the new one would be the second.
fn kill_remains(home: &Home, record: &Record) -> Result<(), Reply> {
    let deadline = uptime() + PATIENCE;
    loop {
        let remains = home.orphans(record);
        if remains.is_empty() {
            return Ok(());
        }
        if uptime() > deadline {
            let pids: Vec<_> = remains.iter().map(|process| process.identity.pid).collect();
            let why = format!("processes of its last run cannot be killed: {pids:?}");
            return Err(Reply::Failed(one_line(&why)));
        }
        for process in remains {
            process.identity.signal(Signal::KILL);
        }
        pause(LOOK_AGAIN);
    }
}

/// What can be told of a container whose record is lost.
fn found(home: &Home) -> Record {
    let mut record = Record::default();
    let left = home.orphans(&record);
    let leaders = left.iter().filter(|process| process.session == process.identity.pid);
    record.main = leaders.map(|process| process.identity).min_by_key(|leader| leader.began);
    if record.main.is_some() {
        (record.run, record.phase) = (1, Phase::Running);
        record.started_at = Some(Timestamp::now());
        kernel::world().clone_into(&mut record.world);
    }
    record
}

/// Takes out what was said to another shim.
fn empty(pipe: &mut File) {
    let mut bytes = [0; 512];
    while let Ok(1..) = pipe.read(&mut bytes) {}
}

/// Starts the program: it becomes what it is to be only once it is written down that it exists.
fn start(call: &Call, home: &Home, slots: &Slots, record: &mut Record) -> Result<(), String> {
    let say = |error: io::Error| format!("it cannot be started: {error}");
    let (mut ours, theirs) = UnixStream::pair().map_err(say)?;
    ours.set_read_timeout(Some(EXEC)).map_err(say)?;
    let mut command = call.next("exec");
    let pipe = |pipe| home.open_pipe(pipe, OFlags::empty()).map_err(say);
    command.stdin(OwnedFd::from(theirs)).stdout(pipe(STDOUT)?).stderr(pipe(STDERR)?);
    let child = command.spawn().map_err(say)?;
    drop(command);
    let main = i32::try_from(child.id()).ok().and_then(kernel::process);
    let main = main.ok_or("it cannot be seen in /proc")?.identity;
    record.main = Some(main);
    let end = |why: String| {
        main.signal(Signal::KILL);
        why
    };
    slots.write(record).map_err(say).map_err(end)?;
    ours.write_all(b"g").map_err(say).map_err(end)?;
    let mut why = String::new();
    match ours.read_to_string(&mut why) {
        Ok(0) => {}
        Ok(_) => return Err(end(why)),
        Err(error) => return Err(end(format!("it did not begin in time: {error}"))),
    }
    record.phase = Phase::Running;
    record.started_at = Some(Timestamp::now().max(record.started_at.unwrap_or(Timestamp::MIN)));
    record.ended = None;
    slots.write(record).map_err(say).map_err(end)
}

/// Does nothing for so long.
fn pause(time: Duration) {
    let time = Timespec::try_from(time).ok();
    let _ = poll(&mut [], time.as_ref());
}
