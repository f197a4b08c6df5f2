//! The server as its clients see it.
#![cfg(feature = "rest")]

mod api;
mod binary;
mod control;
mod edge;
mod logs;
mod services;
mod socket;
mod start;
mod unit;
