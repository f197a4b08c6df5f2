//! What is left of a create that was cut off: Podman has files of a container that it does not know.
//!
//! Its name is taken for ever, and neither an inspect nor a plain list says by whom.

use std::time::Duration;

use nanny_lib::ContainerId;
use nanny_lib::backend::{ErrorKind, Result};
use podman_api::opts::ContainerDeleteOpts;
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::backend::{LOOK, SOON};
use crate::connection::Connection;

/// So long somebody's create may take between the files and the container; longer, and nobody is
/// at work on it any more.
const AT_WORK: Duration = Duration::from_secs(10);
const REMOVE: Duration = Duration::from_secs(10);

/// Frees `name`, if nothing but such a remainder has it. Says whether it did, or others have.
pub(crate) async fn clear(connection: &Connection, name: &str) -> bool {
    let cleared = try_clear(connection, name).await;
    cleared.unwrap_or_else(|error| {
        tracing::warn!(container = name, %error, "what has this name cannot be told or removed");
        false
    })
}

async fn try_clear(connection: &Connection, name: &str) -> Result<bool> {
    let Some(id) = find(connection, name).await? else { return Ok(false) };
    let since = Instant::now();
    while since.elapsed() < AT_WORK {
        sleep(SOON).await;
        match find(connection, name).await? {
            Some(same) if same == id => {}
            // It is a container now, or was taken away.
            _ => return Ok(true),
        }
    }
    tracing::warn!(container = name, %id, "removing what is left of a create that was cut off");
    // What is mounted is in use by somebody, of whom this Podman does not know.
    let options = ContainerDeleteOpts::builder().force(false).volumes(false).timeout(0).build();
    let removed = connection
        .ask("create", name, REMOVE, |podman| async move {
            podman.containers().get(id.as_str()).delete(&options).await
        })
        .await;
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

/// The remainder that has this name. Images under work, Buildah's, are none.
async fn find(connection: &Connection, name: &str) -> Result<Option<ContainerId>> {
    let path = "/containers/json?all=true&external=true";
    let all: Vec<Listed> = connection.get("create", name, LOOK, path).await?;
    let is_it = |it: &Listed| {
        it.state == "storage"
            && it.command.as_deref() == Some(&["storage".to_owned()])
            && it.names.iter().flatten().any(|known| known == name)
    };
    Ok(all.into_iter().find(is_it).map(|it| ContainerId::new(it.id)))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    command: Option<Vec<String>>,
    #[serde(default)]
    names: Option<Vec<String>>,
}
