//! Service Nanny on a Docker Engine, by its API.
//!
//! [`DockerBackend`] implements [`ContainerBackend`](nanny_lib::backend::ContainerBackend) for
//! engines from 20.10 (API 1.41) on. [`DockerConfig`] says where the engine is; by default it is
//! found as the `docker` command finds it: `DOCKER_HOST`, then the current Docker context, then
//! the local socket.
//!
//! ```no_run
//! use nanny_backend_docker::{DockerBackend, DockerConfig};
//! use nanny_lib::backend::{ContainerBackend, Selector};
//!
//! # async fn run() -> Result<(), nanny_lib::backend::BackendError> {
//! let docker = DockerBackend::new(DockerConfig::from_env()?)?; // Does not touch the engine.
//! for container in docker.list(&Selector::All).await? {
//!     println!("{}: {:?}", container.name, container.state);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//!
//! - Pulls are anonymous: credentials in `~/.docker/config.json` are not read.
//! - Builds see the whole context, as a tar archive, and no secrets, SSH agents or further contexts.
//!   BuildKit builds them, or the classic builder if `DOCKER_BUILDKIT=0` says so.
//! - No `ssh://` hosts. TLS needs the cargo feature `tls`, which brings rustls with ring; a
//!   binary that has a second rustls provider must install one as the default before.
//! - Seccomp profiles in files: `seccomp=unconfined` is all that `security_opt` may say about it.
//! - The engine lets nobody inspect what it is starting. While a start of this backend is under way, a
//!   list has that container as it was before.
//! - Before API 1.44 an engine takes one network per create, so the others are connected in
//!   further requests. A `create` that is dropped half-way can leave a container without its
//!   further networks, as it can for Compose.
//!
//! The client underneath hands request bodies, environment values included, to the `log` crate
//! at level `debug`: do not connect `log` to an output at that level.

mod backend;
mod build;
mod config;
mod connection;
mod convert;
mod error;
mod events;
mod files;
mod images;
mod listing;
mod logs;
mod networks;
mod volumes;

pub use self::backend::DockerBackend;
pub use self::config::{DockerConfig, TlsFiles};
