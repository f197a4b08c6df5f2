//! Between our words and the engine's: pure, both ways.

mod info;
mod spec;

pub(crate) use self::info::{Inspected, Reading, Summary};
pub(crate) use self::spec::{Create, map, to_body, whole_seconds};
