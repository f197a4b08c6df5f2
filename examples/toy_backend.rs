//! A whole backend in one file: its containers are tokio tasks.
//!
//! It is as short as an honest backend can be. It keeps every sentence of
//! [`ContainerBackend`]'s contract, which `tests/toy.rs` proves with the suite that Docker and Podman
//! pass, and what it cannot do it says: by its [`Capabilities`], and by `Unsupported`.
//! `docs/backends.md` tells how to write another; `custom_backend.rs` lets a nanny drive this one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{BoxFuture, poll_fn};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    BackendError, BackendInfo, Capabilities, ContainerBackend, ContainerInfo, ContainerSpec,
    ContainerState, Environment, ErrorKind, Event, EventKind, Exit, FileInside, Images, LogLine,
    LogOptions, LogStream, Networks, RestartPolicy, Result, Selector, Stats, Volumes,
};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// An engine whose containers are tasks of this process. Clones are handles to the same engine.
///
/// A container's command is the name of a program that [`new`](Self::new) was given, and its
/// arguments. Tasks end with the engine's last handle.
#[derive(Debug, Clone)]
pub struct ToyBackend {
    info: BackendInfo,
    capabilities: Capabilities,
    engine: Arc<Engine>,
}

/// What a container can run: from what it is given to its exit code.
pub type Program = fn(Run) -> BoxFuture<'static, i64>;

/// One run of a program.
#[derive(Debug)]
pub struct Run {
    /// What follows the program's name in the command.
    pub arguments: Vec<String>,
    /// The variables it was given.
    pub environment: Environment,
    /// Where it is to look for files.
    pub working_dir: Option<String>,
    asked_to_end: watch::Receiver<bool>,
    log: Log,
}

impl Run {
    /// Writes a line to standard output.
    pub fn print(&self, line: impl AsRef<[u8]>) {
        self.log.write(LogStream::Stdout, line.as_ref());
    }

    /// Writes a line to standard error.
    pub fn complain(&self, line: impl AsRef<[u8]>) {
        self.log.write(LogStream::Stderr, line.as_ref());
    }

    /// Waits until somebody stops the container. A program that never does is killed in the end.
    pub async fn asked_to_end(&mut self) {
        // The sender is dropped once the container has ended: nobody is asked any more then.
        drop(self.asked_to_end.wait_for(|asked| *asked).await);
    }
}

impl ToyBackend {
    /// An engine without containers that knows these programs.
    #[must_use]
    pub fn new(programs: impl IntoIterator<Item = (&'static str, Program)>) -> Self {
        let mut capabilities = Capabilities::default();
        capabilities.separate_stderr = true;
        let engine = Engine {
            programs: programs.into_iter().collect(),
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            events: broadcast::Sender::new(EVENTS),
        };
        let info = BackendInfo::new("toy", "in this process");
        Self { info, capabilities, engine: Arc::new(engine) }
    }
}

/// So many events wait for a slow reader, who is told to list after that.
const EVENTS: usize = 256;
/// So many lines of a container are kept.
const LOG_LINES: usize = 10_000;
/// A longer line is several.
const LINE_BYTES: usize = 16 * 1024;
/// How long a container may take to end, if nobody says.
const GRACE: Duration = Duration::from_secs(10);
/// The exit code of what was killed: 128 + the number of the signal.
const KILLED: i64 = 128 + 9;
/// The exit code of a program that panicked, as of a Rust program.
const PANICKED: i64 = 101;

#[async_trait]
impl ContainerBackend for ToyBackend {
    fn info(&self) -> &BackendInfo {
        &self.info
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let (program, arguments) = honoured(spec)?;
        let mut state = self.engine.lock();
        state.is_free("create", &spec.name)?;
        state.created += 1;
        let id = ContainerId::new(format!("toy-{}", state.created));
        let mut info = ContainerInfo::new(id.clone(), &spec.name, "");
        info.labels.clone_from(&spec.labels);
        let container = Container {
            info,
            spec: spec.clone(),
            program,
            arguments,
            log: VecDeque::new(),
            written: 0,
            runs: 0,
            cpu: Duration::ZERO,
            task: None,
        };
        state.containers.insert(id.clone(), container);
        self.engine.tell(&id, EventKind::Created);
        Ok(id)
    }

