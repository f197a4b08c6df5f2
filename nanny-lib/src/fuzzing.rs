//! Doors for the crate `nanny-fuzz`, and no part of the API.

use std::path::Path;

use crate::manifest::{Manifest, Problem, parse_manifest};

/// Reads the text of a `service.yaml`: the manifest with its hints, or what is wrong.
///
/// # Errors
///
/// Everything that is wrong.
pub fn manifest(text: &str) -> Result<(Manifest, Vec<Problem>), Vec<Problem>> {
    parse_manifest(text, Path::new("fuzzed"), Path::new("fuzzed/service.yaml"))
}
