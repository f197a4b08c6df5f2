//! The canonical configuration, as text.

use std::fmt;

use crate::hash;

/// The configuration of a service, network or volume as the JSON that Compose hashes.
///
/// Holds the values of its environment; `Debug` shows the hash only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Config {
    json: String,
    /// What is hashed, where that is more than what is shown.
    hashed: Option<String>,
}

impl Config {
    pub(crate) fn new(json: String) -> Self {
        Self { json, hashed: None }
    }

    /// The same, with this hashed in its place: a container's label counts the `label_file`s, which
    /// the configuration that Compose prints is without.
    pub(crate) fn hashed_as(self, json: String) -> Self {
        Self { hashed: Some(json), ..self }
    }

    pub(crate) fn of_image(image: &str) -> Self {
        let image = hash::json_string(image);
        Self::new(format!(r#"{{"command":null,"entrypoint":null,"image":{image}}}"#))
    }

    pub(crate) fn of_network(name: &str) -> Self {
        Self::new(format!(r#"{{"name":{},"ipam":{{}}}}"#, hash::json_string(name)))
    }

    pub(crate) fn of_volume(name: &str) -> Self {
        Self::new(format!(r#"{{"name":{},"driver":"local"}}"#, hash::json_string(name)))
    }

    /// The JSON, compact, with fields in the order of Compose's structs.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// What Compose hashes: the JSON, and what counts only in the hash.
    pub fn hashed_json(&self) -> &str {
        self.hashed.as_ref().unwrap_or(&self.json)
    }

    /// Compose's config hash: lower-case hexadecimal SHA-256.
    pub fn hash(&self) -> String {
        hash::hex(self.hashed_json())
    }

    /// The hash in another version's dialect, `None` if we do not know how that version hashes.
    pub fn hash_for(&self, version: &str) -> Option<String> {
        let mut numbers = version.trim_start_matches('v').split('.');
        match (numbers.next(), numbers.next()) {
            (Some("2"), Some("40")) => Some(self.hash()),
            // What Compose 5 leaves out, by its source; no such Compose was there to try it.
            (Some("5"), Some(_)) => {
                let json = self.hashed_json().replace(r#","create_host_path":true"#, "");
                Some(hash::hex(&json.replace(r#""create_host_path":true"#, "")))
            }
            _ => None,
        }
    }

    /// The same with another value of one of a service's namespaces: `network_mode`, `ipc`, `pid`.
    ///
    /// Compose hashes a service that shares a namespace with another one (`service:web`) only once
    /// it knows the other one's container (`container:ID`).
    #[must_use]
    pub fn with_namespace(&self, key: &str, from: &str, to: &str) -> Self {
        let field = |value: &str| format!(r#""{key}":{}"#, hash::json_string(value));
        // A quote within a value is escaped, so nothing but the field itself reads like it.
        let replace = |json: &String| json.replacen(&field(from), &field(to), 1);
        Self { json: replace(&self.json), hashed: self.hashed.as_ref().map(replace) }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({})", self.hash())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_replaced_and_nothing_that_reads_like_it() {
        let config =
            Config::new(r#"{"labels":{"a":"\"ipc\":\"service:b\""},"ipc":"service:b"}"#.to_owned());
        let replaced = config.with_namespace("ipc", "service:b", "container:1");
        assert!(replaced.json().ends_with(r#""ipc":"container:1"}"#), "{}", replaced.json());
        assert!(replaced.json().contains("service:b"));
        assert_ne!(config.hash(), replaced.hash());
    }

    #[test]
    fn each_version_has_its_dialect() {
        let bind = |bind: &str| {
            Config::new(format!(r#"{{"volumes":[{{"type":"bind","bind":{{{bind}}}}}]}}"#))
        };
        let created = bind(r#""create_host_path":true"#);
        assert_eq!(created.hash_for("2.40.3"), Some(created.hash()));
        assert_eq!(created.hash_for("5.0.1"), Some(bind("").hash()));
        let both = bind(r#""selinux":"z","create_host_path":true"#);
        assert_eq!(both.hash_for("v5.1.0"), Some(bind(r#""selinux":"z""#).hash()));
        assert_eq!(created.hash_for("2.20.0"), None);
        assert_eq!(created.hash_for(""), None);
    }

    #[test]
    fn debug_shows_the_hash_only() {
        let config = Config::new(r#"{"environment":{"TOKEN":"hunter2"}}"#.to_owned());
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
