//! The simulated engine's state. Pure: every method takes the time as an argument.
//!
//! Nothing here waits. What will happen by itself (an exit, a restart, a start that takes a
//! while) is a due time on the container, and [`World::settle`] carries out whatever is due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::super::{
    BackendError, BuildSpec, ContainerInfo, ContainerSpec, ContainerState, EngineHealth, ErrorKind,
    Event, EventKind, Exit, FileInside, LogLine, LogStream, MountKind, NetworkInfo, Result,
    VolumeInfo,
};
use crate::name::ContainerId;

/// Everything the engine knows.
#[derive(Debug)]
pub(super) struct World {
    began: (Instant, Timestamp),
    pub(super) containers: BTreeMap<ContainerId, Container>,
    pub(super) networks: BTreeMap<String, NetworkInfo>,
    pub(super) volumes: BTreeMap<String, VolumeInfo>,
    /// `None`: every image is here.
    pub(super) images: Option<BTreeSet<String>>,
    /// `None`: every image can be pulled.
    pub(super) registry: Option<BTreeSet<String>>,
    /// What was pulled, in order.
    pub(super) pulls: Vec<String>,
    /// What was built, in order.
    pub(super) builds: Vec<BuildSpec>,
    pub(super) defaults: Behaviour,
    pub(super) behaviours: BTreeMap<String, Behaviour>,
    pub(super) pull_takes: Duration,
    pub(super) down: bool,
    /// Counts outages: a stream of events that sees another number has to say `Resync`.
    pub(super) connection: u64,
    /// Tells its containers from those of other engines.
    engine: u64,
    next_number: u64,
    next_event: u64,
    events: VecDeque<Event>,
}

/// Counts engines.
static ENGINES: AtomicU64 = AtomicU64::new(0);

/// How a container of one name behaves.
#[derive(Debug, Clone, Default)]
pub(super) struct Behaviour {
    pub(super) start_takes: Duration,
    /// How long a reading of its use takes.
    pub(super) stats_take: Duration,
    pub(super) stop_takes: Duration,
    pub(super) exits: Option<(Duration, i64)>,
    pub(super) start_error: Option<BackendError>,
    pub(super) health: Option<EngineHealth>,
    pub(super) prints: Option<Vec<(LogStream, String)>>,
}

/// One container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) info: ContainerInfo,
    pub(super) spec: ContainerSpec,
    /// What was put into it, by path.
    pub(super) files: BTreeMap<String, FileInside>,
    pub(super) log: VecDeque<LogLine>,
    /// How many lines were ever written: the log forgets its oldest ones.
    pub(super) written: u64,
    /// How many times it began to run.
    pub(super) runs: u64,
    pub(super) began_run: Option<Instant>,
    /// What happens to it by itself, and when.
    due: Option<(Instant, Due)>,
    /// Counts requests to start, so that each learns how its own ended.
    attempt: u64,
    failed: Option<(u64, BackendError)>,
    restarts: u32,
}

#[derive(Debug, Clone)]
enum Due {
    Run,
    Exit(Exit),
    Restart,
}

const MAX_EVENTS: usize = 4096;
const MAX_LOG_LINES: usize = 10_000;
const MAX_LINE_BYTES: usize = 16 * 1024;
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

impl World {
    pub(super) fn new(now: Instant, wall: Timestamp) -> Self {
        Self {
            began: (now, wall),
            containers: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            images: None,
            registry: None,
            pulls: Vec::new(),
            builds: Vec::new(),
            defaults: Behaviour::default(),
            behaviours: BTreeMap::new(),
            pull_takes: Duration::ZERO,
            down: false,
            connection: 1,
            engine: ENGINES.fetch_add(1, Ordering::Relaxed),
            next_number: 1,
            next_event: 0,
            events: VecDeque::new(),
        }
    }

    pub(super) fn behaviour(&mut self, name: &str) -> &mut Behaviour {
        let defaults = self.defaults.clone();
        self.behaviours.entry(name.to_owned()).or_insert(defaults)
    }

