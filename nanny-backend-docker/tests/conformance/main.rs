//! The suite against a real engine: the one that the `docker` command would talk to.
//!
//! Needs the image `nanny-test/busybox:1`, which `scripts/engines` makes. Without an engine it
//! says so and passes, unless `CI=true` or `NANNY_TEST_DOCKER=1` ask for more.

mod beyond;
mod builds;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use bollard::Docker;
use nanny_backend_docker::{DockerBackend, DockerConfig};
use nanny_lib::backend::{ContainerBackend, ContainerSpec, Selector};
use nanny_testkit::conformance::{self, Harness, Program};

const IMAGE: &str = "nanny-test/busybox:1";

#[derive(Debug)]
struct Real {
    config: DockerConfig,
    backend: Arc<dyn ContainerBackend>,
}

#[async_trait]
impl Harness for Real {
    fn backend(&self) -> Arc<dyn ContainerBackend> {
        Arc::clone(&self.backend)
    }

    fn other_hands(&self) -> Option<Arc<dyn ContainerBackend>> {
        let other = DockerBackend::new(self.config.clone()).ok()?;
        Some(Arc::new(other))
    }

    fn container(&self, name: &str, program: Program) -> Option<ContainerSpec> {
        Some(conformance::in_a_shell(name, IMAGE, program))
    }

    fn missing_image(&self) -> &str {
        "127.0.0.1:1/nanny/missing:1"
    }

    async fn cleanup(&self, prefix: &str) {
        // The trait removes no images, and no volumes: data is nobody's to throw away but its owner's.
        let Ok(docker) = Docker::connect_with_host(&self.config.host) else {
            return;
        };
        let options = None::<bollard::query_parameters::ListImagesOptions>;
        let images = docker.list_images(options).await.unwrap_or_default();
        for tag in images.iter().flat_map(|image| &image.repo_tags) {
            if tag.starts_with(prefix) {
                let options = None::<bollard::query_parameters::RemoveImageOptions>;
                drop(docker.remove_image(tag, options, None).await);
            }
        }
        let options = None::<bollard::query_parameters::ListVolumesOptions>;
        let volumes = docker.list_volumes(options).await.unwrap_or_default();
        for volume in volumes.volumes.unwrap_or_default() {
            if volume.name.starts_with(prefix) {
                let options = None::<bollard::query_parameters::RemoveVolumeOptions>;
                drop(docker.remove_volume(&volume.name, options).await);
            }
        }
    }
}

/// Whether the engine answers and has the image, or why not.
async fn reachable(backend: &dyn ContainerBackend) -> Result<(), String> {
    backend.list(&Selector::All).await.map_err(|error| error.to_string())?;
    let images = backend.images().ok_or("no images")?;
    match images.inspect(IMAGE).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("the engine has no image {IMAGE}")),
        Err(error) => Err(error.to_string()),
    }
}

#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let config = DockerConfig::from_env().expect("the environment names an engine");
    let backend = DockerBackend::new(config.clone()).expect("the address is one of an engine");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    if let Err(reason) = runtime.block_on(reachable(&backend)) {
        let set = |name: &str, value: &str| env::var(name).is_ok_and(|is| is == value);
        let must_run = set("CI", "true") || set("NANNY_TEST_DOCKER", "1");
        eprintln!("\n*** THE DOCKER CONFORMANCE SUITE DID NOT RUN: {reason} ***\n");
        return if must_run { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let beyond = beyond::trials(&config, &backend).into_iter().chain(builds::trials(&config));
    let harness: Arc<dyn Harness> = Arc::new(Real { config, backend: Arc::new(backend) });
    let trials = conformance::trials(&harness).into_iter().chain(beyond).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
