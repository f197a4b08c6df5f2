//! What goes over the wire: request and response types, distinct from the core's own, so that
//! either can change alone. Shapes are additive.

pub(crate) mod answer;
pub(crate) mod gpu;
pub(crate) mod query;
pub(crate) mod request;
pub(crate) mod service;
