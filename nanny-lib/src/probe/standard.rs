//! The probe that a nanny uses if it is given none.

use async_trait::async_trait;

#[cfg(feature = "http-probe")]
use super::HttpProbe;
use super::endpoint::Scheme;
use super::{Health, HealthProbe, ProbeTarget, TcpProbe};
use crate::backend::EngineHealth;

/// HTTP or TCP, whichever the endpoint says; without an endpoint, the engine's own health; without
/// either, healthy.
///
/// Without the feature `http-probe`, a service with an HTTP endpoint is [`Health::Unreachable`]: a
/// guess would be worse.
#[derive(Debug, Clone, Default)]
pub struct StandardProbe {
    #[cfg(feature = "http-probe")]
    http: HttpProbe,
    tcp: TcpProbe,
}

impl StandardProbe {
    /// A probe; it has no settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    #[cfg(feature = "http-probe")]
    async fn http(&self, target: &ProbeTarget) -> Health {
        self.http.probe(target).await
    }

    #[cfg(not(feature = "http-probe"))]
    #[expect(clippy::unused_async, reason = "the same signature as with the feature")]
    async fn http(&self, _: &ProbeTarget) -> Health {
        let reason = "this build has no HTTP probe: the feature http-probe is off".to_owned();
        Health::Unreachable { reason }
    }
}

#[async_trait]
impl HealthProbe for StandardProbe {
    async fn probe(&self, target: &ProbeTarget) -> Health {
        if target.endpoint.is_none() {
            return engine_says(target.engine_health);
        }
        match target.parsed_endpoint() {
            Ok(endpoint) if endpoint.scheme == Scheme::Tcp => self.tcp.probe(target).await,
            Ok(_) => self.http(target).await,
            Err(reason) => Health::Unreachable { reason },
        }
    }
}

fn engine_says(health: Option<EngineHealth>) -> Health {
    let reason = match health {
        None | Some(EngineHealth::Healthy) => return Health::Healthy,
        Some(EngineHealth::Starting) => "its own health check has not passed yet",
        Some(EngineHealth::Unhealthy) => "its own health check fails",
    };
    Health::Unhealthy { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::name::ServiceName;

    fn target() -> ProbeTarget {
        ProbeTarget::new(ServiceName::new("chat").expect("a good name"))
    }

    #[tokio::test]
    async fn without_an_endpoint_the_engine_decides() {
        let probe = StandardProbe::new();
        let mut target = target();
        for (engine, healthy) in [
            (None, true),
            (Some(EngineHealth::Healthy), true),
            (Some(EngineHealth::Starting), false),
            (Some(EngineHealth::Unhealthy), false),
        ] {
            target.engine_health = engine;
            let health = probe.probe(&target).await;
            assert_eq!(health.is_healthy(), healthy, "{engine:?}");
            assert_eq!(matches!(health, Health::Unhealthy { .. }), !healthy, "{engine:?}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_goes_before_the_engine() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut target = target();
        target.engine_health = Some(EngineHealth::Unhealthy);
        target.endpoint = Some(format!("tcp://{}", listener.local_addr().unwrap()));
        assert_eq!(StandardProbe::new().probe(&target).await, Health::Healthy);
    }

    #[tokio::test]
    async fn what_is_no_endpoint_is_unreachable() {
        let mut target = target();
        target.endpoint = Some("nonsense".to_owned());
        assert!(matches!(StandardProbe::new().probe(&target).await, Health::Unreachable { .. }));
    }
}
