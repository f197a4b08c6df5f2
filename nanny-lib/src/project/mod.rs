//! Projects: the containers, networks and volumes of one service.
//!
//! A [`Project`] is what is wanted, free of any engine and any file format; [`plan`] compares it
//! with what an engine reports and says what to do next.

mod image;
mod lower;
mod namespace;
mod placed;
mod plan;
mod preview;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

pub use self::image::{ImageWanted, PullPolicy, fits};
pub use self::lower::from_compose;
pub(crate) use self::lower::spec_hash;
pub use self::namespace::{Join, LateHash, Namespace};
pub use self::placed::{Placed, PlacedGpu};
pub use self::plan::{
    Goal, Plan, Progress, exit_reason, giving_way, has_completed, has_drifted, plan,
};
pub use self::preview::preview;
pub use self::step::{Step, Subject};
use crate::backend::{
    BuildSpec, ContainerInfo, ContainerSpec, FileInside, Labels, NetworkSpec, RestartPolicy,
    VolumeSpec,
};

/// Labels that we put on what we start.
pub mod labels {
    use std::collections::BTreeMap;

    use crate::backend::{ContainerInfo, Labels};
    use crate::gpu::Placement;
    use crate::name::GpuId;

    /// The service a container belongs to.
    pub const SERVICE: &str = "dev.nanny.service";
    /// The directory that the service was read from: with the service's name, proof that a container
    /// is its own, whatever its project is called by now.
    pub const ORIGIN: &str = "dev.nanny.origin";
    /// On a plain command, which asks nobody for a device: it needs a GPU. So also a nanny that does
    /// not know the service sees that a GPU is taken.
    pub const GPU: &str = "dev.nanny.gpu";
    /// The hash of the spec a container was made from.
    pub const SPEC_HASH: &str = "dev.nanny.spec-hash";
    /// What the file asked the engine to do on an exit, where the nanny does it instead.
    pub const RESTART: &str = "dev.nanny.restart";
    /// The GPUs that its service was placed on when it was made, and what it is charged on each:
    /// `id=MiB,id=MiB`, sorted.
    pub const PLACEMENT: &str = "dev.nanny.gpu.placement";

    /// What [`PLACEMENT`] says of `placement`.
    #[must_use]
    pub fn placement(placement: &Placement) -> String {
        let pairs = placement.mib.iter().map(|(id, mib)| format!("{id}={mib}"));
        pairs.collect::<Vec<_>>().join(",")
    }

    /// Where `container` was placed when it was made; `None` if it was not, or nobody can tell.
    #[must_use]
    pub fn placement_of(container: &ContainerInfo) -> Option<Placement> {
        placement_in(&container.labels)
    }

    pub(crate) fn placement_in(labels: &Labels) -> Option<Placement> {
        let pair = |pair: &str| {
            let (id, mib) = pair.rsplit_once('=').filter(|(id, _)| !id.is_empty())?;
            Some((GpuId::new(id), mib.parse().ok()?))
        };
        let pairs = labels.get(PLACEMENT)?.split(',').map(pair);
        Some(Placement { mib: pairs.collect::<Option<BTreeMap<_, _>>>()? })
    }
}

/// What is wanted of an engine for one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Project {
    /// Its name, unique among projects of one engine.
    pub name: String,
    /// The labels by which its containers are told from all others, whoever made them.
    pub selector: Labels,
    /// The label that says which of the project's parts a container is.
    pub part_label: String,
    /// Labels that mark a container as none of the project's parts, such as one-off runs.
    pub excluded: Labels,
    /// Labels that hold a hash of what a container was made from, the most trusted first.
    pub hash_labels: Vec<HashLabel>,
    /// The label that takes the image's identifier at creation, if there is one.
    pub image_label: Option<String>,
    /// Its parts, by name. Boxed, because a map makes room for eleven of them at once.
    pub parts: BTreeMap<String, Box<Part>>,
    /// Parts that the files describe and that are switched off: their containers are no orphans.
    pub inactive: BTreeSet<String>,
    /// Networks to be there before a container is created.
    pub networks: Vec<NetworkWanted>,
    /// Volumes to be there before a container is created.
    pub volumes: Vec<VolumeWanted>,
}

impl Project {
    /// A project called `name` without parts, told from others by `dev.nanny.service`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            selector: Labels::from([(labels::SERVICE.to_owned(), name.clone())]),
            part_label: "dev.nanny.part".to_owned(),
            hash_labels: vec![HashLabel::new(labels::SPEC_HASH)],
            name,
            ..Self::default()
        }
    }

    /// A project of one container: the simplest there is.
    #[must_use]
    pub fn single(name: impl Into<String>, spec: ContainerSpec) -> Self {
        Self::new(name).with_part("main", spec)
    }

    /// Adds a part that depends on nothing, labelled so that it is found again.
    #[must_use]
    pub fn with_part(mut self, key: impl Into<String>, mut spec: ContainerSpec) -> Self {
        let key = key.into();
        spec.labels.extend(self.selector.clone());
        spec.labels.insert(self.part_label.clone(), key.clone());
        self.parts.insert(key, Box::new(Part::new(spec)));
        self
    }

    /// Whether `container` is one of this project's, whoever made it.
    #[must_use]
    pub fn owns(&self, container: &ContainerInfo) -> bool {
        let carries = |(key, value): (&String, &String)| container.labels.get(key) == Some(value);
        !self.selector.is_empty()
            && self.selector.iter().all(carries)
            && !self.excluded.iter().any(carries)
    }

    /// Which part `container` is, as its labels say.
    #[must_use]
    pub fn part_of<'a>(&self, container: &'a ContainerInfo) -> Option<&'a str> {
        container.labels.get(&self.part_label).map(String::as_str)
    }

    /// Whether `container` is the project's and of a part that its files know nothing of any more.
    ///
    /// It is stopped with the project, and never removed: somebody may want it back. Files that
    /// cannot be read describe no part at all, and make no orphans.
    #[must_use]
    pub fn is_orphan(&self, container: &ContainerInfo) -> bool {
        let known = |part: &str| self.parts.contains_key(part) || self.inactive.contains(part);
        !self.parts.is_empty() && !self.part_of(container).is_some_and(known)
    }
}

