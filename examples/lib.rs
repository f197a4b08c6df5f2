//! Runnable examples of Service Nanny; see the files beside this one.
//!
//! ```text
//! cargo run -p nanny-examples --example embed             a nanny inside a program
//! cargo run -p nanny-examples --example embed_server      the API inside your own axum app
//! cargo run -p nanny-examples --example processes         services that are plain processes
//! cargo run -p nanny-examples --example custom_policy     your own GPU policy
//! cargo run -p nanny-examples --example custom_probe      your own health probe
//! cargo run -p nanny-examples --example custom_backend    your own engine: [`toy_backend`]
//! ```
//!
//! `gpu-policy/` is a crate of its own, as a program of yours would be.
//!
//! They need no engine: all run on the engine in memory, or on their own. `services/` holds service
//! directories for a real one, and `readme_session.sh` plays the API against a running server.

pub mod toy_backend;
