//! The binary as assistants see it: `nanny serve` with plain processes as services, its `/mcp` asked
//! by hand and through `nanny mcp`.
#![cfg(all(feature = "mcp", feature = "process"))]

mod bridge;
mod door;
#[path = "../e2e/http.rs"]
mod http;
mod sessions;
mod stage;
mod tools;
