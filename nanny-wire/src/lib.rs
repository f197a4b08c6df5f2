//! What the front doors of Service Nanny answer with: one set of types for the REST API and for
//! MCP, distinct from the core's own, so that either can change alone. Shapes are additive.
//!
//! Everything here is built from what a [`Nanny`](nanny_lib::Nanny) shows, and is only ever written.
//! With the feature `schema` the types tell their JSON Schema, too.

pub mod answer;
pub mod gpu;
pub mod logs;
pub mod metrics;
pub mod service;

mod transcript;
mod uptime;