/// A label that holds a hash of what a container was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HashLabel {
    /// The label.
    pub label: String,
    /// Where several makers write it, each with hashes of its own: the label that tells the maker,
    /// and how it begins if we know that one's hashes. Nothing follows from the hash of another.
    pub maker: Option<(String, String)>,
}

impl HashLabel {
    /// A label that only one maker writes.
    #[must_use]
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), maker: None }
    }

    /// Whether the hash among `labels` is one that can be compared with ours.
    #[must_use]
    pub fn is_known_of(&self, labels: &Labels) -> bool {
        self.maker.as_ref().is_none_or(|(label, begins)| {
            labels.get(label).is_some_and(|maker| maker.starts_with(begins))
        })
    }
}

/// One part of a project: a container to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Part {
    /// The container; its labels include the project's.
    pub spec: ContainerSpec,
    /// What must be so before it starts.
    pub depends_on: Vec<Dependency>,
    /// What the file asks for on an exit. Where the engine is told nothing of it, as for services that
    /// need a GPU and for plain commands, the nanny does it.
    pub restart: RestartPolicy,
    /// Whether there is to be a container of it at all.
    pub is_wanted: bool,
    /// When its image is fetched.
    pub pull: PullPolicy,
    /// How its image is built if there is none.
    #[serde(skip)]
    pub build: Option<BuildSpec>,
    /// Files that are put into it before each start.
    #[serde(skip)]
    pub files: Vec<FileInside>,
    /// Namespaces of other parts that it shares.
    pub joins: Vec<Join>,
    /// A label with a hash that depends on the containers whose namespaces it shares.
    #[serde(skip)]
    pub late_hash: Option<LateHash>,
    /// The GPUs it was placed on; if there are none, it gets whichever its spec says.
    #[serde(skip)]
    pub gpus: Vec<PlacedGpu>,
}

impl Part {
    /// A part that depends on nothing and is not restarted.
    #[must_use]
    pub fn new(spec: ContainerSpec) -> Self {
        Self {
            restart: spec.restart.unwrap_or_default(),
            spec,
            depends_on: Vec::new(),
            is_wanted: true,
            pull: PullPolicy::Missing,
            build: None,
            files: Vec::new(),
            joins: Vec::new(),
            late_hash: None,
            gpus: Vec::new(),
        }
    }

    /// Whether it runs an image, rather than a plain command.
    #[must_use]
    pub fn needs_image(&self) -> bool {
        self.spec.image.is_some() || self.build.is_some()
    }

    /// Whether it comes after `other`: it depends on it, or shares a namespace with it.
    #[must_use]
    pub fn needs(&self, other: &str) -> bool {
        self.depends_on.iter().any(|dependency| dependency.part == other)
            || self.joins.iter().any(|join| join.part == other)
    }

    /// Whether it is of no use with another container of `other` than the one it was started with.
    fn follows(&self, other: &str) -> bool {
        self.depends_on.iter().any(|dependency| dependency.part == other && dependency.restart)
            || self.joins.iter().any(|join| join.part == other)
    }
}

/// What must be so before a part starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Dependency {
    /// The other part.
    pub part: String,
    /// In which state it must be.
    pub condition: Condition,
    /// Whether the project cannot do without it.
    pub required: bool,
    /// Whether this part is started again when the other one was made anew.
    pub restart: bool,
}

impl Dependency {
    /// `part` must be in `condition`.
    #[must_use]
    pub fn new(part: impl Into<String>, condition: Condition) -> Self {
        Self { part: part.into(), condition, required: true, restart: false }
    }
}

/// In which state a dependency must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum Condition {
    /// It was started.
    Started,
    /// Its health check passes.
    Healthy,
    /// It ran and exited with 0.
    Completed,
}

/// A network that a project needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct NetworkWanted {
    /// What to make; only the name counts if it is external.
    #[serde(skip)]
    pub spec: NetworkSpec,
    /// Somebody else makes it: it must be there, and is never removed.
    pub external: bool,
    /// Labels that tell a network of ours from a stranger of the same name.
    pub identity: Labels,
    /// Labels that tell a network that this project made from one that it only uses.
    pub maker: Labels,
    /// Labels that one made for us from these files carries: others are told of, and used.
    #[serde(skip)]
    pub expected: Labels,
}

impl NetworkWanted {
    /// A network to make, or, if `external`, one to find.
    #[must_use]
    pub fn new(spec: NetworkSpec, external: bool, identity: Labels) -> Self {
        Self { spec, external, identity, maker: Labels::new(), expected: Labels::new() }
    }
}

/// A named volume that a project needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VolumeWanted {
    /// What to make; only the name counts if it is external.
    #[serde(skip)]
    pub spec: VolumeSpec,
    /// Somebody else makes it: it must be there.
    pub external: bool,
    /// Labels that one made for us from these files carries: others are told of, and used.
    #[serde(skip)]
    pub expected: Labels,
}

impl VolumeWanted {
    /// A volume to make, or, if `external`, one to find.
    #[must_use]
    pub fn new(spec: VolumeSpec, external: bool) -> Self {
        Self { spec, external, expected: Labels::new() }
    }
}

/// The time a container may take to end if nobody says otherwise.
pub const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);
