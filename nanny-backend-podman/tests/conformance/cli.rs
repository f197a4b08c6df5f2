//! Podman's own command line: other hands, and another pair of eyes.

use std::process::Stdio;
use std::time::Duration;

use nanny_backend_podman::PodmanConfig;
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);

/// What `podman` says, or why it says nothing.
pub(crate) async fn podman(config: &PodmanConfig, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("podman");
    command.args(["--url", &config.host]).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.map_err(|_| format!("podman {arguments:?} takes too long"))?;
    let output = output.map_err(|error| format!("podman: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("podman {arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Removes those whose name begins with `prefix`.
pub(crate) async fn remove_images_and_volumes(config: &PodmanConfig, prefix: &str) {
    let local = format!("localhost/{prefix}");
    let format = "{{.Repository}}:{{.Tag}}";
    let images = podman(config, &["images", "--format", format]).await.unwrap_or_default();
    for image in images.lines().filter(|image| image.starts_with(&local)) {
        drop(podman(config, &["rmi", "--force", image]).await);
    }
    let volumes = podman(config, &["volume", "ls", "--quiet"]).await.unwrap_or_default();
    for volume in volumes.lines().filter(|volume| volume.starts_with(prefix)) {
        drop(podman(config, &["volume", "rm", "--force", volume]).await);
    }
}
