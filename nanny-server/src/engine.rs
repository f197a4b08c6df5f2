//! From configuration to backends: the one place that knows which engines there are.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use clap::builder::PossibleValuesParser;
use nanny_lib::backend::{BackendError, ContainerBackend};

/// Which engines, and where they are.
#[derive(Debug, Clone, Default, Args)]
#[non_exhaustive]
pub struct EngineArgs {
    /// Use only this backend, and prefer those named first; may be repeated. [default: all of this
    /// build's]
    #[arg(
        long = "backend",
        env = "NANNY_BACKEND",
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(KNOWN.iter().map(|(name, _)| *name))
    )]
    pub backends: Vec<String>,
    /// Where the Docker Engine is. [default: $DOCKER_HOST, or the usual socket]
    #[cfg(feature = "docker")]
    #[arg(long, env = "NANNY_DOCKER_HOST", value_name = "URL")]
    pub docker_host: Option<String>,
    /// Where Podman's API is. [default: $CONTAINER_HOST, or the usual socket]
    #[cfg(feature = "podman")]
    #[arg(long, env = "NANNY_PODMAN_HOST", value_name = "URL")]
    pub podman_host: Option<String>,
}

/// Sets a backend up. What it must keep, it keeps beneath the state directory.
type SetUp = fn(&EngineArgs, &Path) -> Result<Arc<dyn ContainerBackend>, BackendError>;

/// The backends of this build, by name, in the order in which they are preferred.
const KNOWN: &[(&str, SetUp)] = &[
    #[cfg(feature = "docker")]
    ("docker", docker),
    #[cfg(feature = "podman")]
    ("podman", podman),
    #[cfg(feature = "process")]
    ("process", process),
];

/// A backend for each engine that is to be used, in order of preference. None is asked for a sign
/// of life: an engine may come later.
///
/// # Errors
///
/// If what is configured cannot be an engine's address.
pub fn backends(
    args: &EngineArgs,
    state_dir: &Path,
) -> Result<Vec<Arc<dyn ContainerBackend>>, BackendError> {
    let mut wanted: Vec<&str> = Vec::new();
    for name in &args.backends {
        if !wanted.contains(&name.as_str()) {
            wanted.push(name);
        }
    }
    if wanted.is_empty() {
        wanted.extend(KNOWN.iter().map(|(name, _)| *name));
    }
    let known = |name: &str| KNOWN.iter().find(|(known, _)| *known == name);
    let set_up = wanted.into_iter().filter_map(known);
    set_up.map(|(_, set_up)| set_up(args, state_dir)).collect()
}

#[cfg(feature = "docker")]
fn docker(args: &EngineArgs, _: &Path) -> Result<Arc<dyn ContainerBackend>, BackendError> {
    use nanny_backend_docker::{DockerBackend, DockerConfig};

    let variable = |name: &str| match &args.docker_host {
        Some(host) if name == "DOCKER_HOST" => Some(host.clone()),
        _ => std::env::var(name).ok(),
    };
    Ok(Arc::new(DockerBackend::new(DockerConfig::from_lookup(&variable)?)?))
}

#[cfg(feature = "podman")]
fn podman(args: &EngineArgs, _: &Path) -> Result<Arc<dyn ContainerBackend>, BackendError> {
    use nanny_backend_podman::{PodmanBackend, PodmanConfig};

    let config = match &args.podman_host {
        Some(host) => PodmanConfig::new(host),
        None => PodmanConfig::from_env(),
    };
    Ok(Arc::new(PodmanBackend::new(config)?))
}

#[cfg(feature = "process")]
fn process(_: &EngineArgs, state_dir: &Path) -> Result<Arc<dyn ContainerBackend>, BackendError> {
    use nanny_backend_process::{ProcessBackend, ProcessConfig};

    Ok(Arc::new(ProcessBackend::new(ProcessConfig::new(state_dir.join("processes")))))
}
