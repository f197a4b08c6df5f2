//! The seam between this backend and the two clients that ask for it, with a deadline on every
//! question.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hyper::Method;
use nanny_lib::backend::{BackendError, ErrorKind, Result};
use podman_api::{ApiVersion, Podman};
use serde::de::DeserializeOwned;

use crate::config::PodmanConfig;
use crate::error;
use crate::wire::{self, Answer, Fault, Payload, Place};

/// Asks an engine.
#[derive(Debug)]
pub(crate) struct Connection {
    address: String,
    place: Place,
    podman: Podman,
}

/// The version of the API that both clients speak: later engines answer it as this one does.
const VERSION: ApiVersion = ApiVersion::new(4, Some(0), Some(0));
const BASE: &str = "/v4.0.0/libpod";

impl Connection {
    /// Checks the configuration, not the engine.
    pub(crate) fn new(config: &PodmanConfig) -> Result<Self> {
        let address = public_address(&config.host);
        let fail = |kind, message: String| {
            Err(BackendError::new(kind, "configure podman", message).on(&address))
        };
        let place = match config.host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Place::Unix(PathBuf::from(path)),
            Some(("tcp" | "http", host)) if !host.is_empty() && !host.contains('/') => {
                Place::Tcp(host.to_owned())
            }
            Some(("ssh", _)) => {
                let message = "no ssh:// hosts; forward the socket, as in `ssh -NL \
                               /tmp/podman.sock:/run/podman/podman.sock HOST`, and name it as \
                               unix:///tmp/podman.sock";
                return fail(ErrorKind::Unsupported, message.to_owned());
            }
            Some(("https", _)) => {
                return fail(ErrorKind::Unsupported, "no TLS to Podman".to_owned());
            }
            _ => return fail(ErrorKind::Invalid, "not the address of an engine".to_owned()),
        };
        match Podman::new_versioned(&config.host, VERSION) {
            Ok(podman) => Ok(Self { address, place, podman }),
            Err(error) => {
                let message = "not the address of an engine";
                let failed = BackendError::new(ErrorKind::Invalid, "configure podman", message);
                Err(failed.on(&address).caused_by(error))
            }
        }
    }

    /// Where the engine is, without credentials.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The engine's socket, if it has one on this machine.
    pub(crate) fn socket(&self) -> Option<&Path> {
        match &self.place {
            Place::Unix(path) => Some(path),
            Place::Tcp(_) => None,
        }
    }

    /// Asks by the typed client, and gives up after `limit`.
    pub(crate) async fn ask<T, F>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        limit: Duration,
        request: impl FnOnce(Podman) -> F,
    ) -> Result<T>
    where
        F: Future<Output = podman_api::Result<T>>,
    {
        match tokio::time::timeout(limit, request(self.podman.clone())).await {
            Ok(answer) => {
                answer.map_err(|error| error::from_client(operation, &subject.to_string(), error))
            }
            Err(_) => Err(error::timed_out(operation, &subject.to_string(), limit)),
        }
    }

    /// Asks for a document, and reads of it what `T` knows.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        limit: Duration,
        path: &str,
    ) -> Result<T> {
        self.document(operation, subject, limit, Method::GET, path, Payload::None).await
    }

    /// Sends a document, and reads of the answer what `T` knows.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        limit: Duration,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T> {
        self.document(operation, subject, limit, Method::POST, path, Payload::Json(body)).await
    }

    async fn document<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        limit: Duration,
        method: Method,
        path: &str,
        payload: Payload,
    ) -> Result<T> {
        let subject = subject.to_string();
        let asked = async { self.send(method, path, payload).await?.whole().await };
        let bytes = within(limit, operation, &subject, asked).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            BackendError::new(ErrorKind::Other, operation, "the engine's answer makes no sense")
                .on(&subject)
                .caused_by(error)
        })
    }

    /// Asks for something to be so; that it is so already is no failure.
    pub(crate) async fn ensure(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        limit: Duration,
        path: &str,
    ) -> Result<()> {
        let asked = async {
            match self.send(Method::POST, path, Payload::None).await {
                Ok(_) | Err(Fault::Refused { status: 304, .. }) => Ok(()),
                Err(fault) => Err(fault),
            }
        };
        within(limit, operation, &subject.to_string(), asked).await
    }

    /// Uploads an archive to where nothing is answered but yes or no.
    pub(crate) async fn put(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        limit: Duration,
        path: &str,
        archive: Vec<u8>,
    ) -> Result<()> {
        let pieces = stream::iter([Ok(Bytes::from(archive))]).boxed();
        let sent =
            async { self.send(Method::PUT, path, Payload::Archive(pieces)).await?.whole().await };
        within(limit, operation, &subject.to_string(), sent).await.map(|_| ())
    }

    /// A stream of bytes that may say nothing for as long as it likes: not even that it begins.
    pub(crate) fn stream(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        path: &str,
    ) -> BoxStream<'static, Result<Bytes>> {
        let (place, path) = (self.place.clone(), format!("{BASE}{path}"));
        let opened = async move { wire::send(&place, Method::GET, &path, Payload::None).await };
        chunks(operation, subject.to_string(), opened)
    }

    /// The same, of an engine that says at once whether it begins.
    pub(crate) async fn open(
        &self,
        operation: &'static str,
        limit: Duration,
        path: &str,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let opened = self.send(Method::GET, path, Payload::None);
        let answer = within(limit, operation, "", opened).await?;
        Ok(chunks(operation, String::new(), async { Ok(answer) }))
    }

    /// Sends what may take long to send, and opens the stream of what the engine says to it.
    pub(crate) fn upload(
        &self,
        operation: &'static str,
        subject: impl fmt::Display,
        path: &str,
        payload: Payload,
    ) -> BoxStream<'static, Result<Bytes>> {
        let (place, path) = (self.place.clone(), format!("{BASE}{path}"));
        let opened = async move { wire::send(&place, Method::POST, &path, payload).await };
        chunks(operation, subject.to_string(), opened)
    }

    async fn send(&self, method: Method, path: &str, payload: Payload) -> Result<Answer, Fault> {
        wire::send(&self.place, method, &format!("{BASE}{path}"), payload).await
    }
}

