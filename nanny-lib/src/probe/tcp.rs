//! Health by TCP: whoever accepts a connection is healthy.
/// Healthy is who accepts a connection.
#[derive(Debug, Default)]
pub struct TcpProbe {}
