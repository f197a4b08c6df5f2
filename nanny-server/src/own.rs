//! Our own container, where we run in one: a service that shares its project must be left alone,
//! or a request could stop the nanny that serves it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use nanny_compose::labels;
use nanny_lib::ContainerId;
use nanny_lib::backend::ContainerBackend;

/// The Compose project that our own container is part of, if an engine knows that container.
pub(crate) async fn project(backends: &[Arc<dyn ContainerBackend>]) -> Option<String> {
    let id = container_in(&fs::read_to_string("/proc/self/mountinfo").ok()?)?;
    for backend in backends {
        match tokio::time::timeout(DEADLINE, backend.inspect(&id)).await {
            Ok(Ok(info)) => return info.labels.get(labels::PROJECT).cloned(),
            Ok(Err(error)) => tracing::debug!(%error, "this engine does not run us"),
            Err(_) => tracing::debug!("this engine does not say whether it runs us"),
        }
    }
    tracing::warn!(container = %id, "no engine knows the container we run in");
    None
}

/// Engines mount a container's host name from a directory named after the container.
fn container_in(mounts: &str) -> Option<ContainerId> {
    mounts.lines().find_map(|mount| {
        let mut columns = mount.split(' ').skip(3);
        let (source, target) = (columns.next()?, columns.next()?);
        let id = source.split('/').find(|part| is_id(part))?;
        (target == "/etc/hostname").then(|| ContainerId::new(id))
    })
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

const DEADLINE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_is_read_from_its_mounts() {
        let id = "3542eefd6ac2595790a562a068399872d68fa6bb3be574d7c311bd9c615a33f8";
        // As Docker 20.10 and Podman 4.3 mount it.
        for directory in [
            format!("/var/lib/docker/containers/{id}"),
            format!("/containers/storage/overlay-containers/{id}/userdata"),
        ] {
            let mounts = format!(
                "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                 90 72 254:0 {directory}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
            );
            assert_eq!(container_in(&mounts), Some(ContainerId::new(id)));
        }
    }

    #[test]
    fn outside_a_container_there_is_none() {
        assert_eq!(container_in("22 27 0:21 / /proc rw,relatime - proc proc rw\n"), None);
        assert_eq!(container_in("90 72 254:0 /short/hostname /etc/hostname rw\n\n"), None);
    }
}
