//! The probe that a nanny uses if it is given none.
/// HTTP or TCP, whichever the endpoint says; without an endpoint, the engine's own health.
#[derive(Debug, Default)]
pub struct StandardProbe {}
