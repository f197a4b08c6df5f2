//! The engine's store of images.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use nanny_engine_formats::JsonLines;
use nanny_lib::backend::{
    BackendError, BuildProgress, BuildSpec, ErrorKind, ImageInfo, Images, PullProgress, Result,
};
use serde::Deserialize;

use crate::backend::LOOK;
use crate::connection::Connection;
use crate::convert::ImageInspected;
use crate::wire::Payload;
use crate::{build, error};

#[derive(Debug, Clone)]
pub(crate) struct PodmanImages(pub(crate) Arc<Connection>);

/// Podman says little while it fetches a layer.
const STANDSTILL: Duration = Duration::from_secs(600);
/// No message of a pull is longer.
const MAX_LINE_BYTES: usize = 1 << 20;

#[async_trait]
impl Images for PodmanImages {
    async fn inspect(&self, reference: &str) -> Result<Option<ImageInfo>> {
        let found = find(&self.0, "inspect image", reference).await?;
        Ok(found.map(|(_, image)| image.to_info()))
    }

    async fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        progress: &(dyn for<'a> Fn(PullProgress) + Send + Sync),
    ) -> Result<()> {
        let full = qualified(checked("pull", reference)?);
        let path = format!("/images/pull?{}", query(&full, platform));
        let mut answer = self.0.upload("pull", reference, &path, Payload::None);
        let mut lines = JsonLines::new(MAX_LINE_BYTES);
        let mut told = PullProgress::default();
        loop {
            let chunk = match tokio::time::timeout(STANDSTILL, answer.next()).await {
                Ok(Some(chunk)) => chunk?,
                Ok(None) => return Ok(()),
                Err(_) => return Err(error::timed_out("pull", reference, STANDSTILL)),
            };
            // It says what it does, and no sizes: what it has said counts, so that it seems to move.
            told.current_bytes += chunk.len() as u64;
            progress(told);
            for message in lines.feed::<Message>(&chunk).into_iter().flatten() {
                if let Some(words) = message.error.filter(|words| !words.is_empty()) {
                    return Err(error::said("pull", reference, 500, &words));
                }
            }
        }
    }

    async fn build(
        &self,
        spec: &BuildSpec,
        progress: &(dyn for<'a> Fn(BuildProgress) + Send + Sync),
    ) -> Result<()> {
        for tag in &spec.tags {
            checked("build", tag)?;
        }
        build::build(&self.0, spec, progress).await
    }
}

/// What is asked for by a pull.
fn query(reference: &str, platform: Option<&str>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("reference", reference).append_pair("policy", "always");
    let parts = platform.into_iter().flat_map(|platform| platform.split('/'));
    for (name, part) in ["OS", "Arch", "Variant"].into_iter().zip(parts) {
        query.append_pair(name, part);
    }
    query.finish()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    error: Option<String>,
}

/// What the engine calls the image that `reference` means, and what it knows about it.
///
/// A short name means what was made here, and else, as for Docker, an image of Docker Hub. It is not
/// asked for as it is: Podman would take any image whose name ends so, whosever it is.
pub(crate) async fn find(
    connection: &Connection,
    operation: &'static str,
    reference: &str,
) -> Result<Option<(String, ImageInspected)>> {
    let reference = checked(operation, reference)?;
    for name in meanings(reference) {
        let path = format!("/images/{name}/json");
        match connection.get::<ImageInspected>(operation, reference, LOOK, &path).await {
            Ok(image) => return Ok(Some((name, image))),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The whole names that `reference` may stand for, the likeliest first.
fn meanings(reference: &str) -> Vec<String> {
    let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
    let full = qualified(reference);
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        || full == reference
    {
        return vec![reference.to_owned()];
    }
    vec![format!("localhost/{reference}"), full]
}

/// With its registry, which is Docker Hub unless it names one.
fn qualified(reference: &str) -> String {
    match reference.split_once('/') {
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => {
            reference.to_owned()
        }
        Some(_) => format!("docker.io/{reference}"),
        None => format!("docker.io/library/{reference}"),
    }
}

/// A reference goes into a path: what cannot be one is not asked for.
fn checked<'a>(operation: &'static str, reference: &'a str) -> Result<&'a str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:/@+".contains(&byte);
    let leads_elsewhere = reference.split('/').any(|part| part.is_empty() || part == "..");
    if reference.bytes().all(is_plain) && !leads_elsewhere {
        return Ok(reference);
    }
    Err(BackendError::new(ErrorKind::Invalid, operation, "not the name of an image").on(reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_docker_hubs() {
        assert_eq!(qualified("busybox:1"), "docker.io/library/busybox:1");
        assert_eq!(qualified("ollama/ollama"), "docker.io/ollama/ollama");
        for full in ["localhost/x:1", "ghcr.io/a/b", "127.0.0.1:5000/a", "docker.io/a/b@sha256:0"] {
            assert_eq!(qualified(full), full);
        }
    }

    #[test]
    fn a_short_name_is_ours_or_docker_hubs_and_nobody_elses() {
        assert_eq!(meanings("redis:7"), ["localhost/redis:7", "docker.io/library/redis:7"]);
        assert_eq!(meanings("me/redis"), ["localhost/me/redis", "docker.io/me/redis"]);
        // It might begin an identifier, too.
        assert_eq!(meanings("cafe"), ["localhost/cafe", "docker.io/library/cafe"]);
        let id = "0a".repeat(32);
        for whole in ["ghcr.io/me/redis:7", "localhost/x", &id, &format!("sha256:{id}")] {
            assert_eq!(meanings(whole), [whole]);
        }
    }

    #[test]
    fn references_that_lead_elsewhere_are_refused() {
        for reference in ["", "../x", "a/../../b", "a?b", "a#b", "a b", "/a"] {
            assert!(checked("pull", reference).is_err(), "{reference:?} passed");
        }
        checked("pull", "ghcr.io/Org/name_1.x:tag-1@sha256:0a").unwrap();
    }
}
