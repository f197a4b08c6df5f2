//! The server as its clients see it.
#![cfg(feature = "rest")]

mod api;
mod attacks;
mod binary;
mod bombs;
mod compose;
mod control;
#[cfg(feature = "process")]
mod demo;
mod edge;
mod fuzzed;
mod gpus;
mod logs;
mod services;
mod socket;
mod start;
mod traced;
mod unit;
