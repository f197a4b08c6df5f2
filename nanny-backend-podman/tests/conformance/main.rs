//! The suite against a real engine: the Podman that its own programs would talk to.
//!
//! Needs the image `nanny-test/busybox:1`, which `scripts/engines` makes. Without an engine it
//! says so and passes, unless `CI=true` or `NANNY_TEST_PODMAN=1` ask for more.

mod cli;
mod dialect;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use nanny_backend_podman::{PodmanBackend, PodmanConfig};
use nanny_lib::backend::{ContainerBackend, ContainerSpec, Selector};
use nanny_testkit::conformance::{self, Harness, Program};

const IMAGE: &str = "nanny-test/busybox:1";

#[derive(Debug)]
struct Real {
    config: PodmanConfig,
    backend: Arc<dyn ContainerBackend>,
}

#[async_trait]
impl Harness for Real {
    fn backend(&self) -> Arc<dyn ContainerBackend> {
        Arc::clone(&self.backend)
    }

    fn other_hands(&self) -> Option<Arc<dyn ContainerBackend>> {
        let other = PodmanBackend::new(self.config.clone()).ok()?;
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
        cli::remove_images_and_volumes(&self.config, prefix).await;
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
    let config = PodmanConfig::from_env();
    let backend = PodmanBackend::new(config.clone()).expect("the address is one of an engine");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    if let Err(reason) = runtime.block_on(reachable(&backend)) {
        let set = |name: &str, value: &str| env::var(name).is_ok_and(|is| is == value);
        let must_run = set("CI", "true") || set("NANNY_TEST_PODMAN", "1");
        eprintln!("\n*** THE PODMAN CONFORMANCE SUITE DID NOT RUN: {reason} ***\n");
        return if must_run { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let dialect = dialect::trials(&config, &backend);
    let harness: Arc<dyn Harness> = Arc::new(Real { config, backend: Arc::new(backend) });
    let trials = conformance::trials(&harness).into_iter().chain(dialect).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
