//! Health by HTTP.
/// Healthy is who answers with the expected status.
#[derive(Debug, Default)]
pub struct HttpProbe {}
