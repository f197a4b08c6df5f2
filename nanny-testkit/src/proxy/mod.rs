//! A fault proxy: stands between a client and an engine, and does to them what networks, crashes
//! and time do.
//!
//! It carries HTTP/1.1 over unix sockets and TCP, from either to either. A [`Line`] is what happens
//! to connections as a whole; a [`Fault`] is what happens to requests that a [`Requests`] picks, so
//! that a test can say "lose the reply of the next start".
//!
//! It runs on a thread and a clock of its own: tests that block can use it, and so can tests that
//! await. Everything is bounded, and dropping it ends it, with all its connections.
//!
//! ```
//! use nanny_testkit::proxy::{Endpoint, Fault, Proxy, Requests};
//!
//! # fn main() -> std::io::Result<()> {
//! # let folder = std::env::temp_dir().join(format!("proxy-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! let engine = Endpoint::unix("/var/run/docker.sock");
//! let proxy = Proxy::start(&Endpoint::unix(folder.join("engine.sock")), engine)?;
//! let lost = proxy.once(Requests::new("POST", "/containers/*/start"), Fault::LoseReply);
//! // A client of `proxy.endpoint()` starts a container, and never hears of it.
//! assert_eq!(lost.count(), 0);
//! # drop(proxy);
//! # std::fs::remove_dir_all(folder)
//! # }
//! ```

mod accept;
mod carry;
mod endpoint;
mod http;
mod rule;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use self::endpoint::Endpoint;
pub use self::rule::{Fault, Hits, Line, Requests};

use self::rule::Shared;

/// A proxy in front of an engine. See the [module](self).
pub struct Proxy {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens at `listen` and carries to `upstream`, which need not be there yet. A TCP port of 0
    /// is chosen by the system.
    ///
    /// # Errors
    ///
    /// If nobody can listen there.
    pub fn start(listen: &Endpoint, upstream: Endpoint) -> io::Result<Self> {
        let bound = listen.bind()?;
        let endpoint = bound.endpoint(listen)?;
        let shared = Arc::new(Shared::new(upstream));
        let (end, ended) = oneshot::channel();
        let (here, theirs) = (endpoint.clone(), Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread =
            std::thread::Builder::new().name("fault proxy".to_owned()).spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept::serve(bound, &here, &theirs) => {}
                        _ = ended => {}
                    }
                });
            })?;
        Ok(Self { endpoint, shared, end: Some(end), thread: Some(thread) })
    }

    /// Where clients find it.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Does something to all connections, from now on. All but [`Line::Open`] and
    /// [`Line::Blackhole`] end those that are open.
    pub fn line(&self, line: Line) {
        self.shared.set_line(line);
    }

    /// Ends all connections that are open; new ones are welcome.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Does `fault` to the next request that `requests` picks.
    pub fn once(&self, requests: Requests, fault: Fault) -> Hits {
        self.shared.add(requests, fault, Some(1))
    }

    /// Does `fault` to every request that `requests` picks, until [`clear`](Self::clear).
    pub fn always(&self, requests: Requests, fault: Fault) -> Hits {
        self.shared.add(requests, fault, None)
    }

    /// Forgets all faults. What they have begun goes on.
    pub fn clear(&self) {
        self.shared.clear();
    }

    /// How many connections clients have made, turned away or not.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The last requests, as `POST /containers/1/start`: without query and version of the API.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.connections();
        f.debug_struct("Proxy")
            .field("endpoint", &self.endpoint)
            .field("connections", &connections)
            .finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // If it panicked, clients saw that.
            let _ = thread.join();
        }
        self.endpoint.remove_file();
    }
}
