//! The engine's store of images.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt as _;
use nanny_lib::backend::{
    BackendError, BuildProgress, BuildSpec, ErrorKind, ImageInfo, Images, PullProgress, Result,
};
use serde::Deserialize;

use crate::backend::LOOK;
use crate::connection::Connection;
use crate::{build, error};

#[derive(Debug, Clone)]
pub(crate) struct DockerImages(pub(crate) Arc<Connection>);

/// A pull may take hours, but it moves all the time.
const STANDSTILL: Duration = Duration::from_secs(120);

#[async_trait]
impl Images for DockerImages {
    async fn inspect(&self, reference: &str) -> Result<Option<ImageInfo>> {
        let reference = checked("inspect image", reference)?;
        let path = format!("/images/{reference}/json");
        match self.0.get::<Inspected>("inspect image", reference, LOOK, path).await {
            Ok(image) => Ok(Some(image.to_info())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        progress: &(dyn for<'a> Fn(PullProgress) + Send + Sync),
    ) -> Result<()> {
        let reference = checked("pull", reference)?;
        let options = CreateImageOptions {
            from_image: Some(reference.to_owned()),
            // Without a tag, the engine would fetch all there are.
            tag: (!has_tag(reference)).then(|| "latest".to_owned()),
            platform: platform.unwrap_or_default().to_owned(),
            ..CreateImageOptions::default()
        };
        let client = self.0.ask("pull", reference, LOOK, |client| async { Ok(client) }).await?;
        let mut messages = client.create_image(Some(options), None, None);
        let mut layers = Layers::default();
        loop {
            let message = match tokio::time::timeout(STANDSTILL, messages.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => {
                    // All was said; the client fell over the last line's end.
                    if error::is_torn_stream(&error) && self.inspect(reference).await?.is_some() {
                        return Ok(());
                    }
                    return Err(error::from_client("pull", reference, error));
                }
                Ok(None) => return Ok(()),
                Err(_) => return Err(error::timed_out("pull", reference, STANDSTILL)),
            };
            if let Some(words) = message.error_detail.and_then(|detail| detail.message) {
                let error = bollard::errors::Error::DockerStreamError { error: words };
                return Err(error::from_client("pull", reference, error));
            }
            if let (Some(layer), Some(status)) = (message.id, message.status) {
                let detail = message.progress_detail.unwrap_or_default();
                layers.note(layer, &status, detail.current, detail.total);
                progress(layers.sum());
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

/// What the engine knows about an image, as far as we care.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inspected {
    id: String,
    os: String,
    architecture: String,
    variant: String,
    config: Option<Config>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    volumes: Option<BTreeMap<String, serde_json::Value>>,
}

impl Inspected {
    fn to_info(&self) -> ImageInfo {
        let mut info = ImageInfo::new(&self.id);
        let parts = [&self.os, &self.architecture, &self.variant];
        let known: Vec<_> = parts.into_iter().take_while(|part| !part.is_empty()).collect();
        let platform = known.iter().map(|part| part.as_str()).collect::<Vec<_>>().join("/");
        info.platform = Some(platform).filter(|_| known.len() >= 2);
        let volumes = self.config.as_ref().and_then(|config| config.volumes.as_ref());
        info.volumes = volumes.into_iter().flatten().map(|(path, _)| path.clone()).collect();
        info
    }
}

/// How far each layer is.
#[derive(Debug, Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    fn note(&mut self, layer: String, status: &str, current: Option<i64>, total: Option<i64>) {
        let bytes = |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let (arrived, expected) = self.0.entry(layer).or_default();
        match status {
            "Downloading" => {
                *expected = bytes(total).max(bytes(current)).max(*expected);
                *arrived = bytes(current).max(*arrived);
            }
            // What follows a download counts bytes of its own.
            "Download complete" | "Extracting" | "Pull complete" | "Already exists" => {
                *arrived = *expected;
            }
            _ => {}
        }
    }

    fn sum(&self) -> PullProgress {
        let all = self.0.values();
        let (arrived, expected) =
            all.fold((0_u64, 0_u64), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        PullProgress::new(arrived, expected)
    }
}

/// A tag or a digest, and not the port of a registry.
fn has_tag(reference: &str) -> bool {
    let name = reference.rsplit_once('/').map_or(reference, |(_, name)| name);
    name.contains([':', '@'])
}

/// A reference goes into a path: what cannot be one is not asked for.
fn checked<'a>(operation: &'static str, reference: &'a str) -> Result<&'a str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:/@+".contains(&byte);
    let is_plain = reference.bytes().all(is_plain) && !reference.contains("..");
    if is_plain && reference.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(reference);
    }
    Err(BackendError::new(ErrorKind::Invalid, operation, "not an image reference").on(reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_registries_are_no_tags() {
        assert!(has_tag("busybox:1"));
        assert!(has_tag("localhost:5000/a/b:1"));
        assert!(has_tag("b@sha256:00"));
        assert!(!has_tag("localhost:5000/a/b"));
        assert!(!has_tag("busybox"));
    }

    #[test]
    fn references_that_lead_elsewhere_are_refused() {
        for reference in ["", "../x", "a/../../b", "a?b", "a#b", "a b", "/a"] {
            assert!(checked("pull", reference).is_err(), "{reference:?} passed");
        }
        checked("pull", "ghcr.io/Org/name_1.x:tag-1@sha256:0a").unwrap();
    }

    #[test]
    fn progress_is_the_sum_over_layers_and_never_shrinks() {
        let mut layers = Layers::default();
        layers.note("a".to_owned(), "Downloading", Some(10), Some(100));
        layers.note("b".to_owned(), "Downloading", Some(5), Some(50));
        assert_eq!(layers.sum(), PullProgress::new(15, 150));
        layers.note("a".to_owned(), "Download complete", None, None);
        layers.note("a".to_owned(), "Extracting", Some(1), Some(100));
        assert_eq!(layers.sum(), PullProgress::new(105, 150));
    }
}
