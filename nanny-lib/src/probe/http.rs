//! Health by HTTP: whoever answers with the expected status is healthy.

use std::error::Error;
use std::io;
use std::iter;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use reqwest::header::CONNECTION;
use reqwest::{Client, StatusCode, redirect, retry};
use tokio::time::timeout;

use super::endpoint::{Endpoint, Scheme};
use super::{Health, HealthProbe, ProbeTarget};

/// Healthy is who answers a GET with the expected status.
///
/// A redirect is not followed and is not healthy; the body is not read; no proxy is used, whatever
/// the environment says. Every probe opens a connection of its own, so that a service that accepts
/// no new ones shows, and keeps none.
///
/// `https://` needs the feature `https-probe`; without it, such endpoints are
/// [`Health::Unreachable`]. Certificates are judged by what the system trusts.
#[derive(Debug, Clone, Default)]
pub struct HttpProbe {
    /// Made at the first use: with TLS it reads the system's certificates.
    client: Arc<OnceLock<Result<Client, String>>>,
}

impl HttpProbe {
    /// A probe. Clones share one client.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    async fn ask(&self, endpoint: &Endpoint) -> Result<StatusCode, Health> {
        let client = self.client.get_or_init(client).as_ref();
        let client = client.map_err(|reason| unreachable(reason.as_str()))?;
        let answer = client.get(&endpoint.url).header(CONNECTION, "close").send().await;
        answer.map(|answer| answer.status()).map_err(|error| failure(&error, endpoint))
    }
}

#[async_trait]
impl HealthProbe for HttpProbe {
    async fn probe(&self, target: &ProbeTarget) -> Health {
        let endpoint = match target.parsed_endpoint() {
            Ok(endpoint) => endpoint,
            Err(reason) => return unreachable(reason),
        };
        match endpoint.scheme {
            Scheme::Tcp => return unreachable("its health endpoint is no HTTP address"),
            Scheme::Https if !cfg!(feature = "https-probe") => {
                return unreachable("this build has no TLS: the feature https-probe is off");
            }
            Scheme::Http | Scheme::Https => {}
        }
        match timeout(target.timeout, self.ask(&endpoint)).await {
            Ok(Ok(status)) => judge(status, target.expect_status, &endpoint),
            Ok(Err(health)) => health,
            Err(_) => unreachable(format!("{endpoint} did not answer within {:?}", target.timeout)),
        }
    }
}

fn client() -> Result<Client, String> {
    let builder = Client::builder()
        .user_agent(concat!("service-nanny/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .pool_max_idle_per_host(0);
    #[cfg(feature = "https-probe")]
    let builder = builder.tls_backend_preconfigured(
        tls_config().map_err(|error| format!("TLS cannot be set up: {error}"))?,
    );
    builder.build().map_err(|error| format!("the HTTP client cannot be set up: {error}"))
}

/// A provider of its own: left to itself, reqwest takes the process's, and panics without one.
#[cfg(feature = "https-probe")]
fn tls_config() -> Result<rustls::ClientConfig, rustls::Error> {
    use rustls_platform_verifier::BuilderVerifierExt as _;

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?;
    // A machine without certificates still has plain endpoints to ask.
    let builder = builder.clone().with_platform_verifier().unwrap_or_else(|error| {
        tracing::warn!(%error, "no https health endpoint can be trusted");
        builder.with_root_certificates(rustls::RootCertStore::empty())
    });
    Ok(builder.with_no_client_auth())
}

fn judge(status: StatusCode, expected: u16, endpoint: &Endpoint) -> Health {
    if status.as_u16() == expected {
        return Health::Healthy;
    }
    let reason = if status.is_redirection() {
        format!("{endpoint} redirects (HTTP {status}), and redirects are not followed")
    } else {
        format!("{endpoint} answered HTTP {status}, not {expected}")
    };
    Health::Unhealthy { reason }
}

/// Why there is no status. It tells the causes only: the error itself shows the whole URL.
fn failure(error: &reqwest::Error, endpoint: &Endpoint) -> Health {
    let causes = || iter::successors(error.source(), |cause| (*cause).source());
    let cause = || causes().last().map_or_else(|| "no reason".to_owned(), ToString::to_string);
    let system = causes()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .find(|cause| cause.raw_os_error().is_some());
    if error.is_builder() {
        return unreachable(format!("{endpoint} cannot be asked for over HTTP: {}", cause()));
    }
    if error.is_dns() {
        return unreachable(format!("cannot resolve {}: {}", endpoint.host, cause()));
    }
    if error.is_connect() {
        return match system {
            Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                unreachable(format!("{endpoint} refuses connections"))
            }
            None if endpoint.scheme == Scheme::Https => {
                Health::Unhealthy { reason: format!("TLS at {endpoint} failed: {}", cause()) }
            }
            _ => unreachable(format!("cannot connect to {endpoint}: {}", cause())),
        };
    }
    if causes().filter_map(|cause| cause.downcast_ref()).any(hyper::Error::is_parse) {
        return Health::Unhealthy { reason: format!("{endpoint} answered, and not in HTTP") };
    }
    unreachable(format!("{endpoint} hung up before it answered"))
}

fn unreachable(reason: impl Into<String>) -> Health {
    Health::Unreachable { reason: reason.into() }
}

#[cfg(test)]
mod tests;
