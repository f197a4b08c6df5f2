//! Between our words and the engine's: pure, both ways.

mod info;
mod spec;

pub(crate) use self::info::{ImageInspected, Inspected, Readings, Summary, is_within};
pub(crate) use self::spec::{Most, Surroundings, cdi_names, is_cdi, to_body, whole_seconds};
