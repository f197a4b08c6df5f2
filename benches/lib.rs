//! Benchmarks of Service Nanny: `cargo bench -p nanny-benches`.
//!
//! `step` measures decisions, `files` the reading of manifests and Compose files. Quote ratios of
//! one run, with machine and commit; never a number from another day.
