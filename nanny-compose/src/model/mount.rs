//! What a container sees of the host's files and of volumes.

use std::collections::BTreeMap;

/// A mount of a service, from `volumes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where in the container, a clean path.
    pub target: String,
    /// Whether the container may only read.
    pub read_only: bool,
    /// SELinux relabelling (`z`, `Z`).
    pub selinux: Option<Selinux>,
    /// How mounts made beneath it travel.
    pub propagation: Option<Propagation>,
    /// Whether a new volume stays empty instead of receiving the image's files.
    pub no_copy: bool,
    /// Labels for an anonymous volume.
    pub volume_labels: BTreeMap<String, String>,
    /// Whether options of its kind are given, if only their defaults: engines report the difference.
    pub has_options: bool,
    /// `consistency`, which engines ignore, as written.
    pub consistency: Option<String>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// The path, absolute and clean.
        path: String,
        /// Whether a missing path is created as a directory, as the short syntax does.
        create_host_path: bool,
        /// What becomes of mounts beneath it: `enabled`, `disabled`, `writable`, `readonly`.
        recursive: Option<String>,
    },
    /// A volume of the project, by its key in the file.
    Volume {
        /// The key in [`Project::volumes`](super::Project::volumes).
        key: String,
        /// A path within the volume to mount in its place; needs API 1.45.
        subpath: Option<String>,
    },
    /// A volume of its own for each container.
    Anonymous,
    /// Memory.
    Tmpfs {
        /// The largest size in bytes; unlimited if absent.
        size: Option<u64>,
        /// The mode of the root directory.
        mode: Option<u32>,
    },
}

/// Whom SELinux lets at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selinux {
    /// Several containers (`z`).
    Shared,
    /// This container alone (`Z`).
    Private,
}

/// How mounts beneath a bind mount travel between host and container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Propagation {
    /// `private`
    Private,
    /// `rprivate`
    RecursivePrivate,
    /// `shared`
    Shared,
    /// `rshared`
    RecursiveShared,
    /// `slave`
    Slave,
    /// `rslave`
    RecursiveSlave,
}

impl Mount {
    /// A writable mount without options.
    pub fn new(source: MountSource, target: impl Into<String>) -> Self {
        Self {
            source,
            target: target.into(),
            read_only: false,
            selinux: None,
            propagation: None,
            no_copy: false,
            volume_labels: BTreeMap::new(),
            has_options: false,
            consistency: None,
        }
    }
}

impl Selinux {
    /// The letter in the file and in the engine's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "z",
            Self::Private => "Z",
        }
    }
}

impl Propagation {
    const ALL: [Self; 6] = [
        Self::Private,
        Self::RecursivePrivate,
        Self::Shared,
        Self::RecursiveShared,
        Self::Slave,
        Self::RecursiveSlave,
    ];

    /// The word in the file and in the engine's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::RecursivePrivate => "rprivate",
            Self::Shared => "shared",
            Self::RecursiveShared => "rshared",
            Self::Slave => "slave",
            Self::RecursiveSlave => "rslave",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|propagation| propagation.as_str() == word)
    }
}
