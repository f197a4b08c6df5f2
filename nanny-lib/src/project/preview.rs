//! All steps of a plan, on the assumption that every one of them succeeds.

use super::{Goal, Plan, Progress, Project, Step, plan};
use crate::backend::{ContainerInfo, ContainerState, EngineHealth, Exit, ImageInfo};
use crate::name::ContainerId;

/// More rounds than any project needs: a round takes at least one part further.
const ROUNDS: usize = 1000;

/// The steps that bring a project from what is there to where all of it runs, in order.
///
/// What only the doing can tell is assumed: images are the ones the containers were made from,
/// health checks pass, and jobs exit with 0.
///
/// # Errors
///
/// A sentence for a person if it cannot get there.
pub fn preview(
    project: &Project,
    containers: &[&ContainerInfo],
    progress: &Progress,
) -> Result<Vec<Step>, String> {
    let mut assumed = Assumed {
        project,
        containers: containers.iter().map(|container| (*container).clone()).collect(),
        progress: progress.clone(),
    };
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        let containers: Vec<_> = assumed.containers.iter().collect();
        match plan(project, &containers, Goal::Up, &assumed.progress) {
            Plan::Done => break,
            Plan::Stuck { reason } => return Err(reason),
            // Something is under way already: what follows depends on how it ends.
            Plan::Next(steps) if steps.is_empty() => break,
            Plan::Next(steps) => {
                for step in steps {
                    assumed.take(&step);
                    all.push(step);
                }
            }
        }
    }
    Ok(all)
}

struct Assumed<'a> {
    project: &'a Project,
    containers: Vec<ContainerInfo>,
    progress: Progress,
}

impl Assumed<'_> {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Network(network) => {
                self.progress.networks.insert(network.spec.name.clone());
            }
            Step::Volume(volume) => {
                self.progress.volumes.insert(volume.spec.name.clone());
            }
            Step::Image(image) => {
                let reference = image.reference.clone();
                let id = self.image_in_use(&reference).unwrap_or_default();
                self.progress.images.insert(reference, ImageInfo::new(id));
            }
            Step::Create { spec, .. } => {
                let id = ContainerId::new(spec.name.as_str());
                let image = spec.image.clone().unwrap_or_default();
                let mut container = ContainerInfo::new(id, spec.name.clone(), image);
                container.labels = spec.labels.clone();
                self.containers.push(container);
            }
            Step::Rename { id, name } => {
                self.set(id, |container| container.name.clone_from(name));
            }
            Step::Fill { id, .. } => drop(self.progress.filled.insert(id.clone())),
            Step::Start { part, id, .. } => {
                let is_job = self.project.awaits_completion(part);
                self.progress.started.insert(id.clone());
                self.set(id, |container| {
                    container.health = Some(EngineHealth::Healthy);
                    if is_job {
                        container.state = ContainerState::Exited;
                        container.exit = Some(Exit::with_code(0));
                    } else {
                        container.state = ContainerState::Running;
                    }
                });
            }
            Step::Stop { id, .. } | Step::Kill { id } => {
                self.progress.started.remove(id);
                self.set(id, |container| container.state = ContainerState::Exited);
            }
            Step::Remove { id } => self.containers.retain(|container| container.id != *id),
            Step::RemoveNetwork(_) => {}
        }
    }

    fn set(&mut self, id: &ContainerId, change: impl FnOnce(&mut ContainerInfo)) {
        if let Some(container) = self.containers.iter_mut().find(|c| c.id == *id) {
            change(container);
        }
    }

    /// The identifier of the image that a container of a part with this reference was made from.
    fn image_in_use(&self, image: &str) -> Option<String> {
        let label = self.project.image_label.as_ref()?;
        let uses = |container: &&ContainerInfo| {
            let part = self.project.part_of(container);
            let part = part.and_then(|key| self.project.parts.get(key));
            part.is_some_and(|part| part.spec.image.as_deref() == Some(image))
        };
        self.containers.iter().find(uses)?.labels.get(label).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ContainerSpec;
    use crate::project::{Condition, Dependency};

    fn project() -> Project {
        let mut project = Project::new("p")
            .with_part("job", ContainerSpec::new("p-job-1", "job:1"))
            .with_part("web", ContainerSpec::new("p-web-1", "web:1"));
        project.parts.get_mut("web").unwrap().depends_on =
            vec![Dependency::new("job", Condition::Completed)];
        project
    }

    fn lines(steps: &[Step]) -> Vec<String> {
        steps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_steps_are_shown_in_order() {
        let steps = preview(&project(), &[], &Progress::default()).unwrap();
        assert_eq!(
            lines(&steps),
            [
                "image 'job:1'",
                "image 'web:1'",
                "create container 'p-job-1'",
                "create container 'p-web-1'",
                "start 'job'",
                "start 'web'",
            ]
        );
    }

    #[test]
    fn what_runs_needs_no_step() {
        let project = Project::single("p", ContainerSpec::new("p-1", "image"));
        let mut container = ContainerInfo::new(ContainerId::new("1"), "p-1", "image");
        container.labels = project.parts["main"].spec.labels.clone();
        container.state = ContainerState::Running;
        assert_eq!(preview(&project, &[&container], &Progress::default()), Ok(Vec::new()));

        let replace = Progress {
            replace: [container.id.clone()].into_iter().collect(),
            ..Progress::default()
        };
        let steps = preview(&project, &[&container], &replace).unwrap();
        assert_eq!(steps.len(), 6, "{:?}", lines(&steps));
    }
}
