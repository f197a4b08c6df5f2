//! An engine that can be asked, and meddled with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    BackendError, ContainerInfo, ContainerSpec, ContainerState, EngineHealth, ErrorKind, Event,
    Exit, NetworkInfo, NetworkSpec,
};
use tokio::sync::mpsc;

use super::calls::Call;

/// Who started a container last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starter {
    /// Other hands; the engine itself; or a call of ours that was executed after the nanny that
    /// made it had died: nobody can keep those from running beside another.
    Others,
    /// A call of ours that was executed after we had been told that it failed: must be undone or
    /// adopted in the end.
    UsTooLate,
    /// We did.
    Us,
}

/// A container, and what nobody is told of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) info: ContainerInfo,
    pub(super) starter: Starter,
    /// How many files were put there.
    pub(super) files: usize,
    /// A stop is under way.
    pub(super) stopping: bool,
    /// Somebody asked for its last end.
    pub(super) asked_to_stop: bool,
    /// Grows with each start.
    pub(super) run: u64,
    /// When its state changed last, in milliseconds of the run.
    pub(super) changed: u64,
}

/// How an engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mood {
    #[default]
    Up,
    /// Every call fails.
    Down,
    /// Calls are taken, and neither executed nor answered until it has recovered.
    Wedged,
}

/// What waits until an engine has recovered.
pub(super) enum Deferred {
    Arrival(Call),
    Reply(Call, Box<Result<Reply>>),
}

#[derive(Default)]
pub(super) struct Engine {
    pub(super) containers: BTreeMap<ContainerId, Held>,
    pub(super) networks: BTreeMap<String, NetworkInfo>,
    pub(super) volumes: BTreeSet<String>,
    pub(super) images: BTreeSet<String>,
    pub(super) mood: Mood,
    pub(super) deferred: Vec<Deferred>,
    /// Those who are told of events, by the nanny they belong to.
    pub(super) listeners: Vec<(u32, mpsc::UnboundedSender<Event>)>,
    /// When containers were removed.
    pub(super) removed: BTreeMap<ContainerId, u64>,
    made: u64,
}

pub(super) type Result<T> = std::result::Result<T, BackendError>;

pub(super) fn error(kind: ErrorKind) -> BackendError {
    BackendError::new(kind, "simulated", format!("{kind:?}"))
}

impl Engine {
    pub(super) fn list(&self) -> Vec<ContainerInfo> {
        self.containers.values().map(|held| held.info.clone()).collect()
    }

    pub(super) fn create(
        &mut self,
        prefix: &str,
        spec: &ContainerSpec,
        now: u64,
    ) -> Result<ContainerId> {
        if self.containers.values().any(|held| held.info.name == spec.name) {
            return Err(error(ErrorKind::Conflict));
        }
        self.made += 1;
        let id = ContainerId::new(format!("{prefix}{}", self.made));
        let mut info = ContainerInfo::new(id.clone(), spec.name.clone(), "image");
        info.labels = spec.labels.clone();
        info.restart = spec.restart.unwrap_or_default();
        info.uses_gpu = !spec.devices.is_empty();
        info.health = spec.healthcheck.is_some().then_some(EngineHealth::Starting);
        let held = Held {
            info,
            starter: Starter::Others,
            files: 0,
            stopping: false,
            asked_to_stop: false,
            run: 0,
            changed: now,
        };
        self.containers.insert(id.clone(), held);
        Ok(id)
    }

    pub(super) fn rename(&mut self, id: &ContainerId, name: &str) -> Result<()> {
        let taken = |held: &Held| held.info.name == name && held.info.id != *id;
        if self.containers.values().any(taken) {
            return Err(error(ErrorKind::Conflict));
        }
        let held = self.containers.get_mut(id).ok_or_else(|| error(ErrorKind::NotFound))?;
        name.clone_into(&mut held.info.name);
        Ok(())
    }

    /// Puts files into a container.
    pub(super) fn fill(&mut self, id: &ContainerId, files: usize) -> Result<()> {
        let held = self.containers.get_mut(id).ok_or_else(|| error(ErrorKind::NotFound))?;
        held.files = held.files.max(files);
        Ok(())
    }

