//! For anyone who writes a backend: proof that it keeps the contract.
//!
//! [`conformance`] is one suite for every backend, one test per sentence of the contract in
//! [`nanny_lib::backend`]. A backend's crate runs it from a test without the usual harness:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use nanny_testkit::conformance::{self, Harness};
//! # fn harness() -> Arc<dyn Harness> { std::process::abort() }
//! // tests/conformance.rs, with `harness = false` in Cargo.toml
//! fn main() {
//!     let arguments = libtest_mimic::Arguments::from_args();
//!     libtest_mimic::run(&arguments, conformance::trials(&harness())).exit();
//! }
//! ```
//!
//! [`proxy`] stands between a client and its engine, and loses, holds and repeats what a test wants
//! lost, held and repeated. [`dockerd`] is a Docker Engine that one test owns and may kill, and a
//! witness of what runs on it; [`podman`] is the same for Podman. The binary `soak` puts both to use for as long as one likes.
//!
//! [`gpus`] are GPUs that a test plays by hand.
//!
//! [`simulation`] plays a whole nanny against a world that misbehaves, on paused time; so does the
//! binary `simulate`.

pub mod conformance;
pub mod dockerd;
pub mod faulty;
pub mod gpus;
pub mod placing;
pub mod podman;
mod private;
mod process;
pub mod proxy;
pub mod simulation;
