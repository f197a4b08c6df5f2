//! What is done to whom.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::endpoint::Endpoint;

/// What happens to connections as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Line {
    /// They are carried.
    Open,
    /// Nobody listens: connecting fails.
    Refuse,
    /// They are accepted, and closed at once.
    HangUp,
    /// They are accepted, and reset; on a unix socket that is a hang-up.
    Reset,
    /// They are accepted, and nothing is ever read or answered. Those that are open freeze, and
    /// thaw when the line is open again.
    Blackhole,
}

/// What happens to a request, or to its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not carried; the connection is reset.
    Refuse,
    /// It is not carried, and nothing ever answers.
    Swallow,
    /// It is carried so much later, even if the client has gone away by then.
    Late(Duration),
    /// It is carried and carried out; the connection closes instead of a reply.
    LoseReply,
    /// It is carried and carried out; the reply comes so much later.
    HoldReply(Duration),
    /// The connection closes after so many bytes of the reply.
    CutReply(usize),
    /// The reply comes in pieces of so many bytes.
    SliceReply(usize),
    /// Every chunk of the reply comes twice, as events may.
    RepeatChunks,
    /// The reply's chunks are lost, and the reply does not end: a stream that is silent.
    LoseChunks,
}

/// Picks requests, by method and path.
#[derive(Debug, Clone)]
pub struct Requests {
    method: Option<String>,
    path: Option<Vec<String>>,
}

impl Requests {
    /// Those with this method and path. In the path, `*` is any one segment; the version of the
    /// API and the query do not count.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        let path = path.split('/').map(str::to_owned).collect();
        Self { method: Some(method.to_owned()), path: Some(path) }
    }

    /// All of them.
    #[must_use]
    pub fn any() -> Self {
        Self { method: None, path: None }
    }

    fn picks(&self, method: &str, path: &str) -> bool {
        let segment = |(wanted, found): (&String, &str)| wanted == "*" || wanted == found;
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.path.as_ref().is_none_or(|wanted| {
                let found: Vec<_> = path.split('/').collect();
                wanted.len() == found.len() && wanted.iter().zip(found).all(segment)
            })
    }
}

/// How often a fault has struck: for one that lets the engine act, how often that has answered.
#[derive(Debug, Clone, Default)]
pub struct Hits(Arc<AtomicU32>);

impl Hits {
    /// So often, so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Rule {
    requests: Requests,
    fault: Fault,
    left: Option<u32>,
    hits: Hits,
}

/// What the proxy's handle and its connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) upstream: Endpoint,
    pub(super) connections: AtomicU64,
    pub(super) state: watch::Sender<State>,
    rules: Mutex<Vec<Rule>>,
    requests: Mutex<VecDeque<String>>,
}

/// The line, and how often it was cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) line: Line,
    pub(super) cuts: u64,
}

const MAX_REQUESTS: usize = 4096;

impl Shared {
    pub(super) fn new(upstream: Endpoint) -> Self {
        Self {
            upstream,
            connections: AtomicU64::new(0),
            state: watch::Sender::new(State { line: Line::Open, cuts: 0 }),
            rules: Mutex::default(),
            requests: Mutex::default(),
        }
    }

    pub(super) fn set_line(&self, line: Line) {
        self.state.send_modify(|state| {
            state.line = line;
            state.cuts += u64::from(!matches!(line, Line::Open | Line::Blackhole));
        });
    }

    pub(super) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    pub(super) fn add(&self, requests: Requests, fault: Fault, left: Option<u32>) -> Hits {
        let hits = Hits::default();
        lock(&self.rules).push(Rule { requests, fault, left, hits: hits.clone() });
        hits
    }

    pub(super) fn clear(&self) {
        lock(&self.rules).clear();
    }

    pub(super) fn requests(&self) -> Vec<String> {
        lock(&self.requests).iter().cloned().collect()
    }

    /// Takes note of a request, and says what is to be done to it: what was asked for first.
    pub(super) fn decide(&self, method: &str, path: &str) -> Option<(Fault, Hits)> {
        let mut requests = lock(&self.requests);
        if requests.len() == MAX_REQUESTS {
            requests.pop_front();
        }
        requests.push_back(format!("{method} {path}"));
        drop(requests);
        let mut rules = lock(&self.rules);
        let fits = |rule: &&mut Rule| rule.left != Some(0) && rule.requests.picks(method, path);
        let rule = rules.iter_mut().find(fits)?;
        rule.left = rule.left.map(|left| left - 1);
        Some((rule.fault, rule.hits.clone()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_segment() {
        let starts = Requests::new("POST", "/containers/*/start");
        assert!(starts.picks("POST", "/containers/1/start"));
        assert!(!starts.picks("POST", "/containers/1/2/start"));
        assert!(!starts.picks("POST", "/containers/1/stop"));
        assert!(!starts.picks("GET", "/containers/1/start"));
        assert!(Requests::any().picks("GET", "/"));
    }

    #[test]
    fn what_is_to_happen_once_happens_once() {
        let shared = Shared::new(Endpoint::loopback(0));
        shared.add(Requests::any(), Fault::Swallow, Some(1));
        shared.add(Requests::new("GET", "/b"), Fault::Refuse, None);
        let fault = |path| shared.decide("GET", path).map(|(fault, _)| fault);
        assert_eq!(fault("/b"), Some(Fault::Swallow));
        assert_eq!(fault("/b"), Some(Fault::Refuse));
        assert_eq!(fault("/a"), None);
        shared.clear();
        assert_eq!(fault("/b"), None);
        assert_eq!(shared.requests(), ["GET /b", "GET /b", "GET /a", "GET /b"]);
    }
}
