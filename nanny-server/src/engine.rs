//! From configuration to backends: the one place that knows which engines there are.

use std::sync::Arc;

use clap::Args;
use nanny_lib::backend::{BackendError, ContainerBackend};

/// Which engines, and where they are.
#[derive(Debug, Clone, Default, Args)]
#[non_exhaustive]
pub struct EngineArgs {
    /// Where the Docker Engine is. [default: $DOCKER_HOST, or the usual socket]
    #[cfg(feature = "docker")]
    #[arg(long, env = "NANNY_DOCKER_HOST", value_name = "URL")]
    pub docker_host: Option<String>,
}

/// A backend for each engine that this build knows, in order of preference. None is asked for a
/// sign of life: an engine may come later.
///
/// # Errors
///
/// If what is configured cannot be an engine's address.
pub fn backends(args: &EngineArgs) -> Result<Vec<Arc<dyn ContainerBackend>>, BackendError> {
    let set_up: [SetUp; _] = [
        #[cfg(feature = "docker")]
        docker,
    ];
    set_up.into_iter().map(|set_up| set_up(args)).collect()
}

type SetUp = fn(&EngineArgs) -> Result<Arc<dyn ContainerBackend>, BackendError>;

#[cfg(feature = "docker")]
fn docker(args: &EngineArgs) -> Result<Arc<dyn ContainerBackend>, BackendError> {
    use nanny_backend_docker::{DockerBackend, DockerConfig};

    let variable = |name: &str| match &args.docker_host {
        Some(host) if name == "DOCKER_HOST" => Some(host.clone()),
        _ => std::env::var(name).ok(),
    };
    Ok(Arc::new(DockerBackend::new(DockerConfig::from_lookup(&variable)?)?))
}
