//! How a shim begins: with a program that it starts, or with one that has lost its shim.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::backend::LogStream;
use rustix::fs::OFlags;
use rustix::process::Signal;

use super::keeper::{Keeper, LOOK_AGAIN, PATIENCE, pause};
use super::signals::Signals;
use super::{Call, Purpose, Reply};
use crate::cgroup::Group;
use crate::error::one_line;
use crate::home::{CONTROL, Home, STDERR, STDOUT};
use crate::kernel::{self, Identity, uptime};
use crate::lines::Cutter;
use crate::logfiles::LogFiles;
use crate::record::{Ended, Phase, Record, Slots};

/// How long a process may take to become its program.
const EXEC: Duration = Duration::from_secs(30);
/// How long a lock may be held by who only looks.
const LOCK: Duration = Duration::from_millis(500);

/// The keeper of the container's program, which runs: by now, or still.
pub(super) fn begin(call: &Call, home: Home, purpose: Purpose) -> Result<Keeper, Reply> {
    let failed = |what: &str, error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Reply::Gone,
        io::ErrorKind::WouldBlock => Reply::Busy,
        _ => Reply::Failed(one_line(&format!("{what}: {error}"))),
    };
    let lock = match purpose {
        Purpose::Start => inherited_lock(),
        Purpose::Adopt => lock(&home),
    };
    let lock = lock.map_err(|error| failed("its lock cannot be taken", error))?;
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
            home.leave_group();
            let _ = slots.write(&mut record);
            return Err(Reply::Failed(why));
        }
        (record.phase, record.run) = (Phase::Starting, record.run.max(1));
        kernel::world().clone_into(&mut record.world);
        (record.main, record.is_unwanted) = (None, false);
    }
    if record.phase == Phase::Stopping {
        // Whoever asked has to ask again: how long it had is not known any more.
        record.phase = Phase::Running;
    }
    record.lost_lines = 0;
    record.left.clear();
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
    Ok(Keeper {
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
        lock,
    })
}

/// The lock, which whoever launched us has taken.
fn inherited_lock() -> io::Result<File> {
    let lock = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(&File::open("/dev/null")?)?;
    Ok(File::from(lock))
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
