//! The steps that plans are made of.

use std::fmt;
use std::time::Duration;

use super::{ImageWanted, NetworkWanted, VolumeWanted};
use crate::backend::{ContainerSpec, FileInside};
use crate::name::ContainerId;

/// The next thing to do. Each may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Find the network, or make it.
    Network(NetworkWanted),
    /// Find the volume, or make it.
    Volume(VolumeWanted),
    /// Find the image, pull it or build it.
    Image(Box<ImageWanted>),
    /// Make the container.
    Create {
        /// Which part it is.
        part: String,
        /// What to make.
        spec: Box<ContainerSpec>,
    },
    /// Give the container its name: the one it was made to replace is gone.
    Rename {
        /// The container.
        id: ContainerId,
        /// Its name from now on.
        name: String,
    },
    /// Put files into the container.
    Fill {
        /// Which part it is.
        part: String,
        /// The container.
        id: ContainerId,
        /// What to put there.
        files: Vec<FileInside>,
    },
    /// Start the container.
    Start {
        /// Which part it is.
        part: String,
        /// The container.
        id: ContainerId,
        /// How long after that to look whether it still runs.
        settle: Duration,
    },
    /// Stop the container.
    Stop {
        /// The container.
        id: ContainerId,
        /// How long it may take to end.
        grace: Duration,
    },
    /// Kill the container: it did not stop when asked.
    Kill {
        /// The container.
        id: ContainerId,
    },
    /// Remove the container.
    Remove {
        /// The container.
        id: ContainerId,
    },
    /// Remove the network, unless others are in it.
    RemoveNetwork(NetworkWanted),
}

/// What an operation is about: at most one call at a time is under way for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// A container that exists.
    Container(ContainerId),
    /// A part that has no container yet.
    Part(String),
    /// A network.
    Network(String),
    /// A volume.
    Volume(String),
    /// An image.
    Image(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "network '{}'", network.spec.name),
            Self::Volume(volume) => write!(f, "volume '{}'", volume.spec.name),
            Self::Image(image) => write!(f, "image '{}'", image.reference),
            Self::Create { spec, .. } => write!(f, "create container '{}'", spec.name),
            Self::Rename { id, name } => write!(f, "rename container {id:?} to '{name}'"),
            Self::Fill { part, files, .. } => {
                write!(f, "put files into '{part}':")?;
                files.iter().try_for_each(|file| write!(f, " {}", file.path))
            }
            Self::Start { part, .. } => write!(f, "start '{part}'"),
            Self::Stop { id, .. } => write!(f, "stop container {id:?}"),
            Self::Kill { id } => write!(f, "kill container {id:?}"),
            Self::Remove { id } => write!(f, "remove container {id:?}"),
            Self::RemoveNetwork(network) => write!(f, "remove network '{}'", network.spec.name),
        }
    }
}

impl Step {
    /// Whether it is a step on the way up.
    #[must_use]
    pub fn brings_up(&self) -> bool {
        match self {
            Self::Network(_)
            | Self::Volume(_)
            | Self::Image(_)
            | Self::Create { .. }
            | Self::Rename { .. }
            | Self::Fill { .. }
            | Self::Start { .. } => true,
            Self::Stop { .. }
            | Self::Kill { .. }
            | Self::Remove { .. }
            | Self::RemoveNetwork(_) => false,
        }
    }

    /// What the step is about.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Self::Network(network) | Self::RemoveNetwork(network) => {
                Subject::Network(network.spec.name.clone())
            }
            Self::Volume(volume) => Subject::Volume(volume.spec.name.clone()),
            Self::Image(image) => Subject::Image(image.reference.clone()),
            Self::Create { part, .. } => Subject::Part(part.clone()),
            Self::Rename { id, .. }
            | Self::Fill { id, .. }
            | Self::Start { id, .. }
            | Self::Stop { id, .. }
            | Self::Kill { id }
            | Self::Remove { id } => Subject::Container(id.clone()),
        }
    }
}
