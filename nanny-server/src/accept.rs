//! The accept loop: HTTP/1.1 with a limit on everything, and a shutdown that nobody can block.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use futures_util::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tower::Service as _;

use crate::listen::{Listener, Peer, Stream};
use crate::stall::WriteDeadline;

/// What a listener grants its clients, all together and each of them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at once. For a further one, the one makes way that has longest been without a
    /// request under way; where there is none, it waits. A request is under way until its answer
    /// begins: whoever still reads one is given 2 s to make way. By default 1024, or a quarter of
    /// the files that the process may open, so that there are some left for engines and the journal.
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
    let places = Arc::new(Semaphore::new(limits.connections));
    let crowded = Arc::new(Notify::new());
    let (closing, closed) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    // Accepted, and without a place as yet.
    let mut waiting = None;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => reap(ended),
            accepted = accept(&listener), if waiting.is_none() => {
                waiting = Some(accepted);
                if places.available_permits() == 0 {
                    crowded.notify_one();
                }
            }
            Ok(place) = Arc::clone(&places).acquire_owned(), if waiting.is_some() => {
                let Some((stream, peer)) = waiting.take() else { continue };
                // Nobody need make way any more: a call that nobody heard would be heard by this one.
                let _ = crowded.notified().now_or_never();
                let ends = Ends { closed: closed.clone(), crowded: Arc::clone(&crowded) };
                let connection = connection(&limits, stream, peer, app.clone(), ends);
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
        }
    }
    drop(waiting);
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

/// Why a connection ends before its client wants it to.
struct Ends {
    /// The server shuts down.
    closed: watch::Receiver<()>,
    /// Another one needs the place: wakes the connection that has idled longest.
    crowded: Arc<Notify>,
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
    matches!(error.kind(), K::ConnectionRefused | K::ConnectionAborted | K::ConnectionReset)
}

/// Serves one connection until it ends. Once the server shuts down that is after the request under
/// way; without one it may also have to make way for others.
fn connection(
    limits: &Limits,
    stream: Box<dyn Stream>,
    peer: Peer,
    app: Router,
    ends: Ends,
) -> impl Future<Output = ()> + use<> {
    let stream = WriteDeadline::new(stream, limits.write_stall);
    let use_of_it = Arc::new(Use::default());
    let used = Arc::clone(&use_of_it);
    let answer = service_fn(move |request: Request<Incoming>| {
        let under_way = used.begin();
        let answer = answer(app.clone(), peer, request);
        async move {
            let _under_way = under_way;
            answer.await
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), answer);
    let Ends { mut closed, crowded } = ends;
    async move {
        let mut connection = pin!(connection);
        // In line only while it idles, so that whoever idles longest is woken first.
        let mut in_line = None;
        let running = poll_fn(|cx| {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            if use_of_it.busy.load(Ordering::Relaxed) {
                in_line = None;
                return Poll::Pending;
            }
            let in_line =
                in_line.get_or_insert_with(|| Box::pin(Arc::clone(&crowded).notified_owned()));
            in_line.as_mut().poll(cx).map(|()| None)
        });
        let (ended, patience) = tokio::select! {
            ended = running => (ended, EVICTION),
            _ = closed.changed() => (None, Duration::MAX),
        };
        let ended = match ended {
            Some(ended) => ended,
            // hyper would wait for the rest of a first request's head.
            None if !use_of_it.asked.load(Ordering::Relaxed) => return,
            None => {
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(patience, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// What a connection is used for.
#[derive(Debug, Default)]
struct Use {
    /// There was a request.
    asked: AtomicBool,
    /// There is one now.
    busy: AtomicBool,
}

impl Use {
    fn begin(self: &Arc<Self>) -> UnderWay {
        self.asked.store(true, Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }
}

/// A request that is being answered.
struct UnderWay(Arc<Use>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Relaxed);
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
/// How long a client that must make way may take to read the last answer.
const EVICTION: Duration = Duration::from_secs(2);
const MAX_HEADERS: usize = 100;
const MAX_BUFFER: usize = 64 * 1024;
