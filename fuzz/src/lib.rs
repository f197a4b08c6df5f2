//! Fuzz targets: plain functions that take any bytes at all and panic if a promise is broken.
//!
//! `cargo test -p nanny-fuzz` replays `corpus/`; `scripts/fuzz` looks for more with libFuzzer.

#![expect(clippy::missing_panics_doc, reason = "to panic is what they are for")]

mod edge;
mod files;
mod log;

pub use self::edge::{guard, request};
pub use self::files::{compose, manifest, project, variables, yaml};
pub use self::log::log;