    async fn rename(&self, id: &ContainerId, name: &str) -> Result<()> {
        let mut state = self.engine.lock();
        if state.container("rename", id)?.info.name != name {
            state.is_free("rename", name)?;
            state.container("rename", id)?.info.name = name.to_owned();
            self.engine.tell(id, EventKind::Changed);
        }
        Ok(())
    }

    async fn put_files(&self, id: &ContainerId, _files: &[FileInside]) -> Result<()> {
        Err(unsupported("put files", "a task has no files of its own").on(id))
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        let mut state = self.engine.lock();
        let container = state.container("start", id)?;
        match container.info.state {
            ContainerState::Running => return Ok(()),
            ContainerState::Stopping => {
                return Err(conflict("start", "it is being stopped").on(id));
            }
            _ => {}
        }
        let Some(program) = self.engine.programs.get(container.program.as_str()) else {
            let message = format!("there is no program '{}'", container.program);
            let mut exit = Exit::default();
            exit.error = Some(message.clone());
            container.info.exit = Some(exit);
            return Err(BackendError::new(ErrorKind::Invalid, "start", message).on(id));
        };
        let (ask, asked_to_end) = watch::channel(false);
        let log =
            Log { engine: Arc::downgrade(&self.engine), id: id.clone(), run: container.runs + 1 };
        let run = Run {
            arguments: container.arguments.clone(),
            environment: container.spec.environment.clone(),
            working_dir: container.spec.working_dir.clone(),
            asked_to_end,
            log: log.clone(),
        };
        container.runs = log.run;
        container.cpu = Duration::ZERO;
        container.info.state = ContainerState::Running;
        container.info.exit = None;
        container.info.started_at = Some(Timestamp::now());
        let task = tokio::spawn(run_to_its_end(program(run), log)).abort_handle();
        container.task = Some(Task { ask, task });
        self.engine.tell(id, EventKind::Started);
        Ok(())
    }

    async fn stop(&self, id: &ContainerId, grace: Option<Duration>) -> Result<()> {
        let (run, grace) = {
            let mut state = self.engine.lock();
            let container = state.container("stop", id)?;
            let Some(task) = &container.task else { return Ok(()) };
            task.ask.send_replace(true);
            container.info.state = ContainerState::Stopping;
            self.engine.tell(id, EventKind::StopRequested);
            (container.runs, grace.or(container.spec.stop_grace).unwrap_or(GRACE))
        };
        if tokio::time::timeout(grace, self.engine.end_of(id, run)).await.is_err() {
            self.engine.ended(id, run, KILLED);
        }
        Ok(())
    }

    async fn kill(&self, id: &ContainerId) -> Result<()> {
        let run = self.engine.lock().container("kill", id)?.runs;
        self.engine.tell(id, EventKind::StopRequested);
        self.engine.ended(id, run, KILLED);
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        // Dropping it ends its task.
        if self.engine.lock().containers.remove(id).is_some() {
            self.engine.tell(id, EventKind::Removed);
        }
        Ok(())
    }

    async fn inspect(&self, id: &ContainerId) -> Result<ContainerInfo> {
        Ok(self.engine.lock().container("inspect", id)?.info.clone())
    }

    async fn list(&self, selector: &Selector) -> Result<Vec<ContainerInfo>> {
        let state = self.engine.lock();
        let infos = state.containers.values().map(|container| &container.info);
        Ok(infos.filter(|info| selector.picks(&info.labels)).cloned().collect())
    }

    fn watch(&self) -> BoxStream<'static, Event> {
        let resync = || Event { kind: EventKind::Resync, container: None };
        // The stream holds the engine, so that there is always one to tell it something.
        let feed = (self.engine.events.subscribe(), Arc::clone(&self.engine));
        let events = stream::unfold(feed, move |mut feed| async move {
            let event = feed.0.recv().await.unwrap_or_else(|_missed_some| resync());
            Some((event, feed))
        });
        stream::iter([resync()]).chain(events).boxed()
    }

