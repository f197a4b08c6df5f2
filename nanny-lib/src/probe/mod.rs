//! Health: is a running service able to do its work?

mod endpoint;
#[cfg(feature = "http-probe")]
mod http;
mod standard;
mod tcp;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use self::endpoint::Endpoint;
#[cfg(feature = "http-probe")]
pub use self::http::HttpProbe;
pub use self::standard::StandardProbe;
pub use self::tcp::TcpProbe;
use crate::backend::EngineHealth;
use crate::name::ServiceName;

/// Finds out whether a service is healthy.
///
/// # Contract
///
/// *What it does.* One attempt, no retries: how often to ask, and how many answers make a change,
/// is the monitor's business. A probe changes nothing at the service.
///
/// *Cancellation.* The future may be dropped at any point; the monitor drops it after
/// [`ProbeTarget::timeout`].
///
/// *Concurrency.* Many probes run at once, of one service never two.
///
/// *Errors.* There are none: whatever goes wrong is [`Health::Unhealthy`] or
/// [`Health::Unreachable`] with a reason for a person.
#[async_trait]
pub trait HealthProbe: fmt::Debug + Send + Sync + 'static {
    /// Asks once.
    async fn probe(&self, target: &ProbeTarget) -> Health;
}

/// Whom to ask, and what is known already.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeTarget {
    /// The service.
    pub service: ServiceName,
    /// Its health endpoint, if its manifest names one: `http://…`, `https://…` or `tcp://host:port`.
    pub endpoint: Option<String>,
    /// The HTTP status that means healthy.
    pub expect_status: u16,
    /// How long the answer may take.
    pub timeout: Duration,
    /// What its containers' own health checks say, the worst first; `None` if they have none.
    pub engine_health: Option<EngineHealth>,
}

impl ProbeTarget {
    /// `service`, with no endpoint, status 200 and five seconds.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        Self {
            service,
            endpoint: None,
            expect_status: 200,
            timeout: Duration::from_secs(5),
            engine_health: None,
        }
    }

    /// The endpoint taken apart, or why there is nothing to knock at.
    fn parsed_endpoint(&self) -> Result<Endpoint, String> {
        let endpoint = self.endpoint.as_deref().ok_or("the service has no health endpoint")?;
        Endpoint::parse(endpoint)
            .map_err(|reason| format!("its health endpoint is no use: {reason}"))
    }
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It answered as it should.
    Healthy,
    /// It answered, and not as it should.
    Unhealthy {
        /// What was wrong, for a person.
        reason: String,
    },
    /// It did not answer.
    Unreachable {
        /// What went wrong, for a person.
        reason: String,
    },
}

impl Health {
    /// Whether it is [`Health::Healthy`].
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy)
    }

    /// What was wrong, if anything was.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Healthy => None,
            Self::Unhealthy { reason } | Self::Unreachable { reason } => Some(reason),
        }
    }
}
