//! Compose's config hash: which configuration a container was made from.
//!
//! `docker compose up` recreates a container whose label does not hold the hash of its present
//! configuration, so a container of ours must carry the very same one. The hash is the SHA-256 of
//! the configuration as Go's `encoding/json` writes it: fields in the order of Compose's structs,
//! maps sorted, empty fields left out. This is the dialect of Compose 2.40.3; for decisions of
//! one's own a hash of one's own is the better choice.

mod json;
mod service;

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::model::{Network, Service, Volume};
use json::Object;

/// The config hash of a service.
pub fn service(service: &Service) -> String {
    hex(&service_json(service))
}

/// The config hash of a network.
pub fn network(network: &Network) -> String {
    hex(&network_json(network))
}

/// The config hash of a volume.
pub fn volume(volume: &Volume) -> String {
    let driver = volume.driver.clone().or_else(|| Some("local".to_owned()));
    hex(&volume_json(&Volume { driver, ..volume.clone() }))
}

/// A service as Compose hashes it. Holds the values of its environment.
pub fn service_json(service: &Service) -> String {
    service::json(service)
}

/// A network as Compose hashes it.
pub fn network_json(network: &Network) -> String {
    let mut object = Object::default();
    object.text("name", Some(&network.name));
    object.text("driver", network.driver.as_ref());
    object.map("driver_opts", &network.driver_opts);
    object.raw("ipam", "{}");
    object.flag("external", network.external);
    object.flag("internal", network.internal);
    object.flag("attachable", network.attachable);
    object.map("labels", &network.labels);
    object.maybe_flag("enable_ipv4", network.enable_ipv4);
    object.maybe_flag("enable_ipv6", network.enable_ipv6);
    object.finish()
}

/// A volume as `docker compose config` shows it. The hash adds the default driver.
pub fn volume_json(volume: &Volume) -> String {
    let mut object = Object::default();
    object.text("name", Some(&volume.name));
    object.text("driver", volume.driver.as_ref());
    object.map("driver_opts", &volume.driver_opts);
    object.flag("external", volume.external);
    object.map("labels", &volume.labels);
    object.finish()
}

fn hex(json: &str) -> String {
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
    fn a_network_is_written_in_the_order_of_composes_struct() {
        let mut network = Network::new("ai_default");
        assert_eq!(network_json(&network), r#"{"name":"ai_default","ipam":{}}"#);
        network.driver = Some("bridge".to_owned());
        network.external = true;
        network.enable_ipv6 = Some(false);
        assert_eq!(
            network_json(&network),
            r#"{"name":"ai_default","driver":"bridge","ipam":{},"external":true,"enable_ipv6":false}"#
        );
    }

    #[test]
    fn a_volume_is_hashed_with_its_default_driver() {
        let plain = Volume::new("ai_models");
        let local = Volume { driver: Some("local".to_owned()), ..plain.clone() };
        assert_eq!(volume_json(&plain), r#"{"name":"ai_models"}"#);
        assert_eq!(volume(&plain), volume(&local));
        assert_eq!(volume(&plain), hex(r#"{"name":"ai_models","driver":"local"}"#));
    }

    #[test]
    fn the_hash_is_sha_256_in_lower_case() {
        assert_eq!(hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
