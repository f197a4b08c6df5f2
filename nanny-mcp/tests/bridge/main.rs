//! The bridge between a client and a daemon that a test plays by hand.
#![cfg(feature = "bridge")]

mod absent;
mod broken;
mod client;
mod daemon;
mod ends;
mod sessions;
mod stateless;
