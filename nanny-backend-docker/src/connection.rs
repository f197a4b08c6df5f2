//! The connection to the engine: made when it is first needed, and again after it was lost.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use bytes::{Bytes, BytesMut};
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use nanny_lib::backend::{BackendError, ErrorKind, Result};
use serde::de::DeserializeOwned;

use crate::config::DockerConfig;
use crate::error;

/// Asks an engine, with a deadline on every question.
#[derive(Debug)]
pub(crate) struct Connection {
    config: DockerConfig,
    /// A client that has agreed on a version with the engine it last reached.
    client: Mutex<Option<Docker>>,
}

/// The client's own limit covers response headers only, so ours is the one that counts.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// More than 10,000 containers.
const MAX_ANSWER_BYTES: usize = 64 << 20;

impl Connection {
    /// Checks the configuration, not the engine.
    pub(crate) fn new(config: DockerConfig) -> Result<Self> {
        let fail = |kind, message: String| {
            Err(BackendError::new(kind, "configure docker", message)
                .on(public_address(&config.host)))
        };
        match config.host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => {}
            Some(("tcp" | "http" | "https", address)) if !address.is_empty() => {}
            Some((scheme @ ("ssh" | "npipe" | "fd"), _)) => {
                return fail(ErrorKind::Unsupported, format!("no {scheme}:// hosts"));
            }
            _ => {
                return fail(ErrorKind::Invalid, "not the address of an engine".to_owned());
            }
        }
        if cfg!(not(feature = "tls")) && (config.tls.is_some() || config.host.starts_with("https:"))
        {
            return fail(ErrorKind::Unsupported, "built without TLS".to_owned());
        }
        Ok(Self { config, client: Mutex::new(None) })
    }

    /// Where the engine is, without credentials.
    pub(crate) fn address(&self) -> String {
        public_address(&self.config.host)
    }

    /// Asks the engine, and gives up after `limit`.
    pub(crate) async fn ask<T, F>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        limit: Duration,
        request: impl FnOnce(Docker) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let subject = subject.to_string();
        let asked = async { request(self.client().await?).await };
        let answer = match tokio::time::timeout(limit, asked).await {
            Ok(answer) => answer.map_err(|error| error::from_client(operation, &subject, error)),
            Err(_) => Err(error::timed_out(operation, &subject, limit)),
        };
        if answer.as_ref().is_err_and(BackendError::is_retryable) {
            self.forget();
        }
        answer
    }

    /// Asks for a document, and reads of it what `T` knows.
    ///
    /// The client's own types fail on any word that is new to them, and one strange container
    /// would break a whole list.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        limit: Duration,
        path: String,
    ) -> Result<T> {
        let subject = subject.to_string();
        let bytes = self
            .ask(operation, &subject, limit, |client| async {
                open(client, path)
                    .try_fold(BytesMut::new(), |mut all, chunk| async move {
                        if all.len() + chunk.len() > MAX_ANSWER_BYTES {
                            return Err(io::Error::other("the answer is too long").into());
                        }
                        all.extend_from_slice(&chunk);
                        Ok(all)
                    })
                    .await
            })
            .await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            BackendError::new(ErrorKind::Other, operation, "the engine's answer makes no sense")
                .on(&subject)
                .caused_by(error)
        })
    }

    /// Opens a stream of bytes that may say nothing for as long as it likes.
    pub(crate) async fn stream(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        limit: Duration,
        path: String,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let subject = subject.to_string();
        let client = self.ask(operation, &subject, limit, |client| async { Ok(client) }).await?;
        Ok(open(client, path)
            .map(move |chunk| chunk.map_err(|e| error::from_client(operation, &subject, e)))
            .boxed())
    }

    /// Sends `body`, a tar archive, and opens the stream of what the engine says to it.
    pub(crate) async fn post(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        limit: Duration,
        path: String,
        body: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let subject = subject.to_string();
        let client = self.ask(operation, &subject, limit, |client| async { Ok(client) }).await?;
        Ok(send(client, path, body)
            .map(move |chunk| chunk.map_err(|e| error::from_client(operation, &subject, e)))
            .boxed())
    }

    /// Whether images are to be built without BuildKit.
    pub(crate) fn wants_classic_builder(&self) -> bool {
        self.config.classic_builder
    }

    /// The minor number of the API's version 1.x that both sides speak.
    pub(crate) async fn api_minor(
        &self,
        operation: &'static str,
        limit: Duration,
    ) -> Result<usize> {
        self.ask(
            operation,
            "",
            limit,
            |client| async move { Ok(client.client_version().minor_version) },
        )
        .await
    }

    /// The next question negotiates anew: another engine may be there by then.
    pub(crate) fn forget(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn client(&self) -> Result<Docker, Error> {
        let known = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = self.connect()?.with_timeout(NO_LIMIT).negotiate_version().await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    fn connect(&self) -> Result<Docker, Error> {
        let (host, limit) = (&self.config.host, NO_LIMIT.as_secs());
        if host.starts_with("unix://") {
            return Docker::connect_with_unix(host, limit, API_DEFAULT_VERSION);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.config.tls {
            let (key, cert, ca) = (&tls.key, &tls.cert, &tls.ca);
            return Docker::connect_with_ssl(host, key, cert, ca, limit, API_DEFAULT_VERSION);
        }
        Docker::connect_with_http(host, limit, API_DEFAULT_VERSION)
    }
}

/// The body of the answer to a `GET` of `path`, as it comes.
///
/// The client offers bytes as they are in one place only, the export of a container. This asks
/// for such an export and points the request elsewhere before it is sent.
fn open(client: Docker, path: String) -> BoxStream<'static, Result<Bytes, Error>> {
    let client = client.with_request_modifier(move |mut request| {
        redirect(&mut request, &path);
        request
    });
    client.export_container("none").boxed()
}

/// The body of the answer to a `POST` of `body` to `path`, as it comes; by the same detour.
///
/// The client's own way to build an image fails on what BuildKit says.
fn send(
    client: Docker,
    path: String,
    body: BoxStream<'static, io::Result<Bytes>>,
) -> BoxStream<'static, Result<Bytes, Error>> {
    let body = Mutex::new(Some(bollard::body_try_stream(body)));
    let client = client.with_request_modifier(move |mut request| {
        redirect(&mut request, &path);
        let body = body.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(body), Ok(method), Ok(kind)) =
            (body, "POST".parse(), "application/x-tar".parse())
        {
            *request.method_mut() = method;
            *request.body_mut() = body;
            request.headers_mut().insert("content-type", kind);
        }
        request
    });
    client.export_container("none").boxed()
}

fn redirect(request: &mut BollardRequest, path: &str) {
    const DETOUR: &str = "/containers/none/export";
    let uri = request.uri().to_string();
    let target = uri.strip_suffix(DETOUR).map(|base| format!("{base}{path}").parse());
    if let Some(Ok(target)) = target {
        *request.uri_mut() = target;
    }
}

fn public_address(host: &str) -> String {
    match host.split_once("://") {
        Some((scheme, rest)) => {
            let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
            format!("{scheme}://{address}")
        }
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_any_engine_is_asked() {
        let kind = |host| Connection::new(DockerConfig::new(host)).map(|_| ()).unwrap_err().kind();
        assert_eq!(kind("ssh://me@far"), ErrorKind::Unsupported);
        assert_eq!(kind("far:2375"), ErrorKind::Invalid);
        assert_eq!(kind("unix://"), ErrorKind::Invalid);
        Connection::new(DockerConfig::new("unix:///nowhere/docker.sock")).unwrap();
    }

    #[test]
    fn credentials_do_not_show() {
        let connection = Connection::new(DockerConfig::new("tcp://me:secret@far:1")).unwrap();
        assert_eq!(connection.address(), "tcp://far:1");
    }
}
