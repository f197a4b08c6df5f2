//! Takes connections, or does not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::carry::carry;
use super::endpoint::{Bound, Endpoint, Listener, Socket};
use super::rule::{Line, Shared, State};

/// More connections than that at once are hung up on.
const MAX_CONNECTIONS: usize = 256;
/// After an error of the system, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is dropped.
pub(super) async fn serve(bound: Bound, here: &Endpoint, shared: &Arc<Shared>) {
    let mut state = shared.state.subscribe();
    let mut listener = bound.listen().ok();
    let mut connections = JoinSet::new();
    loop {
        let line = state.borrow_and_update().line;
        if line == Line::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = here.bind().and_then(Bound::listen).ok();
        }
        tokio::select! {
            _ = state.changed() => {}
            Some(_) = connections.join_next() => {}
            accepted = next(listener.as_ref(), line) => {
                let Ok(client) = accepted else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                shared.connections.fetch_add(1, Ordering::Relaxed);
                // It may have changed since we began to wait.
                match state.borrow().line {
                    Line::HangUp | Line::Refuse => drop(client),
                    Line::Reset => client.reset(),
                    _ if connections.len() >= MAX_CONNECTIONS => drop(client),
                    _ => drop(connections.spawn(one(client, Arc::clone(shared)))),
                }
            }
        }
    }
}

async fn next(listener: Option<&Listener>, line: Line) -> io::Result<Socket> {
    match listener {
        Some(listener) => listener.accept().await,
        None if line == Line::Refuse => std::future::pending().await,
        // Somebody else has the place; perhaps not for long.
        None => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Carries one connection until it ends or is cut.
async fn one(client: Socket, shared: Arc<Shared>) {
    let mut state = shared.state.subscribe();
    let cuts = state.borrow_and_update().cuts;
    tokio::select! {
        // An error on either side is the end of both, as it should be.
        _ = carry(client, &shared) => {}
        _ = state.wait_for(|state| state.cuts != cuts) => {}
    }
}

/// Waits while the line is a black hole.
pub(super) async fn thaw(state: &mut watch::Receiver<State>) {
    // The sender lives as long as the connection does.
    let _ = state.wait_for(|state| state.line != Line::Blackhole).await;
}
