//! Health by HTTP: whoever answers with the expected status is healthy.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::StatusCode;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::endpoint::{Endpoint, Scheme};
use super::{Health, HealthProbe, ProbeTarget, tcp};

/// Healthy is who answers a GET with the expected status.
///
/// A redirect is not followed and is not healthy; the body is not read; no proxy is used, whatever
/// the environment says. Every probe opens a connection of its own, so that a service that accepts
/// no new ones shows, and closes it before it returns.
///
/// `https://` needs a cryptography provider, which is the application's choice: it calls
/// `install_default` of one of rustls' providers at its start. Without one, such endpoints are
/// [`Health::Unreachable`], and `http://` works all the same.
#[derive(Debug, Clone, Default)]
pub struct HttpProbe {
    tls: Arc<OnceLock<Arc<rustls::ClientConfig>>>,
}

impl HttpProbe {
    /// A probe. Clones share what they learn about TLS.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    async fn ask(&self, endpoint: &Endpoint, deadline: Instant) -> Result<StatusCode, Failure> {
        let stream = tcp::connect(endpoint, deadline).await.map_err(Failure::NoAnswer)?;
        match endpoint.scheme {
            Scheme::Https => request(self.secure(stream, endpoint).await?, endpoint).await,
            Scheme::Http | Scheme::Tcp => request(stream, endpoint).await,
        }
    }

    async fn secure(
        &self,
        stream: TcpStream,
        endpoint: &Endpoint,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Failure> {
        let config = self.tls_config().map_err(Failure::NoAnswer)?;
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|_| Failure::NoAnswer(format!("'{}' is no host name", endpoint.host)))?;
        let secured = TlsConnector::from(config).connect(name, stream).await;
        secured.map_err(|error| Failure::Wrong(format!("TLS at {endpoint} failed: {error}")))
    }

    /// Made at the first use, and again until a provider is installed: it loads the system's
    /// certificates, which takes a while.
    fn tls_config(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let provider = CryptoProvider::get_default()
            .ok_or("https needs a TLS provider, and the application installed none")?;
        let config = rustls::ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_platform_verifier())
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_no_client_auth();
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(config))))
    }
}

#[async_trait]
impl HealthProbe for HttpProbe {
    async fn probe(&self, target: &ProbeTarget) -> Health {
        let endpoint = match target.parsed_endpoint() {
            Ok(endpoint) if endpoint.scheme != Scheme::Tcp => endpoint,
            Ok(_) => {
                let reason = "its health endpoint is no HTTP address".to_owned();
                return Health::Unreachable { reason };
            }
            Err(reason) => return Health::Unreachable { reason },
        };
        let deadline = Instant::now() + target.timeout;
        match timeout_at(deadline, self.ask(&endpoint, deadline)).await {
            Ok(Ok(status)) => judge(status, target.expect_status, &endpoint),
            Ok(Err(Failure::NoAnswer(reason))) => Health::Unreachable { reason },
            Ok(Err(Failure::Wrong(reason))) => Health::Unhealthy { reason },
            Err(_) => {
                let reason = format!("{endpoint} did not answer within {:?}", target.timeout);
                Health::Unreachable { reason }
            }
        }
    }
}

/// Why there is no status.
enum Failure {
    NoAnswer(String),
    Wrong(String),
}

/// What an answer's head may take; a longer one is no answer.
const HEAD_BYTES: usize = 64 << 10;

async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    endpoint: &Endpoint,
) -> Result<StatusCode, Failure> {
    let mut request = hyper::Request::get(endpoint.target.as_str())
        .header(HOST, endpoint.authority())
        .header(USER_AGENT, concat!("nanny/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close");
    if let Some(credentials) = &endpoint.credentials {
        let encoded = STANDARD.encode(unescaped(credentials));
        request = request.header(AUTHORIZATION, format!("Basic {encoded}"));
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|_| Failure::NoAnswer(format!("{endpoint} cannot be asked for over HTTP")))?;

    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failure(&error, endpoint))?;
    // Driven here and not in a task: whoever drops the probe closes the connection with it.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(sender.send_request(request));
    let mut closed = false;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => {
                return answer.map(|answer| answer.status()).map_err(|error| failure(&error, endpoint));
            }
            _ = &mut connection, if !closed => closed = true,
        }
    }
}

fn failure(error: &hyper::Error, endpoint: &Endpoint) -> Failure {
    if error.is_parse() {
        return Failure::Wrong(format!("{endpoint} answered, and not in HTTP"));
    }
    Failure::NoAnswer(format!("{endpoint} hung up before it answered"))
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

/// `text` with its `%xx` resolved.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        let escaped = escaped.and_then(|hex| std::str::from_utf8(hex).ok());
        let escaped = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

#[cfg(test)]
mod tests;
