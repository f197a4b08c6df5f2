//! How to build a service's image.

use std::collections::BTreeMap;

/// What `build` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Build {
    /// The directory that is sent to the builder, absolute; a URL if [`Build::is_remote`].
    pub context: String,
    /// The Dockerfile, beneath the context unless absolute.
    pub dockerfile: String,
    /// The Dockerfile's text, in place of a file.
    pub dockerfile_inline: Option<String>,
    /// Arguments; one without a value takes the builder's default.
    pub args: super::Environment,
    /// The stage to build.
    pub target: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Further names for the image.
    pub tags: Vec<String>,
    /// The platforms to build for.
    pub platforms: Vec<String>,
    /// The network of the build's commands.
    pub network: Option<String>,
    /// Whether to build every layer anew.
    pub no_cache: bool,
    /// Whether to fetch the base images anew.
    pub pull: bool,
    /// The size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Images whose layers may be reused.
    pub cache_from: Vec<String>,
    /// Extra host names with their addresses.
    pub extra_hosts: BTreeMap<String, Vec<String>>,
    /// Keys that the file uses and no builder of ours can honour: whoever has to build refuses,
    /// and names them.
    pub unsupported: Vec<String>,
}

impl Build {
    /// Whether the context is not a directory of this machine.
    pub fn is_remote(&self) -> bool {
        is_remote(&self.context)
    }
}

/// Whether a build context is a URL, after the prefixes that Docker's builders know.
pub(crate) fn is_remote(context: &str) -> bool {
    ["https://", "http://", "git://", "ssh://", "github.com/", "git@", "docker-image://"]
        .iter()
        .any(|prefix| context.starts_with(prefix))
}
