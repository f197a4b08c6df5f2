//! What a container sees of the host's files, of volumes and of memory.

use serde::Serialize;

use super::{Labels, is_default};

/// Something mounted at a path inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The path inside.
    pub target: String,
    /// The container cannot write to it.
    pub read_only: bool,
    /// Options of its kind are given, if only their defaults. This changes nothing about the mount,
    /// but engines report the difference.
    #[serde(skip)]
    pub has_options: bool,
    /// Labels of a volume that is made with the container.
    #[serde(skip_serializing_if = "is_default")]
    pub volume_labels: Labels,
    /// What is mounted.
    pub kind: MountKind,
}

impl Mount {
    /// `kind`, writable, at `target`.
    #[must_use]
    pub fn new(target: impl Into<String>, kind: MountKind) -> Self {
        Self {
            target: target.into(),
            read_only: false,
            has_options: false,
            volume_labels: Labels::new(),
            kind,
        }
    }
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum MountKind {
    /// A path of the host.
    Bind {
        /// Absolute path on the engine's host.
        source: String,
        /// Make the directory if it is not there.
        create_source: bool,
        /// Mount propagation such as `rshared`.
        propagation: Option<String>,
        /// SELinux relabelling: `z` shared, `Z` private.
        selinux: Option<char>,
        /// How strictly both sides must agree; engines keep the word and do nothing about it.
        #[serde(skip)]
        consistency: Option<String>,
        /// What becomes of the mounts beneath the source.
        #[serde(skip_serializing_if = "is_default")]
        recursive: Recursion,
    },
    /// A named volume.
    Volume {
        /// Its name in the engine.
        name: String,
        /// Do not fill an empty volume with what the image has at the path.
        no_copy: bool,
        /// A directory within the volume instead of all of it.
        #[serde(skip_serializing_if = "is_default")]
        subpath: Option<String>,
    },
    /// A volume without a name, which dies with the container.
    Anonymous,
    /// Memory.
    Tmpfs {
        /// Its size in bytes, if limited.
        size: Option<u64>,
        /// The mode of its root directory, if not the engine's own choice.
        #[serde(skip_serializing_if = "is_default")]
        mode: Option<u32>,
    },
}

impl MountKind {
    /// The host's `source`, made if `create` and not there.
    #[must_use]
    pub fn bind(source: impl Into<String>, create: bool) -> Self {
        Self::Bind {
            source: source.into(),
            create_source: create,
            propagation: None,
            selinux: None,
            consistency: None,
            recursive: Recursion::Enabled,
        }
    }

    /// All of the volume called `name`.
    #[must_use]
    pub fn volume(name: impl Into<String>) -> Self {
        Self::Volume { name: name.into(), no_copy: false, subpath: None }
    }
}

/// What becomes of the mounts that lie beneath the source of a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[non_exhaustive]
pub enum Recursion {
    /// They are there too, read-only with the mount as far as the engine can.
    #[default]
    Enabled,
    /// They are not there.
    Disabled,
    /// They are there, and writable also if the mount is not.
    Writable,
    /// They are there and read-only, or the container does not start.
    ReadOnly,
}
