//! What an assistant may do, and how long things take.

use std::time::Duration;

/// What an assistant may do, and how long things take.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct McpConfig {
    /// Nothing is started or stopped; the tools that would are not there.
    pub read_only: bool,
    /// Whether a start may stop other services.
    pub force: Force,
    /// For how long a start, or a stop, is waited for before the answer is that it goes on: 45 s, less
    /// than the minute after which clients give up.
    pub start_wait: Duration,
    /// At most so many characters of text in one result: 50,000. A tool's result has them twice, as
    /// text and as structured content.
    pub output_limit: usize,
    /// A session of the older revisions ends if it was idle for so long: a day.
    pub session_idle: Duration,
    /// How often an open stream without news says that it is there: 15 s.
    pub keep_alive: Duration,
    /// News of one log are told at most so often: 1 s.
    pub log_pause: Duration,
    /// News of the metrics are told so often: 5 s.
    pub metrics_pause: Duration,
    /// At most so many sessions of the older revisions at once: 64.
    pub session_limit: usize,
}

impl Default for McpConfig {
    fn default() -> Self {
        Self {
            read_only: false,
            force: Force::Ask,
            start_wait: Duration::from_secs(45),
            output_limit: 50_000,
            session_idle: Duration::from_secs(24 * 60 * 60),
            keep_alive: Duration::from_secs(15),
            log_pause: Duration::from_secs(1),
            metrics_pause: Duration::from_secs(5),
            session_limit: 64,
        }
    }
}

/// Whether an assistant may have other services stopped for the one that is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Force {
    /// If the user says so; a client that cannot ask its user is refused.
    #[default]
    Ask,
    /// As [`Ask`](Self::Ask), but a client that cannot ask its user goes ahead; and without `force`,
    /// a policy that has some make way by themselves may do so.
    Always,
    /// Never.
    Never,
}
