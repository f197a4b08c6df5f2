//! `nanny mcp`: a client's standard input and output, joined to a running daemon's `/mcp`.
//!
//! The bridge is transparent: it knows JSON-RPC, streamable HTTP and what the two eras of the
//! protocol ask of whoever forwards messages, and not one tool. So several editors share one
//! daemon, and what they may do is decided there.
//!
//! - Each request is posted on a connection of its own, and whatever comes back is passed on:
//!   progress, questions, the answer. From 2026-07-28 on, a message says itself what it needs;
//!   before that, `initialize` begins a session, whose stream of notifications is held open.
//! - A request gets exactly one answer, also if there is no daemon, or none any more: an error
//!   that says what to do. A session that went with its daemon is begun anew, with its
//!   subscriptions, when the next one answers.
//! - The end of standard input is the end: requests under way have a while left.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use self::failure::Failure;
use self::link::Link;
use self::pump::Pump;

mod daemon;
mod events;
mod failure;
mod headers;
mod lines;
mod link;
mod message;
mod pump;
mod questions;
mod session;
mod sse;
#[cfg(feature = "bridge-tls")]
mod tls;

pub use self::daemon::{Daemon, UnusableAddress};

/// How long things may take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Clocks {
    /// Until the head of an answer that needs no work: to a notification, or for a stream.
    pub head: Duration,
    /// The same for `initialize`.
    pub initialize: Duration,
    /// The same for a request: a start may wait until its service is ready before it says anything.
    pub answer: Duration,
    /// Between two pieces of an answer: the daemon sends a sign of life every 15 s.
    pub silence: Duration,
    /// Before a broken stream is taken up again, the first time; twice as long each time after.
    pub retry: Duration,
    /// The same at most, whatever the daemon would like.
    pub longest_retry: Duration,
    /// How long the first request waits for a daemon that is not there yet.
    pub patience: Duration,
    /// How long requests under way have left when the client has gone.
    pub grace: Duration,
    /// How long the daemon may take to hear of that.
    pub goodbye: Duration,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            initialize: Duration::from_secs(30),
            answer: Duration::from_secs(600),
            silence: Duration::from_secs(60),
            retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(5),
            patience: Duration::from_secs(3),
            grace: Duration::from_secs(5),
            goodbye: Duration::from_secs(1),
        }
    }
}

impl Clocks {
    /// How long to wait before the try of that number, if the daemon asked for so much.
    fn pause(&self, asked: Option<Duration>, tries: u32) -> Duration {
        let doubled = self.retry.saturating_mul(1 << tries.saturating_sub(1).min(10));
        doubled.max(asked.unwrap_or_default()).min(self.longest_retry)
    }
}

/// Why a bridge ended before its client did.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// Standard input cannot be read.
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    /// Standard output cannot be written.
    #[error("cannot write standard output")]
    Output(#[source] io::Error),
}

/// Joins `input` and `output` to `daemon`, until `input` ends or `stop` is ready.
///
/// # Errors
///
/// If either breaks before that.
pub async fn run(
    daemon: Daemon,
    clocks: Clocks,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    stop: impl Future<Output = ()>,
) -> Result<(), Lost> {
    let (out, messages) = mpsc::channel(MESSAGES_AHEAD);
    let (close, closing) = oneshot::channel();
    let mut writer = std::pin::pin!(write(output, messages, closing));
    let mut pump = Pump::new(Link::new(daemon, clocks.clone(), out));
    let (ended, written) = tokio::select! {
        written = &mut writer => (Ok(()), Some(written)),
        pumped = pump.run(input) => (pumped.map_err(Lost::Input), None),
        () = stop => (Ok(()), None),
    };
    pump.end().await;
    let written = match written {
        Some(written) => written,
        None => {
            let _ = close.send(());
            // A client that does not read must not hold up the end.
            timeout(clocks.goodbye, writer).await.unwrap_or(Ok(()))
        }
    };
    written.map_err(Lost::Output)?;
    ended
}

/// Writes messages until it is told that there will be no more.
async fn write(
    mut output: impl AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<String>,
    mut closing: oneshot::Receiver<()>,
) -> io::Result<()> {
    loop {
        let message = tokio::select! {
            biased;
            message = messages.recv() => message,
            _ = &mut closing, if !messages.is_closed() => {
                messages.close();
                continue;
            }
        };
        let Some(mut message) = message else { return Ok(()) };
        message.push('\n');
        output.write_all(message.as_bytes()).await?;
        output.flush().await?;
    }
}

/// Messages that wait for a client to read them; beyond that, the daemon waits.
const MESSAGES_AHEAD: usize = 64;

/// `bytes`, cut at these places.
#[cfg(test)]
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| (*cut).min(bytes.len())).collect();
    cuts.sort_unstable();
    let starts = std::iter::once(0).chain(cuts.iter().copied());
    let ends = cuts.iter().copied().chain(std::iter::once(bytes.len()));
    starts.zip(ends).map(|(start, end)| &bytes[start..end]).collect()
}
