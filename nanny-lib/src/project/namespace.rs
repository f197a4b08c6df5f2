//! Namespaces that one part of a project shares with another.
//!
//! A file names the other part, an engine wants its container, and that is known only once it was
//! made. So what depends on it is filled in late, by the plan.

use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::lower::hex;
use super::{Part, labels, spec_hash};
use crate::backend::ContainerSpec;
use crate::name::ContainerId;

/// A namespace of another part that a part shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Join {
    /// Which namespace.
    pub namespace: Namespace,
    /// Whose.
    pub part: String,
}

impl Join {
    /// `namespace` of `part`.
    #[must_use]
    pub fn new(namespace: Namespace, part: impl Into<String>) -> Self {
        Self { namespace, part: part.into() }
    }
}

/// What containers can share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum Namespace {
    /// Network interfaces and ports.
    Network,
    /// Shared memory and the like.
    Ipc,
    /// Processes.
    Pid,
}

impl Namespace {
    /// What Compose calls it in a file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Network => "network_mode",
            Self::Ipc => "ipc",
            Self::Pid => "pid",
        }
    }
}

/// A label that holds the SHA-256 of a text in which each namespace `service:<part>` has become
/// `container:<id>`.
///
/// The text is a configuration, with whatever secrets that has: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LateHash {
    /// The label.
    pub label: String,
    /// The text: compact JSON.
    pub text: String,
}

impl LateHash {
    /// `label` holds the hash of `text`.
    #[must_use]
    pub fn new(label: impl Into<String>, text: impl Into<String>) -> Self {
        Self { label: label.into(), text: text.into() }
    }

    fn hash(&self, joins: &[(&Join, &ContainerId)]) -> String {
        let mut text = self.text.clone();
        for (join, id) in joins {
            // A quote within a value is escaped, so only the field itself reads like this.
            let field = |value: String| format!("\"{}\":\"{value}\"", join.namespace.key());
            let named = field(format!("service:{}", join.part));
            text = text.replacen(&named, &field(format!("container:{id}")), 1);
        }
        hex(&Sha256::digest(text))
    }
}

impl fmt::Debug for LateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateHash").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Part {
    /// What a container of this part is made from, once `container_of` tells the containers of those
    /// whose namespaces it shares; `None` as long as one of them is not known.
    pub(super) fn resolved<'a>(
        &self,
        container_of: impl Fn(&str) -> Option<&'a ContainerId>,
    ) -> Option<ContainerSpec> {
        let mut spec = self.joined(container_of)?;
        // After every hash: where it is placed is no change of its files.
        self.pass_gpus(&mut spec);
        Some(spec)
    }

    fn joined<'a>(
        &self,
        container_of: impl Fn(&str) -> Option<&'a ContainerId>,
    ) -> Option<ContainerSpec> {
        let mut spec = self.spec.clone();
        if self.joins.is_empty() {
            return Some(spec);
        }
        let known = self.joins.iter().map(|join| Some((join, container_of(&join.part)?)));
        let joins: Vec<_> = known.collect::<Option<_>>()?;
        for (join, id) in &joins {
            let shared = Some(format!("container:{id}"));
            match join.namespace {
                Namespace::Network => spec.network_mode = shared,
                Namespace::Ipc => spec.namespaces.ipc = shared,
                Namespace::Pid => spec.namespaces.pid = shared,
            }
        }
        if let Some(late) = &self.late_hash {
            spec.labels.insert(late.label.clone(), late.hash(&joins));
        }
        // A hash that was made without knowing the containers would be the same for all of them.
        if spec.labels.remove(labels::SPEC_HASH).is_some() {
            let hash = spec_hash(&spec);
            spec.labels.insert(labels::SPEC_HASH.to_owned(), hash);
        }
        Some(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Part {
        let mut part = Part::new(ContainerSpec::new("p-side-1", "image"));
        part.joins = vec![Join::new(Namespace::Network, "web")];
        let text =
            r#"{"labels":{"a":"\"network_mode\":\"service:web\""},"network_mode":"service:web"}"#;
        part.late_hash = Some(LateHash::new("hash", text));
        part.spec.labels.insert(labels::SPEC_HASH.to_owned(), "early".to_owned());
        part
    }

    #[test]
    fn what_is_shared_is_the_other_s_container() {
        let (one, other) = (ContainerId::new("1"), ContainerId::new("2"));
        let with_one = part().resolved(|name| (name == "web").then_some(&one)).unwrap();
        assert_eq!(with_one.network_mode.as_deref(), Some("container:1"));
        let with_other = part().resolved(|_| Some(&other)).unwrap();
        for label in ["hash", labels::SPEC_HASH] {
            assert_ne!(with_one.labels[label], with_other.labels[label], "{label}");
        }
        let text =
            r#"{"labels":{"a":"\"network_mode\":\"service:web\""},"network_mode":"container:1"}"#;
        assert_eq!(with_one.labels["hash"], hex(&Sha256::digest(text)));
    }

    #[test]
    fn without_the_other_there_is_nothing_to_make() {
        assert_eq!(part().resolved(|_| None), None);
    }

    #[test]
    fn the_text_of_a_hash_does_not_show() {
        let late = LateHash::new("hash", r#"{"environment":{"TOKEN":"hunter2"}}"#);
        assert!(!format!("{late:?}").contains("hunter2"));
    }
}