async fn within<T>(
    limit: Duration,
    operation: &'static str,
    subject: &str,
    asked: impl Future<Output = Result<T, Fault>>,
) -> Result<T> {
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer.map_err(|fault| error::from_wire(operation, subject, fault)),
        Err(_) => Err(error::timed_out(operation, subject, limit)),
    }
}

fn chunks(
    operation: &'static str,
    subject: String,
    opened: impl Future<Output = Result<Answer, Fault>> + Send + 'static,
) -> BoxStream<'static, Result<Bytes>> {
    stream::once(opened)
        .map_ok(|answer| answer.map_err(Fault::Broken))
        .try_flatten()
        .map_err(move |fault| error::from_wire(operation, &subject, fault))
        .boxed()
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
        let refused = |host| Connection::new(&PodmanConfig::new(host)).map(|_| ()).unwrap_err();
        assert_eq!(refused("ssh://me@far/run/podman/podman.sock").kind(), ErrorKind::Unsupported);
        assert!(refused("ssh://far").message().contains("ssh -NL"));
        assert_eq!(refused("https://far").kind(), ErrorKind::Unsupported);
        for host in ["far:8080", "unix://", "unix://relative", "tcp://", "tcp://h/x", ""] {
            assert_eq!(refused(host).kind(), ErrorKind::Invalid, "{host}");
        }
        let near = Connection::new(&PodmanConfig::new("unix:///nowhere/podman.sock")).unwrap();
        assert!(near.socket().is_some());
        assert!(Connection::new(&PodmanConfig::new("tcp://far:8080")).unwrap().socket().is_none());
    }

    #[test]
    fn credentials_do_not_show() {
        let connection = Connection::new(&PodmanConfig::new("tcp://me:secret@far:1")).unwrap();
        assert_eq!(connection.address(), "tcp://far:1");
    }
}
