//! A project, created by us and not started.

use std::path::Path;

use nanny_backend_docker::{DockerBackend, DockerConfig};

use nanny_lib::backend::{ContainerBackend, Selector};
use nanny_lib::manifest::{DirectorySource, ManifestSource, Severity};
use nanny_lib::project::{Goal, Plan, Progress, Project, Step, plan};

use crate::theirs;

/// Creates what the service directory beneath `services` describes, as far as it can be before
/// anything is started; at `host`, if that is not the engine that the `docker` command talks to.
pub(crate) fn create(services: &Path, host: Option<&str>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let project = load(services).await?;
        let config = match host {
            Some(host) => DockerConfig::new(host),
            None => DockerConfig::from_env().map_err(|error| error.to_string())?,
        };
        let engine = DockerBackend::new(config).map_err(|error| error.to_string())?;
        up(&engine, &project).await.map_err(|error| {
            let mut causes = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                causes.push_str(&format!(": {inner}"));
                cause = inner.source();
            }
            causes
        })
    })
}

async fn load(services: &Path) -> Result<Project, String> {
    let variables = theirs::environment();
    let home = variables[0].1.clone();
    let source = DirectorySource::new(services).environment(variables).home(home);
    let found = source.discover().await;
    let faults: Vec<_> =
        found.problems.iter().filter(|found| found.severity == Severity::Error).collect();
    if !faults.is_empty() {
        return Err(faults.iter().map(|fault| format!("{fault}\n")).collect());
    }
    let mut services = found.services.into_iter();
    let service = services.next().ok_or("there is no service")?;
    Ok((*service.project).clone())
}

/// Takes the steps of a plan that make something, until only others are left.
async fn up(engine: &DockerBackend, project: &Project) -> nanny_lib::backend::Result<()> {
    let mut progress = Progress::default();
    let (networks, volumes, images) = (
        engine.networks().expect("it has them"),
        engine.volumes().expect("it has them"),
        engine.images().expect("it has them"),
    );
    loop {
        let there = engine.list(&Selector::Labels(project.selector.clone())).await?;
        let there: Vec<_> = there.iter().collect();
        let Plan::Next(steps) = plan(project, &there, Goal::Up, &progress) else {
            return Ok(());
        };
        let mut moved = false;
        for step in steps {
            match step {
                Step::Network(network) => {
                    let name = network.spec.name.clone();
                    if !network.external && networks.find(&name).await?.is_empty() {
                        networks.create(&network.spec).await?;
                    }
                    progress.networks.insert(name);
                }
                Step::Volume(volume) => {
                    let name = volume.spec.name.clone();
                    if !volume.external && volumes.find(&name).await?.is_none() {
                        volumes.create(&volume.spec).await?;
                    }
                    progress.volumes.insert(name);
                }
                Step::Image(image) => {
                    let found = images.inspect(&image.reference).await?;
                    progress.images.insert(image.reference, found.expect("the image is there"));
                }
                Step::Create { spec, .. } => {
                    engine.create(&spec).await?;
                }
                _ => continue,
            }
            moved = true;
        }
        if !moved {
            return Ok(());
        }
    }
}