    fn logs(&self, id: &ContainerId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        let reader = Reader {
            engine: Arc::clone(&self.engine),
            id: id.clone(),
            options,
            place: None,
            failed: false,
        };
        stream::unfold(reader, |mut reader| async move {
            let line = reader.next().await.transpose()?;
            reader.failed = line.is_err();
            Some((line, reader))
        })
        .boxed()
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let mut state = self.engine.lock();
        let container = state.container("stats", id)?;
        let mut stats = Stats::default();
        if container.task.is_some() {
            stats.cpu = container.cpu;
            // What else belongs to a task, nobody can tell.
            let bytes: usize = container.log.iter().map(|line| line.bytes.len()).sum();
            stats.memory_bytes = bytes as u64;
        }
        Ok(stats)
    }

    fn images(&self) -> Option<&dyn Images> {
        None
    }

    fn networks(&self) -> Option<&dyn Networks> {
        None
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        None
    }
}

/// Program and arguments of `spec`, if everything in it can be honoured. It is taken apart without
/// `..`: a field that comes to be added does not compile until somebody has decided about it.
fn honoured(spec: &ContainerSpec) -> Result<(String, Vec<String>)> {
    macro_rules! refuse {
        ($($field:ident),*; honour $($honoured:ident),*) => {
            let ContainerSpec { $($honoured: _,)* $($field),* } = spec;
            let plain = ContainerSpec::default();
            $(if *$field != plain.$field {
                return Err(unsupported("create", concat!("no '", stringify!($field), "' here")).on(&spec.name));
            })*
        };
    }
    refuse!(
        image, platform, entrypoint, annotations, hostname, domainname, user, stdin_open, init,
        ports, expose, mounts, tmpfs, storage_options, read_only, devices, device_cgroup_rules,
        gpus, group_add, cap_add, cap_drop, security_opt, privileged, sysctls, namespaces, shm_size,
        runtime, logging, healthcheck, network_mode, networks, mac_address, links, dns, extra_hosts,
        ulimits, limits, stop_signal;
        honour name, command, environment, labels, working_dir, tty, restart, stop_grace
    );
    if spec.restart.unwrap_or_default() != RestartPolicy::No {
        return Err(unsupported("create", "no 'restart' here").on(&spec.name));
    }
    let mut command = spec.command.iter().flatten().cloned();
    let none = || BackendError::new(ErrorKind::Invalid, "create", "no command").on(&spec.name);
    Ok((command.next().ok_or_else(none)?, command.collect()))
}

fn unsupported(operation: &'static str, message: &str) -> BackendError {
    BackendError::new(ErrorKind::Unsupported, operation, message)
}

fn conflict(operation: &'static str, message: &str) -> BackendError {
    BackendError::new(ErrorKind::Conflict, operation, message)
}

/// What all handles share.
struct Engine {
    programs: BTreeMap<&'static str, Program>,
    state: Mutex<State>,
    /// Rings after every change.
    changed: watch::Sender<()>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct State {
    containers: BTreeMap<ContainerId, Container>,
    created: u64,
}

struct Container {
    info: ContainerInfo,
    spec: ContainerSpec,
    program: String,
    arguments: Vec<String>,
    log: VecDeque<LogLine>,
    /// Lines written so far, which may be more than are kept.
    written: u64,
    runs: u64,
    /// Processor time of the last run.
    cpu: Duration,
    /// There while it runs.
    task: Option<Task>,
}

/// A run under way. Its end is this value's: there are no tasks that nobody holds.
struct Task {
    ask: watch::Sender<bool>,
    task: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn container(&mut self, operation: &'static str, id: &ContainerId) -> Result<&mut Container> {
        let none = || BackendError::new(ErrorKind::NotFound, operation, "no such container").on(id);
        self.containers.get_mut(id).ok_or_else(none)
    }

    fn is_free(&self, operation: &'static str, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(BackendError::new(ErrorKind::Invalid, operation, "a name is needed"));
        }
        if self.containers.values().any(|container| container.info.name == name) {
            return Err(conflict(operation, "the name is taken").on(name));
        }
        Ok(())
    }
}

impl Engine {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever waits for a change, and tells whoever listens.
    fn tell(&self, id: &ContainerId, kind: EventKind) {
        self.changed.send_replace(());
        // Nobody need listen.
        drop(self.events.send(Event { kind, container: Some(id.clone()) }));
    }

