//! Files that are put into a container, as tar archives.

use std::time::Duration;

use bollard::query_parameters::UploadToContainerOptions;
use bytes::Bytes;
use nanny_engine_formats::archive;
use nanny_lib::backend::{BackendError, ErrorKind, FileInside, Result};

use crate::connection::Connection;

const UPLOAD: Duration = Duration::from_secs(30);

/// Puts `files` into the container, one request each, as Compose does.
pub(crate) async fn put(connection: &Connection, id: &str, files: &[FileInside]) -> Result<()> {
    for file in files {
        let archive = archive(file).map_err(|error| {
            let message = format!("a file cannot be put at {:?}", file.path);
            BackendError::new(ErrorKind::Invalid, "put files", message).on(id).caused_by(error)
        })?;
        let options = UploadToContainerOptions {
            path: "/".to_owned(),
            copy_uidgid: file.owner.map(|_| "true".to_owned()),
            ..UploadToContainerOptions::default()
        };
        connection
            .ask("put files", id, UPLOAD, |client| async move {
                let body = bollard::body_full(Bytes::from(archive));
                client.upload_to_container(id, Some(options), body).await
            })
            .await?;
    }
    Ok(())
}
