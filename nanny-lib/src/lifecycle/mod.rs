//! Lifecycle and arbitration, decided purely.
//!
//! [`World`] holds everything the nanny knows. [`World::step`] takes one [`Input`] and the time,
//! changes the world, and returns the [`Effect`]s that the driver is to carry out. It reads no
//! clock, does no I/O, takes no lock, awaits nothing and logs nothing, so a million of its steps
//! can be tested in a minute.
//!
//! # What a service does
//!
//! A service has *work*, or it rests. Work is a goal and what has been done towards it; after
//! every outcome the [plan](crate::project::plan()) is made anew from what was observed.
//!
//! ```text
//!                    start (admitted)
//!        ┌──────────────────────────────────────────┐
//!        │                                          ▼
//!     resting ◀──── goal reached ────────────────  Up ──── stop, or evicted ───┐
//!      │  ▲                                         │                          │
//!      │  │                                         └── cannot be started ──┐  │
//!      │  │                                                                 ▼  ▼
//!      │  └──────── goal reached, nothing to follow ────────────────────── Down
//!      │                                                                    │  ▲
//!      └──────────── stop, evicted, restart ────────────────────────────────┼──┘
//!                                                                           │
//!     Up ◀────────── goal reached, and a start came meanwhile ──────────────┘
//! ```
//!
//! The happy path of a forced swap: `start b, force` finds that `a` holds the GPU. In that one
//! step `b` gets its claim, `a` gets the work `Down`, and `b` the work `Up`, which waits until
//! `a`'s claim ends. `a`'s containers are seen down, its claim ends, `b`'s containers are created
//! and started, are seen running, and the caller is answered.
//!
//! If `b` cannot be started, what was started of it is stopped, and in the step in which its claim
//! ends `a` gets its own back and the work `Up`: no third service can slip in between. The
//! caller is answered when `a` runs again.
//!
//! Where GPUs are measured, `b` waits not only for `a`'s claim to end but until the memory that it is to
//! have is seen to be free. A start that finds no room and may wait is the work `Up` without a claim, in
//! the queue of `queue.rs`, until the policy lets it in.
//!
//! What runs and exits later is restarted by the engine if the service needs no GPU, and by us, in
//! `restart.rs`, if it does. An engine that is out of reach changes nothing: work waits, claims
//! stay.

mod admission;
mod aftermath;
mod audit;
mod callers;
mod commands;
mod containers;
mod discovery;
mod down;
mod engines;
mod gpus;
mod health;
mod outcomes;
mod owners;
mod queue;
mod rest;
mod restart;
mod service;
mod tally;
#[cfg(test)]
mod tests;

mod up;
mod view;
mod world;

use std::time::Duration;

use jiff::Timestamp;

pub use self::world::{GpuSettings, Settings, World};
use crate::backend::{BackendError, BuildProgress, ContainerInfo, Event, ImageInfo, PullProgress};
use crate::error::Error;
use crate::gpu::Sweep;
use crate::manifest::Discovery;
use crate::name::{ContainerId, ServiceName};
use crate::nanny::{Change, Rediscovered, StartOptions, StartPlan, Started, StopOptions, Stopped};
use crate::probe::{Health, ProbeTarget};
use crate::project::Step;

/// The time of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Now {
    /// Since the nanny began: never goes back. All deadlines are of this clock.
    pub mono: Duration,
    /// For people, and to compare with an engine's clock.
    pub wall: Timestamp,
}

impl Now {
    /// A point in time.
    #[must_use]
    pub fn new(mono: Duration, wall: Timestamp) -> Self {
        Self { mono, wall }
    }
}

/// A caller's request; its answer bears the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// An engine call; its outcome bears the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A service that is let finish what it does; the news that it has bears the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrainId(pub u64);

/// An engine, by its place in the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineIndex(pub usize);

/// Something that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Input {
    /// A caller asks for something.
    Command(RequestId, Command),
    /// The sources were asked.
    Discovered(Discovery),
    /// A source says that there may be something new.
    SourceChanged,
    /// An engine says that something happened.
    Event(EngineIndex, Event),
    /// An engine listed its containers.
    Listed {
        /// Which.
        engine: EngineIndex,
        /// The number the list was asked for under.
        issued: u64,
        /// What it said.
        result: Result<Vec<ContainerInfo>, BackendError>,
    },
    /// An engine call ended.
    Done(CallId, Outcome),
    /// A pull or a build moved.
    Preparing(CallId, Preparing),
    /// A probe ended.
    Probed {
        /// Whom it asked.
        service: ServiceName,
        /// The number it was asked under.
        run: u64,
        /// What it found.
        health: Health,
        /// How long that took.
        latency: Duration,
    },
    /// The GPUs were looked at; an error if nobody said anything about any of them.
    Swept(Result<Sweep, String>),
    /// A service that is to make way has finished what it was doing.
    Drained(DrainId),
    /// Somebody uses a service: it is not idle.
    Used(ServiceName),
    /// Time passed.
    Tick,
}

/// What a caller asks for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Command {
    /// Ensure that a service runs.
    Start(String, StartOptions),
    /// The same, if nobody but these is stopped for it.
    StartInPlaceOf(String, Vec<ServiceName>, StartOptions),
    /// Ensure that it does not.
    Stop(String, StopOptions),
    /// Stop it and start it.
    Restart(String, StartOptions),
    /// Say what a start would do.
    Plan(String, StartOptions),
    /// Ask the sources now.
    Rediscover,
}

/// How far an image is that is fetched or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preparing {
    /// It is pulled.
    Pull(PullProgress),
    /// It is built.
    Build(BuildProgress),
}

/// How an engine call ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Outcome {
    /// The network or volume is there, with what is to be told about it; or the network is gone, or
    /// stays because others use it; or the files are in the container.
    Ensured(Option<String>),
    /// The image is there.
    Image(ImageInfo),
    /// This is how the container is now.
    Container(ContainerInfo),
    /// The container is gone.
    Gone(ContainerId),
    /// It failed. What it changed is unknown.
    Failed(BackendError),
}

/// Something to be done outside.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Effect {
    /// Call an engine.
    Call {
        /// The number of its outcome.
        id: CallId,
        /// Which engine.
        engine: EngineIndex,
        /// What to do there.
        step: Step,
    },
    /// Give a call up: its outcome is of no interest any more.
    Cancel(CallId),
    /// List an engine's containers.
    List {
        /// Which engine.
        engine: EngineIndex,
        /// The number of its answer.
        issued: u64,
    },
    /// Probe a service.
    Probe {
        /// Whom, where and how long.
        target: ProbeTarget,
        /// The number of its answer.
        run: u64,
    },
    /// Look at the GPUs.
    Sweep,
    /// Let a service finish what it does.
    Drain {
        /// Which.
        service: ServiceName,
        /// The number of the answer.
        id: DrainId,
        /// How long it may take.
        limit: Duration,
    },
    /// Ask the sources.
    Discover,
    /// Answer a caller.
    Reply(RequestId, Answer),
    /// Write down [`World::journal`], as it is by then.
    Journal,
    /// Tell whoever listens.
    Announce(Change),
}

/// The answer to a caller.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Answer {
    /// To a start or restart.
    Started(Result<Started, Error>),
    /// To a stop.
    Stopped(Result<Stopped, Error>),
    /// To a question for a plan.
    Plan(Result<StartPlan, Error>),
    /// To a rediscovery.
    Rediscovered(Rediscovered),
}