    pub(super) fn id_of(&self, name: &str) -> Option<ContainerId> {
        self.containers.values().find(|c| c.info.name == name).map(|c| c.info.id.clone())
    }

    /// When something will happen by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.containers.values().filter_map(|c| c.due.as_ref()).map(|(at, _)| *at).min()
    }

    /// Carries out everything that is due, in the order of time.
    pub(super) fn settle(&mut self, now: Instant) {
        loop {
            let first = (self.containers.values())
                .filter_map(|c| c.due.as_ref().map(|(at, _)| (*at, c.info.id.clone())))
                .filter(|(at, _)| *at <= now)
                .min();
            let Some((at, id)) = first else { return };
            let due = self.containers.get_mut(&id).and_then(|c| c.due.take());
            match due {
                Some((_, Due::Run | Due::Restart)) => self.run(&id, at),
                Some((_, Due::Exit(exit))) => self.end(&id, exit, at),
                None => {}
            }
        }
    }

    pub(super) fn create(&mut self, spec: &ContainerSpec, now: Instant) -> Result<ContainerId> {
        let fail =
            |kind, message: String| Err(BackendError::new(kind, "create", message).on(&spec.name));
        if spec.name.is_empty() {
            return fail(ErrorKind::Invalid, "the name is empty".to_owned());
        }
        if self.id_of(&spec.name).is_some() {
            return fail(ErrorKind::Conflict, "the name is in use".to_owned());
        }
        if let (Some(image), Some(images)) = (&spec.image, &self.images)
            && !images.contains(image)
        {
            return fail(ErrorKind::NotFound, format!("no such image: {image}"));
        }
        if let Some(missing) =
            spec.networks.iter().find(|n| !self.networks.contains_key(&n.network))
        {
            return fail(ErrorKind::NotFound, format!("no such network: {}", missing.network));
        }
        for mount in &spec.mounts {
            if let MountKind::Volume { name, .. } = &mount.kind
                && !self.volumes.contains_key(name)
                && !self
                    .containers
                    .values()
                    .any(|other| other.info.volumes.values().any(|v| v == name))
            {
                return fail(ErrorKind::NotFound, format!("no such volume: {name}"));
            }
        }
        let id = ContainerId::new(format!("mem{:04}{:09}", self.engine, self.next_number));
        self.next_number += 1;
        let mut info =
            ContainerInfo::new(id.clone(), &spec.name, spec.image.clone().unwrap_or_default());
        info.labels.clone_from(&spec.labels);
        info.restart = spec.restart.unwrap_or_default();
        info.uses_gpu = uses_gpu(spec);
        info.volumes = volumes(spec, &id);
        let container = Container {
            info,
            spec: spec.clone(),
            files: BTreeMap::new(),
            log: VecDeque::new(),
            written: 0,
            runs: 0,
            began_run: None,
            due: None,
            attempt: 0,
            failed: None,
            restarts: 0,
        };
        self.containers.insert(id.clone(), container);
        self.emit(EventKind::Created, Some(&id));
        self.settle(now);
        Ok(id)
    }

    pub(super) fn rename(&mut self, id: &ContainerId, name: &str) -> Result<()> {
        self.container("rename", id)?;
        match self.id_of(name) {
            Some(other) if other == *id => return Ok(()),
            Some(_) => {
                let message = "the name is in use";
                return Err(BackendError::new(ErrorKind::Conflict, "rename", message).on(name));
            }
            None => {}
        }
        let container = self.container("rename", id)?;
        name.clone_into(&mut container.info.name);
        self.emit(EventKind::Changed, Some(id));
        Ok(())
    }

    /// Asks for a start; `Some` is the number under which its outcome will be known.
    pub(super) fn begin_start(&mut self, id: &ContainerId, now: Instant) -> Result<Option<u64>> {
        let start_takes = self.behaviour_of(id).start_takes;
        let container = self.container("start", id)?;
        match container.info.state {
            ContainerState::Running | ContainerState::Paused => return Ok(None),
            ContainerState::Stopping | ContainerState::Removing => {
                let message = "the container is being stopped";
                return Err(BackendError::new(ErrorKind::Conflict, "start", message)
                    .on(&container.info.name));
            }
            ContainerState::Created
            | ContainerState::Exited
            | ContainerState::Restarting
            | ContainerState::Unknown => {}
        }
        if !matches!(container.due, Some((_, Due::Run))) {
            container.attempt += 1;
            container.restarts = 0;
            container.due = Some((now + start_takes, Due::Run));
        }
        let attempt = container.attempt;
        self.settle(now);
        Ok(Some(attempt))
    }

    /// How a start ended; `None` while it is under way.
    pub(super) fn start_outcome(&mut self, id: &ContainerId, attempt: u64) -> Option<Result<()>> {
        match self.container("start", id) {
            Err(error) => Some(Err(error)),
            Ok(container) => match &container.failed {
                Some((failed, error)) if *failed == attempt => Some(Err(error.clone())),
                _ if matches!(container.due, Some((_, Due::Run))) => None,
                _ => Some(Ok(())),
            },
        }
    }

    /// Asks for a stop; answers the run that is to end, `None` if nothing runs.
    pub(super) fn begin_stop(
        &mut self,
        id: &ContainerId,
        grace: Option<Duration>,
        now: Instant,
    ) -> Result<Option<u64>> {
        let takes = self.behaviour_of(id).stop_takes;
        let container = self.container("stop", id)?;
        let grace = grace.or(container.spec.stop_grace).unwrap_or(DEFAULT_GRACE);
        let code = if takes <= grace { 143 } else { 137 };
        let run = container.runs;
        match container.info.state {
            ContainerState::Running | ContainerState::Paused | ContainerState::Stopping => {
                let first = container.info.state != ContainerState::Stopping;
                container.info.state = ContainerState::Stopping;
                container.end_by(now + takes.min(grace), Exit::with_code(code));
                if first {
                    self.emit(EventKind::StopRequested, Some(id));
                }
                self.settle(now);
                Ok(Some(run))
            }
            ContainerState::Created
            | ContainerState::Exited
            | ContainerState::Restarting
            | ContainerState::Removing
            | ContainerState::Unknown => {
                container.cancel_start("stopped before it had started");
                Ok(None)
            }
        }
    }

    /// Whether the run that a stop is about has ended.
    pub(super) fn has_ended(&self, id: &ContainerId, run: u64) -> bool {
        self.containers
            .get(id)
            .is_none_or(|c| c.runs != run || c.info.state != ContainerState::Stopping)
    }

    pub(super) fn kill(&mut self, id: &ContainerId, now: Instant) -> Result<()> {
        let container = self.container("kill", id)?;
        match container.info.state {
            ContainerState::Running | ContainerState::Paused | ContainerState::Stopping => {
                container.info.state = ContainerState::Stopping;
                container.due = None;
                self.emit(EventKind::StopRequested, Some(id));
                self.end(id, Exit::with_code(137), now);
            }
            ContainerState::Created
            | ContainerState::Exited
            | ContainerState::Restarting
            | ContainerState::Removing
            | ContainerState::Unknown => container.cancel_start("killed before it had started"),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, id: &ContainerId, now: Instant) {
        if self.kill(id, now).is_ok() {
            self.containers.remove(id);
            self.emit(EventKind::Removed, Some(id));
        }
    }

    /// Ends a container as if its process had: the restart policy may answer.
    pub(super) fn crash(&mut self, id: &ContainerId, exit: Exit, now: Instant) {
        if let Some(container) = self.containers.get_mut(id)
            && container.info.state.holds()
        {
            container.due = None;
            self.end(id, exit, now);
        }
    }

    pub(super) fn set_health(&mut self, name: &str, health: Option<EngineHealth>) {
        self.behaviour(name).health = health;
        if let Some(id) = self.id_of(name)
            && let Some(container) = self.containers.get_mut(&id)
            && container.info.state.holds()
        {
            container.info.health = health;
            self.emit(EventKind::Changed, Some(&id));
        }
    }

    pub(super) fn write(&mut self, id: &ContainerId, stream: LogStream, text: &str, now: Instant) {
        let at = self.wall(now);
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let stream = if container.spec.tty { LogStream::Terminal } else { stream };
        for line in text.lines() {
            for piece in line.as_bytes().chunks(MAX_LINE_BYTES) {
                container.log.push_back(LogLine::new(Some(at), stream, piece.to_vec()));
                container.written += 1;
            }
        }
        let excess = container.log.len().saturating_sub(MAX_LOG_LINES);
        container.log.drain(..excess);
    }

    /// The event after the first `seen`; `Err` is where to go on after events were lost.
    pub(super) fn event(&self, seen: u64) -> Result<Option<Event>, u64> {
        let oldest = self.next_event - self.events.len() as u64;
        if seen < oldest {
            return Err(self.next_event);
        }
        let index = usize::try_from(seen - oldest).unwrap_or(usize::MAX);
        Ok(self.events.get(index).cloned())
    }

    pub(super) fn last_event(&self) -> u64 {
        self.next_event
    }

    pub(super) fn wall(&self, now: Instant) -> Timestamp {
        let (began, wall) = self.began;
        let elapsed = SignedDuration::try_from(now.saturating_duration_since(began));
        elapsed.ok().and_then(|elapsed| wall.checked_add(elapsed).ok()).unwrap_or(wall)
    }

    pub(super) fn container(
        &mut self,
        operation: &'static str,
        id: &ContainerId,
    ) -> Result<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| {
            BackendError::new(ErrorKind::NotFound, operation, "no such container").on(id)
        })
    }

    pub(super) fn behaviour_of(&self, id: &ContainerId) -> Behaviour {
        let name = self.containers.get(id).map_or("", |c| c.info.name.as_str());
        self.behaviours.get(name).unwrap_or(&self.defaults).clone()
    }

    fn run(&mut self, id: &ContainerId, now: Instant) {
        let behaviour = self.behaviour_of(id);
        let taken = self.taken_port(id);
        let at = self.wall(now);
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let name = container.info.name.clone();
        let error = behaviour.start_error.or_else(|| {
            let message = format!("port is already allocated: {}", taken?);
            Some(BackendError::new(ErrorKind::Conflict, "start", message).on(&name))
        });
        if let Some(error) = error {
            container.failed = Some((container.attempt, error.clone()));
            container.info.exit = Some(Exit {
                code: Some(128),
                error: Some(error.message().to_owned()),
                at: Some(at),
                ..Exit::default()
            });
            if container.info.state == ContainerState::Restarting {
                container.info.state = ContainerState::Exited;
            }
            return;
        }
        container.failed = None;
        container.runs += 1;
        container.began_run = Some(now);
        container.info.state = ContainerState::Running;
        container.info.started_at = Some(at);
        container.info.exit = None;
        let checked = container.spec.healthcheck.as_ref().map(|_| EngineHealth::Starting);
        container.info.health = behaviour.health.or(checked);
        container.due =
            behaviour.exits.map(|(after, code)| (now + after, Due::Exit(Exit::with_code(code))));
        let image = container.info.image.clone();
        self.emit(EventKind::Started, Some(id));
        match behaviour.prints {
            Some(lines) => lines.iter().for_each(|(to, line)| self.write(id, *to, line, now)),
            None => {
                self.write(id, LogStream::Stdout, &format!("{name}: starting {image}"), now);
                self.write(id, LogStream::Stdout, &format!("{name}: ready"), now);
            }
        }
    }

    fn end(&mut self, id: &ContainerId, mut exit: Exit, now: Instant) {
        exit.at = Some(self.wall(now));
        let Some(container) = self.containers.get_mut(id) else {
            return;
        };
        let asked_for = container.info.state == ContainerState::Stopping;
        container.due = None;
        container.info.health = None;
        container.info.exit = Some(exit.clone());
        container.info.state = ContainerState::Exited;
        container.began_run = None;
        if !asked_for && container.info.restart.answers(exit.code, container.restarts) {
            let delay =
                Duration::from_millis(100) * 2_u32.saturating_pow(container.restarts.min(9));
            container.restarts += 1;
            container.info.state = ContainerState::Restarting;
            container.due = Some((now + delay, Due::Restart));
        }
        self.emit(EventKind::Exited(exit), Some(id));
    }

    /// A host port this container publishes that another one holds.
    fn taken_port(&self, id: &ContainerId) -> Option<String> {
        let wanted = self.containers.get(id)?;
        for port in &wanted.spec.ports {
            let Some(range) = port.host_ports.filter(|range| range.first == range.last) else {
                continue;
            };
            let held = self.containers.values().any(|other| {
                other.info.id != *id
                    && matches!(
                        other.info.state,
                        ContainerState::Running | ContainerState::Paused | ContainerState::Stopping
                    )
                    && other.spec.ports.iter().any(|held| {
                        held.host_ports == Some(range)
                            && held.protocol == port.protocol
                            && (held.host_ip == port.host_ip
                                || is_any(held.host_ip.as_deref())
                                || is_any(port.host_ip.as_deref()))
                    })
            });
            if held {
                return Some(format!("{}/{}", range.first, port.protocol));
            }
        }
        None
    }

    fn emit(&mut self, kind: EventKind, id: Option<&ContainerId>) {
        self.events.push_back(Event { kind, container: id.cloned() });
        self.next_event += 1;
        if self.events.len() > MAX_EVENTS {
            self.events.pop_front();
        }
    }
}

