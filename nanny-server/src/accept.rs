//! The accept loop: HTTP/1.1 with a limit on everything, and a shutdown that nobody can block.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service as _;

use crate::listen::{Listener, Peer, Stream};
use crate::stall::WriteDeadline;

/// What a listener grants its clients, all together and each of them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once; more wait in the kernel's backlog. By default 1024, or a quarter of the
    /// files that the process may open, so that there are some left for engines and the journal.
    pub connections: usize,
    /// How long a client may take to send a request's head, the first one and each one after.
    pub header_timeout: Duration,
    /// How long a client may not read while it is being answered.
    pub write_stall: Duration,
    /// How long requests under way may take to end once the server shuts down.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: MOST_CONNECTIONS
                .min(open_files().map_or(usize::MAX, |most| most / 4))
                .max(1),
            header_timeout: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            drain: Duration::from_secs(8),
        }
    }
}

/// How many files this process may open, where the system says so.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Serves `app` on `listener` until `shutdown` is ready, then lets requests under way end, but not
/// for longer than [`Limits::drain`].
pub async fn serve(listener: impl Into<Listener>, app: Router, shutdown: impl Future<Output = ()>) {
    serve_within(Limits::default(), listener, app, shutdown).await;
}

/// As [`serve`], within other limits.
pub async fn serve_within(
    limits: Limits,
    listener: impl Into<Listener>,
    app: Router,
    shutdown: impl Future<Output = ()>,
) {
    let listener = listener.into();
    let permits = Arc::new(Semaphore::new(limits.connections));
    let (closing, closed) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((permit, accept(&listener).await))
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => reap(ended),
            Some((permit, (stream, peer))) = next => {
                let connection = connection(&limits, stream, peer, app.clone(), closed.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
        }
    }
    drop(listener);
    drop(closing);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            reap(ended);
        }
    };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections that are still open");
        connections.shutdown().await;
    }
}

/// The next connection, however long it takes: no error of one connection ends the server.
async fn accept(listener: &Listener) -> (Box<dyn Stream>, Peer) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                // No file descriptors, most likely; there will be some when connections end.
                tracing::warn!(%error, "cannot accept connections now");
                tokio::time::sleep(ACCEPT_BACK_OFF).await;
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::ConnectionRefused | K::ConnectionAborted | K::ConnectionReset | K::InvalidInput
    )
}

/// Serves one connection until it ends; once `closed` says so, after the request under way.
fn connection(
    limits: &Limits,
    stream: Box<dyn Stream>,
    peer: Peer,
    app: Router,
    mut closed: watch::Receiver<()>,
) -> impl Future<Output = ()> + use<> {
    let stream = WriteDeadline::new(stream, limits.write_stall);
    let asked = Arc::new(AtomicBool::new(false));
    let asking = Arc::clone(&asked);
    let answer = service_fn(move |request: Request<Incoming>| {
        asking.store(true, Ordering::Relaxed);
        answer(app.clone(), peer, request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), answer);
    async move {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ = closed.changed() => {
                // hyper would wait for the rest of a first request's head.
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended early");
        }
    }
}

async fn answer(
    mut app: Router,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(peer);
    app.call(request.map(Body::new)).await
}

fn reap(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

const MOST_CONNECTIONS: usize = 1024;
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
const MAX_HEADERS: usize = 100;
const MAX_BUFFER: usize = 64 * 1024;
