//! Runs AI services on the GPU you have.
//!
//! A person has one machine with a GPU and a folder of services: image generation, a language
//! model, speech. Two of them at once run out of video memory. A [`Nanny`] knows the services,
//! starts and stops them, lets one at a time have the GPU, watches their health, and adopts what
//! runs when it is itself restarted.
//!
//! ```
//! use std::sync::Arc;
//!
//! use nanny_lib::backend::{ContainerSpec, MemoryBackend};
//! use nanny_lib::manifest::{FixedSource, Manifest, Service};
//! use nanny_lib::project::Project;
//! use nanny_lib::{Error, Nanny, ServiceName, StartOptions, StopOptions};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! // Two services that need the GPU. Most programs read them from a folder: `DirectorySource`.
//! let services = ["painter", "writer"].map(|name| {
//!     let container = ContainerSpec::new(format!("{name}-1"), "example/image:1");
//!     let manifest = Manifest::new(ServiceName::new(name).expect("a valid name")).with_gpu(8);
//!     Service::new(manifest, Project::single(name, container), name)
//! });
//! let nanny = Nanny::builder()
//!     .backend(Arc::new(MemoryBackend::new())) // or `DockerBackend`, or your own
//!     .source(FixedSource::new(services))
//!     .start()
//!     .await?;
//!
//! nanny.start("painter", StartOptions::default()).await?;
//!
//! // One GPU service at a time ...
//! let refused = nanny.start("writer", StartOptions::default()).await;
//! assert!(matches!(refused, Err(Error::GpuConflict { .. })));
//!
//! // ... unless the caller insists.
//! let started = nanny.start("writer", StartOptions::forced()).await?;
//! assert_eq!(started.stopped[0].as_str(), "painter");
//! assert_eq!(nanny.snapshot().gpu_service_running().unwrap().as_str(), "writer");
//!
//! nanny.stop("writer", StopOptions::default()).await?;
//! # Ok::<(), Error>(()) }).unwrap();
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # The four traits
//!
//! | trait | answers | shipped |
//! |---|---|---|
//! | [`ManifestSource`](manifest::ManifestSource) | which services are there? | [`DirectorySource`](manifest::DirectorySource), [`FixedSource`](manifest::FixedSource) |
//! | [`ContainerBackend`](backend::ContainerBackend) | who runs containers? | [`MemoryBackend`](backend::MemoryBackend); others are crates of their own |
//! | [`HealthProbe`](probe::HealthProbe) | is a service able to work? | [`StandardProbe`](probe::StandardProbe) |
//! | [`GpuPolicy`](gpu::GpuPolicy) | who may have the GPU? | [`Exclusive`](gpu::Exclusive), [`Fit`](gpu::Fit), and [others](gpu) |
//!
//! Each is small, object safe, and states its contract in whole sentences. Everything else is
//! written once on top of them:
//!
//! - [`project`]: the containers, networks and volumes of a service, and the pure
//!   [`plan`](project::plan()) that says what to do next so that they are up, or down.
//! - [`lifecycle`]: the pure [`World::step`](lifecycle::World::step), which decides all of
//!   lifecycle and arbitration.
//! - [`Nanny`]: the handle. Behind it one task owns the world, carries out what it decides, and
//!   publishes a [`Snapshot`] that readers look at without asking anybody.
//!
//! # Features
//!
//! `http-probe` (default): health over HTTP. `https-probe`: over TLS too.

pub mod backend;
mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod gpu;
pub mod journal;
pub mod lifecycle;
pub mod manifest;
mod name;
mod nanny;
pub mod probe;
pub mod project;

pub use self::error::Error;
pub use self::name::{ContainerId, GpuId, InvalidName, ServiceName};
pub use self::nanny::{
    Builder, Change, ContainerLog, ContainerStats, ContainerView, Driving, EngineState, EngineView,
    GpuClaimView, GpuUserView, GpuView, HealthView, Heard, Nanny, QueueView, Recorded,
    Rediscovered, Result, ServiceView, Snapshot, StartOptions, StartPlan, Started, Status,
    StepObserver, StopOptions, Stopped, Tally, Verdict, Wait,
};
