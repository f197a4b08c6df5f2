//! How the world looks to readers.

use std::sync::Arc;

use super::service::{ServiceState, Work};
use super::world::World;
use super::{Now, Preparing};
use crate::backend::{ContainerInfo, ContainerState};
use crate::manifest::Problem;
use crate::name::ServiceName;
use crate::nanny::{ContainerView, EngineState, EngineView, HealthView, ServiceView, Status};
use crate::project::{Project, exit_reason, has_completed, has_drifted};

impl World {
    /// How a service looks now; `None` if there is none of that name.
    ///
    /// Remembers since when it has looked so, which is why it changes the world.
    pub fn view(&mut self, name: &ServiceName, now: Now) -> Option<ServiceView> {
        let status = self.status(name, now)?;
        let service = self.services.get_mut(name)?;
        let state_since = match service.shown {
            Some((shown, since)) if shown == status => since,
            _ => now.wall,
        };
        service.shown = Some((status, state_since));
        let service = &self.services[name];
        // By name: identifiers are chance, and the same service is to look the same everywhere.
        let mut containers = self.containers_in_play(name);
        containers.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let claim = self.ledger.get(name);
        let engine = self.engine_of(service).map(|index| &self.engines[index.0]);
        let running = containers.iter().filter(|container| container.state.holds());
        let project = &service.wanted.project;
        Some(ServiceView {
            manifest: Arc::clone(&service.wanted.manifest),
            gone: service.gone,
            status,
            is_running: running.clone().next().is_some(),
            is_healthy: self.is_healthy(name),
            state_since,
            started_at: running.filter_map(|container| container.started_at).max(),
            stale_since: engine.and_then(|engine| engine.down_since),
            error: service
                .failure
                .clone()
                .or_else(|| self.missing_part(service, &containers))
                .or_else(|| service.wanted.unusable.clone()),
            health: service.monitor.last.as_ref().map(|last| HealthView {
                source: last.source,
                checked_at: last.at,
                latency: last.latency,
                reason: last.health.reason().map(str::to_owned),
            }),
            project: project.name.clone(),
            backend: engine.map(|engine| engine.info.name.clone()),
            gpus: claim
                .map(|claim| claim.placement.devices().cloned().collect())
                .unwrap_or_default(),
            holds_gpu: claim.is_some(),
            queue: self.queue_view(name, now),
            drift: containers.iter().any(|found| has_drifted(project, &containers, found)),
            orphans: orphans(project, &containers),
            notices: self.notices(name, now),
            pulling: match service.preparing {
                Some(Preparing::Pull(progress)) => Some(progress),
                _ => None,
            },
            building: match service.preparing {
                Some(Preparing::Build(progress)) => Some(progress),
                _ => None,
            },
            tally: service.counters.view(),
            containers: containers
                .iter()
                .map(|container| ContainerView {
                    id: container.id.clone(),
                    name: container.name.clone(),
                    part: project.part_of(container).unwrap_or_default().to_owned(),
                    state: container.state,
                    health: container.health,
                    exit_code: exit_code(container),
                })
                .collect(),
        })
    }

    /// What a person should know of a service.
    fn notices(&self, name: &ServiceName, now: Now) -> Vec<String> {
        let service = &self.services[name];
        let placed = service.placed.iter().flat_map(|placed| &placed.notices);
        let noted = service.notices.values().chain(placed).cloned();
        noted.chain(self.gpu_notices(name, now)).collect()
    }

    /// How the engines look now.
    #[must_use]
    pub fn engine_views(&self) -> Vec<EngineView> {
        let view = |engine: &super::engines::Engine| EngineView {
            name: engine.info.name.clone(),
            state: engine.state,
            reason: engine.reason.clone(),
        };
        self.engines.iter().map(view).collect()
    }

    /// What is wrong with manifests.
    #[must_use]
    pub fn problems(&self) -> Arc<[Problem]> {
        Arc::clone(&self.problems)
    }

    /// Running services that hold a GPU, the most recently started first.
    #[must_use]
    pub fn gpu_services_running(&self) -> Vec<ServiceName> {
        let holders = self.ledger.iter().map(|(name, _)| name);
        let mut running: Vec<_> = holders.filter(|name| self.holds(name)).collect();
        let started = |name: &ServiceName| {
            self.containers(name).iter().filter_map(|container| container.started_at).max()
        };
        running.sort_by_key(|name| std::cmp::Reverse(started(name)));
        running.into_iter().cloned().collect()
    }

    /// Containers of other hands that hold a GPU, by name.
    #[must_use]
    pub fn foreign_gpu_names(&self) -> Vec<String> {
        self.foreign_gpu_containers()
    }

    fn status(&self, name: &ServiceName, now: Now) -> Option<Status> {
        let service = self.services.get(name)?;
        let engine = self.engine_of(service).map(|index| self.engines[index.0].state);
        if engine.is_some_and(|state| state != EngineState::Up) {
            return Some(Status::Unknown);
        }
        Some(match &service.work {
            Work::Up(up) if up.queued.is_some() => Status::Queued,
            Work::Up(_) => Status::Starting,
            Work::Down(_) => Status::Stopping,
            Work::None if !self.holds(name) => {
                if service.restarts.due.is_some() {
                    Status::Starting
                } else if service.failure.is_some() || service.wanted.unusable.is_some() {
                    Status::Failed
                } else {
                    Status::Stopped
                }
            }
            Work::None => self.running_status(name, service, now),
        })
    }

    fn running_status(&self, name: &ServiceName, service: &ServiceState, now: Now) -> Status {
        if !self.is_complete(name) {
            return Status::Unhealthy;
        }
        let in_time = service.monitor.ran_for(now.mono) < service.wanted.manifest.health_timeout;
        match service.monitor.verdict {
            Some(true) => Status::Running,
            Some(false) | None if in_time => Status::Running,
            Some(false) => Status::Unhealthy,
            None => Status::Running,
        }
    }

    /// What is wrong with a service of which only some parts run.
    fn missing_part(
        &self,
        service: &ServiceState,
        containers: &[&ContainerInfo],
    ) -> Option<String> {
        if !matches!(service.work, Work::None) || !containers.iter().any(|c| c.state.holds()) {
            return None;
        }
        let project = &service.wanted.project;
        let missing = containers.iter().find(|container| {
            let part = project.part_of(container).unwrap_or_default();
            // Of several, one that runs is enough.
            let mut namesakes = containers.iter().filter(|c| project.part_of(c) == Some(part));
            !namesakes.any(|container| container.state.holds())
                && project.parts.get(part).is_some_and(|part| part.is_wanted)
                && !has_completed(project, part, container)
        });
        missing.map(|container| exit_reason(container))
    }
}

/// How a container's last run ended. Some engines have a number, too, for what never ran.
fn exit_code(container: &ContainerInfo) -> Option<i64> {
    let has_run = container.state != ContainerState::Created;
    container.exit.as_ref().filter(|_| has_run).and_then(|exit| exit.code)
}

/// Containers of the project that its files know nothing of, by name.
pub(super) fn orphans(project: &Project, containers: &[&ContainerInfo]) -> Vec<String> {
    let orphans = containers.iter().filter(|container| project.is_orphan(container));
    orphans.map(|container| container.name.clone()).collect()
}