    /// Begins a run, unless one is under way; whether it did.
    pub(super) fn start(
        &mut self,
        id: &ContainerId,
        by: Starter,
        swallows: bool,
        (now, wall): (u64, Timestamp),
    ) -> Result<bool> {
        let held = self.containers.get_mut(id).ok_or_else(|| error(ErrorKind::NotFound))?;
        if held.stopping {
            return if swallows { Ok(false) } else { Err(error(ErrorKind::Conflict)) };
        }
        if held.info.state.holds() {
            return Ok(false);
        }
        held.begin(by, (now, wall));
        Ok(true)
    }

    /// Ends the run numbered `run`, if it has not ended yet.
    pub(super) fn end(&mut self, id: &ContainerId, run: u64, code: i64, now: u64) -> bool {
        let Some(held) = self.containers.get_mut(id) else { return false };
        if held.run != run || !held.info.state.holds() {
            return false;
        }
        held.asked_to_stop = held.stopping;
        held.info.state = ContainerState::Exited;
        held.info.exit = Some(Exit::with_code(code));
        held.stopping = false;
        held.changed = now;
        true
    }

    pub(super) fn remove(&mut self, id: &ContainerId, now: u64) -> Option<Held> {
        let held = self.containers.remove(id)?;
        self.removed.insert(id.clone(), now);
        Some(held)
    }

    pub(super) fn create_network(&mut self, spec: &NetworkSpec) -> Result<()> {
        if self.networks.values().any(|network| network.name == spec.name) {
            return Err(error(ErrorKind::Conflict));
        }
        self.made += 1;
        let id = format!("n{}", self.made);
        let network = NetworkInfo::new(id.clone(), spec.name.clone(), spec.labels.clone());
        self.networks.insert(id, network);
        Ok(())
    }
}

impl Held {
    pub(super) fn begin(&mut self, by: Starter, (now, wall): (u64, Timestamp)) {
        self.info.state = ContainerState::Running;
        self.info.started_at = Some(wall);
        self.info.exit = None;
        self.info.health = self.info.health.map(|_| EngineHealth::Starting);
        self.starter = by;
        self.asked_to_stop = false;
        self.run += 1;
        self.changed = now;
    }
}

/// A call to an engine, as it travels.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Ping,
    List,
    Inspect(ContainerId),
    Create(Box<ContainerSpec>),
    Rename(ContainerId, String),
    /// How many files are put there.
    Fill(ContainerId, usize),
    Start(ContainerId),
    Stop(ContainerId, Duration),
    Kill(ContainerId),
    Remove(ContainerId),
    Image(String),
    Pull(String),
    FindNetworks(String),
    ListNetworks,
    CreateNetwork(NetworkSpec),
    RemoveNetwork(String),
    FindVolume(String),
    CreateVolume(String),
}

impl Op {
    /// Whether it can change anything.
    pub(super) fn changes_something(&self) -> bool {
        match self {
            Self::Ping
            | Self::List
            | Self::Inspect(_)
            | Self::Image(_)
            | Self::FindNetworks(_)
            | Self::ListNetworks
            | Self::FindVolume(_) => false,
            Self::Create(_)
            | Self::Rename(..)
            | Self::Fill(..)
            | Self::Start(_)
            | Self::Stop(..)
            | Self::Kill(_)
            | Self::Remove(_)
            | Self::Pull(_)
            | Self::CreateNetwork(_)
            | Self::RemoveNetwork(_)
            | Self::CreateVolume(_) => true,
        }
    }

    /// The container it changes.
    pub(super) fn container(&self) -> Option<&ContainerId> {
        match self {
            Self::Rename(id, _)
            | Self::Fill(id, _)
            | Self::Start(id)
            | Self::Stop(id, _)
            | Self::Kill(id)
            | Self::Remove(id) => Some(id),
            _ => None,
        }
    }
}

/// What an engine answers.
#[derive(Debug)]
pub(super) enum Reply {
    Done,
    Made(ContainerId),
    Container(Box<ContainerInfo>),
    Containers(Vec<ContainerInfo>),
    Networks(Vec<NetworkInfo>),
    Volume(bool),
    Image(bool),
}
