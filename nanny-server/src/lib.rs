//! The reference server of Service Nanny: a REST API over a [`Nanny`](nanny_lib::Nanny), and the
//! command line `nanny`.
//!
//! To put the API into a program of your own, build a nanny and hand it to [`app`]; what comes
//! back is an axum router with everything in it, the guard against browsers included. [`serve`]
//! runs it on a port or a unix socket in a way that is safe to expose; `axum::serve` is not: it
//! waits for ever for headers that never come and for streams that never end.
//!
//! The binary adds configuration ([`config`]), a choice of engines ([`engine`]) and the log.

#![cfg_attr(not(feature = "rest"), allow(dead_code, reason = "only the server uses it"))]

pub mod check;
pub mod compose;
pub mod config;
pub mod engine;
#[cfg(feature = "rest")]
pub mod gpu;
pub mod telemetry;

#[cfg(feature = "rest")]
mod accept;
#[cfg(feature = "rest")]
mod app;
#[cfg(feature = "rest")]
mod body;
#[cfg(feature = "mcp")]
pub mod bridge;
#[cfg(all(feature = "rest", feature = "process"))]
pub mod demo;
#[cfg(feature = "rest")]
mod edge;
#[cfg(feature = "rest")]
mod error;
#[cfg(feature = "rest")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "rest")]
mod guard;
#[cfg(feature = "rest")]
mod inherited;
#[cfg(feature = "rest")]
mod listen;
#[cfg(feature = "mcp")]
pub mod mcp;
#[cfg(feature = "rest")]
mod notify;
#[cfg(feature = "rest")]
mod observe;
#[cfg(feature = "rest")]
mod own;
#[cfg(feature = "rest")]
mod routes;
#[cfg(feature = "rest")]
pub mod run;
#[cfg(feature = "rest")]
mod serving;
#[cfg(feature = "rest")]
mod stall;
#[cfg(feature = "rest")]
mod token;
#[cfg(feature = "rest")]
mod wire;

#[cfg(feature = "rest")]
pub use self::accept::{Limits, serve, serve_within};
#[cfg(feature = "rest")]
pub use self::app::app;
#[cfg(feature = "rest")]
pub use self::edge::{AllowedHost, AllowedOrigin, EdgeConfig, InvalidEdge};
#[cfg(feature = "rest")]
pub use self::inherited::Inherited;
#[cfg(feature = "rest")]
pub use self::listen::Listener;
#[cfg(feature = "rest")]
pub use self::token::{Token, UnusableToken};
