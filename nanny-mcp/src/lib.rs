//! The MCP server of Service Nanny: an assistant finds services, starts and stops them, and reads
//! their state and logs, over a [`Nanny`](nanny_lib::Nanny) that lives in the same process.
//!
//! [`service`] gives what to mount at `/mcp` (streamable HTTP). It speaks the revisions of the
//! protocol from 2024-11-05 to 2026-07-28, each client's own, on one endpoint. It brings no guard:
//! whoever mounts it checks `Host`, `Origin` and a token before, as `nanny_server::app` does.
//! Clients that only know standard input and output reach it by the `bridge` (a feature), which is the
//! subcommand `nanny mcp`.
//!
//! ```
//! use nanny_mcp::McpConfig;
//!
//! fn mounted(nanny: nanny_lib::Nanny) -> axum::Router {
//!     axum::Router::new().nest_service("/mcp", nanny_mcp::service(nanny, McpConfig::default()))
//! }
//! ```

#[cfg(feature = "bridge")]
pub mod bridge;

#[cfg(feature = "server")]
mod answer;
#[cfg(feature = "server")]
mod completion;
#[cfg(feature = "server")]
mod config;
#[cfg(feature = "server")]
mod confirm;
#[cfg(feature = "server")]
mod error;
#[cfg(feature = "server")]
mod http;
#[cfg(feature = "server")]
mod prompts;
#[cfg(feature = "server")]
mod redact;
#[cfg(feature = "server")]
mod resources;
#[cfg(feature = "server")]
mod schema;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod sessions;
#[cfg(feature = "server")]
mod subscriptions;
#[cfg(test)]
mod testing;
#[cfg(feature = "server")]
mod tools;

#[cfg(feature = "server")]
pub use self::config::{Force, McpConfig};
#[cfg(feature = "server")]
pub use self::http::service;
