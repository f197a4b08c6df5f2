//! The sessions of the older revisions: how many there may be, and when one has ended.
//!
//! A client that goes away without a word leaves its session behind. One that nobody used for long
//! enough ends, as long as nobody listens to it either: whoever has its stream open waits for news,
//! and may wait for days. If there are too many, the one that was idle for longest makes way; its
//! client, should it come back, is told that its session is gone and begins another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::WorkerTransport;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, LocalSessionWorker,
};
use rmcp::transport::streamable_http_server::session::{
    ServerSseMessage, SessionId, SessionManager,
};
use tokio::time::{Instant, sleep, timeout};

/// The sessions, and when each was used last.
#[derive(Debug)]
pub(crate) struct Sessions {
    sessions: LocalSessionManager,
    uses: Arc<Uses>,
    /// One begins after the other, so that there are never too many.
    beginning: tokio::sync::Mutex<()>,
    limit: usize,
    idle: Duration,
}

impl Sessions {
    /// At most `limit` sessions, each of which ends once it was `idle` for so long.
    pub(crate) fn new(limit: usize, idle: Duration) -> Self {
        let mut sessions = LocalSessionManager::default();
        // It would end a session that has an open stream, and never one that is told of something.
        sessions.session_config.keep_alive = None;
        let (uses, beginning) = (Arc::default(), tokio::sync::Mutex::default());
        Self { sessions, uses, beginning, limit: limit.max(1), idle }
    }

    /// Ends what is idle for too long, now and then, forever.
    pub(crate) async fn look_after(&self) {
        loop {
            sleep((self.idle / 4).clamp(MIN_PAUSE, MAX_PAUSE)).await;
            self.end_idle().await;
        }
    }

    async fn end_idle(&self) {
        for id in self.uses.idle_for(self.idle) {
            tracing::debug!("a session that nobody used has ended");
            self.end(&id).await;
        }
    }

    /// Ends a session, whether or not it is in a state to take note of it.
    async fn end(&self, id: &SessionId) {
        self.uses.forget(id);
        let closed = timeout(CLOSE, self.sessions.close_session(id)).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::debug!(?closed, "a session did not take note of its end");
        }
    }

    /// Notes that a session is used, until what is returned is dropped.
    fn using(&self, id: &SessionId) -> Use {
        self.uses.begin(id);
        Use { uses: Arc::clone(&self.uses), id: SessionId::clone(id) }
    }
}

impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = WorkerTransport<LocalSessionWorker>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let _turn = self.beginning.lock().await;
        self.end_idle().await;
        for id in self.uses.beyond(self.limit - 1) {
            tracing::info!(limit = self.limit, "too many sessions: the one idle for longest ends");
            self.end(&id).await;
        }
        let (id, transport) = self.sessions.create_session().await?;
        self.uses.add(&id);
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        let _using = self.using(id);
        self.sessions.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.sessions.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.end(id).await;
        Ok(())
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let using = self.using(id);
        Ok(held(self.sessions.create_stream(id, message).await?, using))
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        let _using = self.using(id);
        self.sessions.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let using = self.using(id);
        Ok(held(self.sessions.create_standalone_stream(id).await?, using))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let using = self.using(id);
        Ok(held(self.sessions.resume(id, last_event_id).await?, using))
    }
}

/// `stream`, which is a use of its session for as long as it lives.
fn held<S: Stream>(stream: S, using: Use) -> impl Stream<Item = S::Item> {
    stream.map(move |item| {
        let _ = &using;
        item
    })
}

/// When each session was used last.
#[derive(Debug, Default)]
struct Uses(Mutex<HashMap<SessionId, Activity>>);

#[derive(Debug)]
struct Activity {
    /// Requests under way, and streams that somebody listens to.
    open: usize,
    last: Instant,
}

impl Uses {
    fn add(&self, id: &SessionId) {
        self.lock().insert(SessionId::clone(id), Activity { open: 0, last: Instant::now() });
    }

    fn forget(&self, id: &SessionId) {
        self.lock().remove(id);
    }

    fn begin(&self, id: &SessionId) {
        if let Some(activity) = self.lock().get_mut(id) {
            activity.open += 1;
            activity.last = Instant::now();
        }
    }

    fn end(&self, id: &SessionId) {
        if let Some(activity) = self.lock().get_mut(id) {
            activity.open = activity.open.saturating_sub(1);
            activity.last = Instant::now();
        }
    }

    /// Those that nobody has used for so long, nor listens to.
    fn idle_for(&self, idle: Duration) -> Vec<SessionId> {
        let uses = self.lock();
        let idle = uses.iter().filter(|(_, it)| it.open == 0 && it.last.elapsed() >= idle);
        idle.map(|(id, _)| SessionId::clone(id)).collect()
    }

    /// Those that are too many: the ones that nobody listens to first, then the ones that were used
    /// the longest time ago.
    fn beyond(&self, limit: usize) -> Vec<SessionId> {
        let uses = self.lock();
        let mut all: Vec<_> = uses.iter().map(|(id, it)| (it.open > 0, it.last, id)).collect();
        all.sort();
        let too_many = all.len().saturating_sub(limit);
        all.into_iter().take(too_many).map(|(_, _, id)| SessionId::clone(id)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Activity>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A use of a session.
#[derive(Debug)]
struct Use {
    uses: Arc<Uses>,
    id: SessionId,
}

impl Drop for Use {
    fn drop(&mut self) {
        self.uses.end(&self.id);
    }
}

/// For a session to take note of its end.
const CLOSE: Duration = Duration::from_secs(1);
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(60);