    /// Ends a run, unless it has ended.
    fn ended(&self, id: &ContainerId, run: u64, code: i64) {
        let mut state = self.lock();
        let Ok(container) = state.container("end", id) else { return };
        if container.runs != run || container.task.take().is_none() {
            return;
        }
        let mut exit = Exit::with_code(code);
        exit.at = Some(Timestamp::now());
        container.info.state = ContainerState::Exited;
        container.info.exit = Some(exit.clone());
        self.tell(id, EventKind::Exited(exit));
    }

    /// Waits until a run has ended.
    async fn end_of(&self, id: &ContainerId, run: u64) {
        let mut changed = self.changed.subscribe();
        let runs = |container: &mut Container| container.runs == run && container.task.is_some();
        while self.lock().container("wait", id).is_ok_and(runs) {
            // The engine, which has the sender, is there as long as `self`.
            drop(changed.changed().await);
        }
    }
}

/// Where one run writes. It does not keep the engine: with the last handle, all tasks end.
#[derive(Clone)]
struct Log {
    engine: Weak<Engine>,
    id: ContainerId,
    run: u64,
}

impl Log {
    fn write(&self, stream: LogStream, line: &[u8]) {
        self.note(|container| {
            let stream = if container.spec.tty { LogStream::Terminal } else { stream };
            let pieces = line.chunks(LINE_BYTES).chain(line.is_empty().then_some(line));
            for piece in pieces.map(<[u8]>::to_vec) {
                container.log.push_back(LogLine::new(Some(Timestamp::now()), stream, piece));
                container.written += 1;
            }
            let surplus = container.log.len().saturating_sub(LOG_LINES);
            container.log.drain(..surplus);
        });
    }

    /// Notes something about the run. A task that was killed may be in the middle of something, and
    /// is not heard any more.
    fn note(&self, change: impl FnOnce(&mut Container)) {
        let Some(engine) = self.engine.upgrade() else { return };
        let mut state = engine.lock();
        if let Some(container) = state.containers.get_mut(&self.id)
            && container.runs == self.run
            && container.task.is_some()
        {
            change(container);
            engine.changed.send_replace(());
        }
    }
}

/// Runs a program, measures it, and notes its end.
async fn run_to_its_end(mut program: BoxFuture<'static, i64>, log: Log) {
    let measured = poll_fn(|context| {
        let began = Instant::now();
        let polled = program.as_mut().poll(context);
        log.note(|container| container.cpu += began.elapsed());
        polled
    });
    let code = AssertUnwindSafe(measured).catch_unwind().await.unwrap_or(PANICKED);
    if let Some(engine) = log.engine.upgrade() {
        engine.ended(&log.id, log.run, code);
    }
}

/// Somebody who reads a log.
struct Reader {
    engine: Arc<Engine>,
    id: ContainerId,
    options: LogOptions,
    /// The run that is followed, and how many lines were read or passed over; `None` at first.
    place: Option<(u64, u64)>,
    failed: bool,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<LogLine>> {
        let mut changed = self.engine.changed.subscribe();
        while !self.failed {
            if let Poll::Ready(line) = self.at_once()? {
                return Ok(line);
            }
            drop(changed.changed().await);
        }
        Ok(None)
    }

    /// The next line, or the end of the log, if either is there.
    fn at_once(&mut self) -> Result<Poll<Option<LogLine>>> {
        let mut state = self.engine.lock();
        let container = match state.container("logs", &self.id) {
            Err(_) if self.place.is_some() => return Ok(Poll::Ready(None)),
            container => container?,
        };
        let kept = container.written - container.log.len() as u64;
        let tail = self.options.tail.map_or(u64::MAX, u64::from);
        let first = (container.runs, container.written.saturating_sub(tail));
        let (run, read) = self.place.get_or_insert(first);
        *read = kept.max(*read);
        while *read < container.written {
            let index = usize::try_from(*read - kept).unwrap_or(usize::MAX);
            *read += 1;
            if let Some(line) = container.log.get(index)
                && self.options.since.is_none_or(|since| line.at >= Some(since))
            {
                return Ok(Poll::Ready(Some(line.clone())));
            }
        }
        let goes_on = self.options.follow && container.task.is_some() && container.runs == *run;
        Ok(if goes_on { Poll::Pending } else { Poll::Ready(None) })
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("id", &self.id).finish_non_exhaustive()
    }
}
