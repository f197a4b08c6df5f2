//! Benchmarks of Service Nanny: `scripts/bench` for the report, `cargo bench -p nanny-benches` for all.
//!
//! `step` measures decisions, `files` the reading of manifests and Compose files. Quote ratios of
//! one run, with machine and commit; never a number from another day.

pub mod world;
