//! A server from the moment it can serve to its orderly end.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use nanny_lib::{Nanny, StopOptions};
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
    at_the_end: AtTheEnd,
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
    let words = match at_the_end {
        AtTheEnd::LeaveServices => "shutting down; services go on running",
        AtTheEnd::StopServices => "shutting down; stopping the services",
    };
    tracing::info!(signal, "{words}");
    notifier.stopping(words);
    let _ = close.send(true);
    tokio::select! {
        ended = tokio::time::timeout(SHUTDOWN, end(&nanny, &mut servers, at_the_end)) => {
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
async fn end(nanny: &Nanny, servers: &mut JoinSet<()>, at_the_end: AtTheEnd) {
    let _ = tokio::time::timeout(UNDISTURBED, drained(servers)).await;
    match at_the_end {
        AtTheEnd::LeaveServices => {}
        AtTheEnd::StopServices => stop_all(nanny).await,
    }
    nanny.shutdown().await;
    drained(servers).await;
}

async fn stop_all(nanny: &Nanny) {
    let snapshot = nanny.snapshot();
    let stops = snapshot.services.keys().map(|name| async move {
        let stopped = nanny.stop(name.as_str(), StopOptions::default()).await;
        if let Err(error) = stopped {
            tracing::warn!(service = %name, %error, "it goes on running");
        }
    });
    // What takes longer than the end may take is asked to end, and not waited for.
    let _ = tokio::time::timeout(STOP, join_all(stops)).await;
}

async fn drained(servers: &mut JoinSet<()>) {
    while servers.join_next().await.is_some() {}
}

/// What becomes of the services when the server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtTheEnd {
    /// They go on running: they are not ours.
    LeaveServices,
    /// They are there for us, and end with us.
    #[cfg_attr(not(feature = "process"), expect(dead_code, reason = "only the demo does"))]
    StopServices,
}

const UNDISTURBED: Duration = Duration::from_secs(3);
/// How long all stops at the end may take together.
const STOP: Duration = Duration::from_secs(5);
const SHUTDOWN: Duration = Duration::from_millis(9_500);
/// How long it takes at most to tell those who wait that the nanny has ended by itself.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// The signals that end the server.
#[derive(Debug)]
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// The end of the terminal, where that is to be an end like the others.
    hangup: Option<Signal>,
}

impl StopSignals {
    pub(crate) fn listen() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())?, hangup: None })
    }

    /// The same, and the end of the terminal.
    #[cfg_attr(not(feature = "process"), expect(dead_code, reason = "only the demo does"))]
    pub(crate) fn listen_with_hangup() -> io::Result<Self> {
        Ok(Self { hangup: Some(signal(SignalKind::hangup())?), ..Self::listen()? })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = hung_up => "SIGHUP",
        }
    }
}

#[cfg(test)]
mod tests;
