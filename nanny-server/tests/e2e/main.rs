//! The shipped binary, over HTTP, on a real Docker Engine, which `scripts/engines up` starts.
//!
//! Each test has services, a nanny and names of its own, so that they run side by side. Where no
//! engine answers they say so and pass; with `CI=true` or `NANNY_TEST_DOCKER=1` they fail.

#![cfg(all(feature = "rest", feature = "docker"))]

mod engine;
#[expect(dead_code, reason = "the other suites need more of it")]
mod house;
mod http;
mod registry;

mod adoption;
mod anew;
mod by_hand;
mod check;
mod clock;
mod compose;
mod disk;
mod exhaustion;
mod failures;
mod files;
mod images;
mod inside;
mod interference;
mod interleaved;
mod logs;
mod outage;
mod parts;
mod privileges;
mod races;
mod restarts;
mod rollback;
mod secrets;
mod seed;
mod shutdown;
mod strangers;
mod world;
