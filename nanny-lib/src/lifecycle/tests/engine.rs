//! An engine that does as it is told, and at once.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::backend::{ContainerInfo, ContainerState, Exit};
use crate::name::ContainerId;
use crate::project::Step;

#[derive(Debug, Default)]
pub(super) struct Engine {
    containers: BTreeMap<ContainerId, ContainerInfo>,
}

impl Engine {
    pub(super) fn list(&self) -> Vec<ContainerInfo> {
        self.containers.values().cloned().collect()
    }

    pub(super) fn get(&self, id: &ContainerId) -> Option<&ContainerInfo> {
        self.containers.get(id)
    }

    /// Takes a step; the container it is about.
    pub(super) fn execute(&mut self, step: &Step) -> ContainerId {
        match step {
            Step::Create { spec, .. } => {
                let id = ContainerId::new(format!("c{}", self.containers.len() + 1));
                let mut info = ContainerInfo::new(id.clone(), spec.name.clone(), "image");
                info.labels = spec.labels.clone();
                info.uses_gpu = !spec.devices.is_empty();
                self.containers.insert(id.clone(), info);
                id
            }
            Step::Start { id, .. } => {
                let info = self.containers.get_mut(id).expect("it was made");
                info.state = ContainerState::Running;
                info.started_at = Some(Timestamp::UNIX_EPOCH);
                id.clone()
            }
            Step::Stop { id, .. } | Step::Kill { id } => {
                let info = self.containers.get_mut(id).expect("it was made");
                info.state = ContainerState::Exited;
                info.exit = Some(Exit::with_code(143));
                id.clone()
            }
            _ => ContainerId::new("none"),
        }
    }
}
