//! Health by TCP: whoever accepts a connection is healthy.

use std::io;

use async_trait::async_trait;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use super::endpoint::Endpoint;
use super::{Health, HealthProbe, ProbeTarget};

/// Healthy is who accepts a connection at the endpoint's host and port, whatever its scheme.
///
/// Without an endpoint there is nothing to connect to, which is [`Health::Unreachable`].
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpProbe;

impl TcpProbe {
    /// A probe; it has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl HealthProbe for TcpProbe {
    async fn probe(&self, target: &ProbeTarget) -> Health {
        let deadline = Instant::now() + target.timeout;
        let endpoint = match target.parsed_endpoint() {
            Ok(endpoint) => endpoint,
            Err(reason) => return Health::Unreachable { reason },
        };
        match connect(&endpoint, deadline).await {
            Ok(_) => Health::Healthy,
            Err(reason) => Health::Unreachable { reason },
        }
    }
}

/// Connects to the first address of the endpoint's host that answers, in the resolver's order.
///
/// `localhost` is usually `::1` and `127.0.0.1`, and a service may listen at only one of them. An
/// address that swallows packets gets no more than its share of the time that is left.
async fn connect(endpoint: &Endpoint, deadline: Instant) -> Result<TcpStream, String> {
    let place = format!("{}:{}", endpoint.host, endpoint.port);
    let late = || format!("{place} did not accept a connection in time");
    let found = timeout_at(deadline, lookup_host((endpoint.host.as_str(), endpoint.port))).await;
    let addresses: Vec<_> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(format!("cannot resolve {}: {error}", endpoint.host)),
        Err(_) => return Err(format!("cannot resolve {} in time", endpoint.host)),
    };
    let mut failure = format!("{} has no address", endpoint.host);
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(now) / left;
        failure = match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                format!("{place} refuses connections")
            }
            Ok(Err(error)) => format!("cannot connect to {place}: {error}"),
            Err(_) => late(),
        };
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::name::ServiceName;

    fn target(endpoint: &str) -> ProbeTarget {
        let mut target = ProbeTarget::new(ServiceName::new("db").expect("a good name"));
        target.endpoint = Some(endpoint.to_owned());
        target.timeout = Duration::from_secs(60);
        target
    }

    #[tokio::test]
    async fn who_accepts_a_connection_is_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let health = TcpProbe::new().probe(&target(&format!("tcp://127.0.0.1:{port}"))).await;
        assert_eq!(health, Health::Healthy);
    }

    #[tokio::test]
    async fn localhost_is_tried_at_all_its_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let health = TcpProbe::new().probe(&target(&format!("tcp://localhost:{port}"))).await;
        assert_eq!(health, Health::Healthy);
    }

    #[tokio::test]
    async fn a_closed_port_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let health = TcpProbe::new().probe(&target(&format!("tcp://127.0.0.1:{port}"))).await;
        let reason = format!("127.0.0.1:{port} refuses connections");
        assert_eq!(health, Health::Unreachable { reason });
    }

    #[tokio::test]
    async fn without_an_endpoint_there_is_nothing_to_reach() {
        let mut target = target("");
        target.endpoint = None;
        assert!(matches!(TcpProbe.probe(&target).await, Health::Unreachable { .. }));
    }
}
