//! Service Nanny on plain processes: no container engine needed.
//!
//! [`ProcessBackend`] implements [`ContainerBackend`](nanny_lib::backend::ContainerBackend): a
//! container without an image is a command, which runs as a child of nobody and outlives the nanny.

mod backend;
mod config;
mod error;
mod events;
mod home;
mod kernel;
mod lines;
mod logfiles;
mod logs;
mod orphan;
mod record;
pub mod shim;
mod signal;
mod spec;
mod store;

pub use self::backend::ProcessBackend;
pub use self::config::ProcessConfig;
