//! What comes over the wire. What goes back is in [`nanny_wire`].

pub(crate) mod query;
pub(crate) mod request;
