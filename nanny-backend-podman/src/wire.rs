//! A client for what the other one cannot do: one request a connection, and the answer as it comes.
//!
//! Spawns nothing: whoever reads the answer drives the connection.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_core::stream::BoxStream;
use futures_util::future::{Either, select};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Where the API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Unix(PathBuf),
    Tcp(String),
}

/// What is sent along.
pub(crate) enum Payload {
    None,
    Json(Vec<u8>),
    Archive(BoxStream<'static, io::Result<Bytes>>),
}

/// Why there is no answer, or no more of it.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nobody is there.
    Connect(io::Error),
    /// The connection broke.
    Broken(hyper::Error),
    /// What was to be sent is no request.
    Request(hyper::http::Error),
    /// The engine's refusal.
    Refused { status: u16, message: String },
    /// The answer is longer than any that we can use.
    TooLong,
}

/// An answer of a length that was not foreseen.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// No refusal is longer; what is beyond is not read.
const MAX_REFUSAL_BYTES: usize = 64 << 10;
/// For a connection on the same machine, or the same network.
const CONNECT: Duration = Duration::from_secs(5);

/// Sends a request, and answers once the engine has said yes; it may take its time for that.
pub(crate) async fn send(
    place: &Place,
    method: Method,
    path: &str,
    payload: Payload,
) -> Result<Answer, Fault> {
    let late = |_| Fault::Connect(io::ErrorKind::TimedOut.into());
    match place {
        Place::Unix(path_of_socket) => {
            let connected =
                tokio::time::timeout(CONNECT, UnixStream::connect(path_of_socket)).await;
            let stream = connected.map_err(late)?.map_err(Fault::Connect)?;
            speak(stream, "podman", method, path, payload).await
        }
        Place::Tcp(address) => {
            let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
            let stream = connected.map_err(late)?.map_err(Fault::Connect)?;
            speak(stream, address, method, path, payload).await
        }
    }
}

async fn speak<S>(
    stream: S,
    host: &str,
    method: Method,
    path: &str,
    payload: Payload,
) -> Result<Answer, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(Fault::Broken)?;
    let (kind, body) = match payload {
        Payload::None => (None, whole(Vec::new())),
        Payload::Json(bytes) => (Some("application/json"), whole(bytes)),
        Payload::Archive(pieces) => {
            let frames = pieces.map_ok(Frame::data);
            (Some("application/x-tar"), StreamBody::new(frames).boxed_unsync())
        }
    };
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    let request = request.body(body).map_err(Fault::Request)?;
    let mut connection: Connection = Box::pin(connection);
    let response = match select(Box::pin(sender.send_request(request)), &mut connection).await {
        Either::Left((response, _)) => response.map_err(Fault::Broken)?,
        // It has ended, and so has the request, one way or the other.
        Either::Right((_, response)) => response.await.map_err(Fault::Broken)?,
    };
    let status = response.status();
    let answer = Answer { connection: Some(connection), body: response.into_body() };
    if status.is_success() { Ok(answer) } else { Err(refusal(status, answer).await) }
}

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

fn whole(bytes: Vec<u8>) -> UnsyncBoxBody<Bytes, io::Error> {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// A refusal as Podman words it: the cause is the end of the message.
#[derive(Debug, Deserialize)]
struct Refusal {
    message: String,
}

async fn refusal(status: StatusCode, mut answer: Answer) -> Fault {
    let mut text = BytesMut::new();
    while let Some(Ok(chunk)) = answer.next().await {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_REFUSAL_BYTES {
            break;
        }
    }
    let message = match serde_json::from_slice::<Refusal>(&text) {
        Ok(refusal) => refusal.message,
        Err(_) if text.is_empty() => status.to_string(),
        Err(_) => String::from_utf8_lossy(&text).into_owned(),
    };
    Fault::Refused { status: status.as_u16(), message }
}

/// The body of an answer, and the connection that it comes by.
pub(crate) struct Answer {
    connection: Option<Connection>,
    body: Incoming,
}

impl Answer {
    /// All of it.
    pub(crate) async fn whole(self) -> Result<BytesMut, Fault> {
        self.map_err(Fault::Broken)
            .try_fold(BytesMut::new(), |mut all, chunk| async move {
                if all.len() + chunk.len() > MAX_ANSWER_BYTES {
                    return Err(Fault::TooLong);
                }
                all.extend_from_slice(&chunk);
                Ok(all)
            })
            .await
    }
}

impl Stream for Answer {
    type Item = hyper::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            // If it ended badly, the body says so too.
            self.connection = None;
        }
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}
