//! A server from the moment it can serve to its orderly end.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use nanny_lib::Nanny;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::accept::Limits;
use crate::edge::EdgeConfig;
use crate::listen::Listener;
use crate::notify::Notifier;

/// Serves until a signal says to stop, or until the nanny has ended by a fault of its own; that one
/// is a failure, so that whoever started us starts us anew.
pub(crate) async fn stay(
    nanny: Nanny,
    listeners: Vec<Listener>,
    edge: EdgeConfig,
    notifier: &Notifier,
    stop: &mut StopSignals,
) -> ExitCode {
    let listen = edge.listen;
    let token = edge.token.is_some();
    let (close, closing) = watch::channel(false);
    let app = crate::app(nanny.clone(), edge);
    let mut limits = Limits::default();
    // They share one process, and its files.
    limits.connections = (limits.connections / listeners.len().max(1)).max(1);
    let mut servers = JoinSet::new();
    for listener in listeners {
        let mut closing = closing.clone();
        let closed = async move {
            // An error means that nobody is left to say so: closed, too.
            let _ = closing.wait_for(|closing| *closing).await;
        };
        servers.spawn(crate::serve_within(limits.clone(), listener, app.clone(), closed));
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %listen, token, "serving");
    notifier.ready(&format!("serving on {listen}"));

    let signal = tokio::select! {
        signal = stop.next() => signal,
        () = nanny.ended() => {
            tracing::error!("the nanny has ended by a fault of its own; services go on running");
            notifier.stopping("ended by a fault; services go on running");
            let _ = close.send(true);
            let _ = tokio::time::timeout(LAST_ANSWERS, drained(&mut servers)).await;
            return ExitCode::FAILURE;
        }
        () = notifier.vouch_for(&nanny) => unreachable!("it never ends"),
    };
    tracing::info!(signal, "shutting down; services go on running");
    notifier.stopping("shutting down; services go on running");
    let _ = close.send(true);
    tokio::select! {
        ended = tokio::time::timeout(SHUTDOWN, end(&nanny, &mut servers)) => {
            if ended.is_err() {
                tracing::warn!("not everything ended in time");
            }
            ExitCode::SUCCESS
        }
        signal = stop.next() => {
            tracing::warn!(signal, "second signal: exiting at once");
            ExitCode::FAILURE
        }
    }
}

/// Requests under way may be answered as usual for a while; then the nanny ends, which answers the
/// rest of them.
async fn end(nanny: &Nanny, servers: &mut JoinSet<()>) {
    let _ = tokio::time::timeout(UNDISTURBED, drained(servers)).await;
    nanny.shutdown().await;
    drained(servers).await;
}

async fn drained(servers: &mut JoinSet<()>) {
    while servers.join_next().await.is_some() {}
}

const UNDISTURBED: Duration = Duration::from_secs(3);
const SHUTDOWN: Duration = Duration::from_millis(9_500);
/// How long it takes at most to tell those who wait that the nanny has ended by itself.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The signals that end the server.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(crate) fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests;
