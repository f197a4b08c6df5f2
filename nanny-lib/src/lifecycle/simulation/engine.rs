//! The other side: an engine that can be asked, and meddled with.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::backend::{
    BackendError, ContainerInfo, ContainerSpec, ContainerState, EngineHealth, ErrorKind, Exit,
};
use crate::name::ContainerId;

/// Who started a container last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starter {
    /// Other hands, or a call of ours that was executed after we had been told that it failed:
    /// nobody can keep those from running beside another.
    Others,
    /// A call of ours that came too late: must be undone or adopted in the end.
    UsTooLate,
    /// We did, for a service that needs a GPU.
    UsOnGpu,
    /// We did.
    Us,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) info: ContainerInfo,
    pub(super) starter: Starter,
    /// A stop is under way: the number of the run it will end.
    pub(super) stopping: bool,
    pub(super) run: u64,
}

#[derive(Debug, Default)]
pub(super) struct Engine {
    pub(super) containers: BTreeMap<ContainerId, Held>,
    pub(super) up: bool,
    made: u64,
}

type Result<T> = std::result::Result<T, BackendError>;

fn error(kind: ErrorKind) -> BackendError {
    BackendError::new(kind, "simulated", format!("{kind:?}"))
}

impl Engine {
    pub(super) fn list(&self) -> Vec<ContainerInfo> {
        self.containers.values().map(|held| held.info.clone()).collect()
    }

    pub(super) fn create(&mut self, prefix: &str, spec: &ContainerSpec) -> Result<ContainerId> {
        if self.containers.values().any(|held| held.info.name == spec.name) {
            return Err(error(ErrorKind::Conflict));
        }
        self.made += 1;
        let id = ContainerId::new(format!("{prefix}{}", self.made));
        let mut info = ContainerInfo::new(id.clone(), spec.name.clone(), "image");
        info.labels = spec.labels.clone();
        info.restart = spec.restart;
        info.uses_gpu = !spec.devices.is_empty();
        info.health = spec.healthcheck.is_some().then_some(EngineHealth::Starting);
        let held = Held { info, starter: Starter::Others, stopping: false, run: 0 };
        self.containers.insert(id.clone(), held);
        Ok(id)
    }

    pub(super) fn start(&mut self, id: &ContainerId, by: Starter, at: Timestamp) -> Result<()> {
        let held = self.containers.get_mut(id).ok_or_else(|| error(ErrorKind::NotFound))?;
        if held.stopping {
            return Err(error(ErrorKind::Conflict));
        }
        if held.info.state.holds() {
            return Ok(());
        }
        held.info.state = ContainerState::Running;
        held.info.started_at = Some(at);
        held.info.exit = None;
        held.info.health = held.info.health.map(|_| EngineHealth::Starting);
        held.starter = by;
        held.run += 1;
        Ok(())
    }

    /// Ends the run numbered `run`, if it has not ended yet.
    pub(super) fn end(&mut self, id: &ContainerId, run: u64, code: i64) -> bool {
        let Some(held) = self.containers.get_mut(id) else { return false };
        if held.run != run || !held.info.state.holds() {
            return false;
        }
        held.info.state = ContainerState::Exited;
        held.info.exit = Some(Exit::with_code(code));
        held.stopping = false;
        true
    }
}

/// Small, seeded and the same everywhere.
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(from.len() as u64)).ok()?;
        from.get(at).cloned()
    }
}