impl Container {
    /// It ends at `at` at the latest.
    fn end_by(&mut self, at: Instant, exit: Exit) {
        match &self.due {
            Some((sooner, Due::Exit(_))) if *sooner <= at => {}
            _ => self.due = Some((at, Due::Exit(exit))),
        }
    }

    fn cancel_start(&mut self, message: &str) {
        if let Some((_, Due::Run)) = self.due.take() {
            let error = BackendError::new(ErrorKind::Conflict, "start", message);
            self.failed = Some((self.attempt, error.on(&self.info.name)));
        }
        if self.info.state == ContainerState::Restarting {
            self.info.state = ContainerState::Exited;
        }
    }
}

fn is_any(host_ip: Option<&str>) -> bool {
    host_ip.is_none_or(|ip| matches!(ip, "" | "0.0.0.0" | "::"))
}

/// Those without a name get one, as from an engine.
fn volumes(spec: &ContainerSpec, id: &ContainerId) -> BTreeMap<String, String> {
    let volumes = spec.mounts.iter().filter_map(|mount| {
        let name = match &mount.kind {
            MountKind::Volume { name, .. } => name.clone(),
            MountKind::Anonymous => format!("{id}{}", mount.target.replace('/', "-")),
            _ => return None,
        };
        Some((mount.target.clone(), name))
    });
    volumes.collect()
}

fn uses_gpu(spec: &ContainerSpec) -> bool {
    let visible = spec.environment.0.get("NVIDIA_VISIBLE_DEVICES").and_then(Option::as_deref);
    !spec.gpus.is_empty()
        || spec.runtime.as_deref() == Some("nvidia")
            && visible.is_some_and(|ids| !matches!(ids, "" | "void" | "none"))
        || spec.devices.iter().any(|device| {
            device.host == "/dev/kfd"
                || device.host.starts_with("/dev/nvidia")
                || !device.host.starts_with('/')
        })
}
