//! Building images.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Environment, Labels};

/// An image to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildSpec {
    /// What the image is called, and its further names.
    pub tags: Vec<String>,
    /// The file gives the image no name: nobody but the builder knows the one it has.
    pub is_unnamed: bool,
    /// The directory that the builder sees, absolute.
    pub context: PathBuf,
    /// The recipe: a path beneath the context, or an absolute one.
    pub dockerfile: PathBuf,
    /// The recipe's text, instead of a file.
    pub dockerfile_inline: Option<String>,
    /// Arguments of the recipe. Their values may be secrets: `Debug` does not show them.
    pub args: Environment,
    /// The stage to build; `None` is the last.
    pub target: Option<String>,
    /// Labels of the image.
    pub labels: Labels,
    /// The platform to build for; `None` is the engine's.
    pub platform: Option<String>,
    /// The network of the recipe's commands.
    pub network: Option<String>,
    /// Makes every layer anew.
    pub no_cache: bool,
    /// Fetches the base images anew.
    pub pull: bool,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Images whose layers may be used again.
    pub cache_from: Vec<String>,
    /// Further lines of the hosts file, `name:address`.
    pub extra_hosts: Vec<String>,
    /// What the file asks for and no builder of ours can do: whoever has to build refuses.
    pub unsupported: Vec<String>,
}

impl BuildSpec {
    /// The image `tag`, built from `context` by the recipe that is usual there.
    #[must_use]
    pub fn new(tag: impl Into<String>, context: impl Into<PathBuf>) -> Self {
        Self {
            tags: vec![tag.into()],
            is_unnamed: true,
            context: context.into(),
            dockerfile: PathBuf::from("Dockerfile"),
            dockerfile_inline: None,
            args: Environment(BTreeMap::new()),
            target: None,
            labels: Labels::new(),
            platform: None,
            network: None,
            no_cache: false,
            pull: false,
            shm_size: None,
            cache_from: Vec::new(),
            extra_hosts: Vec::new(),
            unsupported: Vec::new(),
        }
    }
}

/// How far a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BuildProgress {
    /// Bytes of the context that were sent.
    pub sent_bytes: u64,
    /// What the builder has said so far, counted: grows for as long as the build moves.
    pub messages: u64,
}

impl BuildProgress {
    /// `sent_bytes` went to the builder, which said `messages`.
    #[must_use]
    pub fn new(sent_bytes: u64, messages: u64) -> Self {
        Self { sent_bytes, messages }
    }
}
