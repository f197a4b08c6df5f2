//! Compose's config hash: which configuration a container was made from.
//!
//! `docker compose up` recreates a container whose label does not hold the hash of its present
//! configuration, so a container of ours must carry the very same one. The hash is the SHA-256 of
//! the configuration as Go's `encoding/json` writes it: fields in the order of Compose's structs,
//! maps sorted, empty fields left out. This is the dialect of Compose 2.40.3; for decisions of
//! one's own a hash of one's own is the better choice.

mod json;

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

pub(crate) use json::{Writer, go_duration, host_parts, string as json_string};

use crate::model::{Network, Service, Volume};

/// The config hash of a service.
pub fn service(service: &Service) -> String {
    service.config.hash()
}

/// The config hash of a network.
pub fn network(network: &Network) -> String {
    network.config.hash()
}

/// The config hash of a volume.
pub fn volume(volume: &Volume) -> String {
    volume.config.hash()
}

pub(crate) fn hex(json: &str) -> String {
    let digest = Sha256::digest(json.as_bytes());
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha_256_in_lower_case() {
        assert_eq!(hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
