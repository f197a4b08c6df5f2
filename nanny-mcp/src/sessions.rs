//! The sessions of the older revisions: how many there may be, and when one has ended.
//!
//! A client that goes away without a word leaves its session behind. One that nobody used for long
//! enough ends, as long as nobody listens to it either: whoever has its stream open waits for news,
//! and may wait for days. If there are too many, the one that was idle for longest makes way; its
//! client, should it come back, is told that its session is gone and begins another. One that is in use
//! makes way for nobody: whoever comes then is refused.

use std::cell::Cell;
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
        while let Some(id) = self.uses.take_idle(self.idle) {
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

    /// Ends the stream on which a session is told of news, if there is one: whoever opens another has
    /// lost it, and knows so before we do. The library would leave the new one silent for as long as
    /// the old one seems to live.
    async fn give_up_stream(&self, id: &SessionId) {
        let handle = self.sessions.sessions.read().await.get(id).cloned();
        if let Some(handle) = handle {
            let closed = timeout(CLOSE, handle.close_standalone_sse_stream(None)).await;
            tracing::trace!(?closed, "a stream makes way for a new one");
        }
    }

    /// Notes that a session is used, until what is returned is dropped.
    fn using(&self, id: &SessionId) -> Use {
        self.uses.begin(id);
        Use { uses: Arc::clone(&self.uses), id: SessionId::clone(id) }
    }
}

impl SessionManager for Sessions {
    type Error = SessionError;
    type Transport = WorkerTransport<LocalSessionWorker>;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        let _turn = self.beginning.lock().await;
        self.end_idle().await;
        while self.uses.count() >= self.limit {
            let Some(id) = self.uses.take_idle(Duration::ZERO) else {
                // Nobody notes it where the manager is used without the endpoint.
                let _ = TURNED_AWAY.try_with(|turned_away| turned_away.set(true));
                return Err(SessionError::TooMany(self.limit));
            };
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
        Ok(self.sessions.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        Ok(self.sessions.has_session(id).await?)
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
        Ok(self.sessions.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let using = self.using(id);
        self.give_up_stream(id).await;
        Ok(held(self.sessions.create_standalone_stream(id).await?, using))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let using = self.using(id);
        let is_standalone = !last_event_id.contains('/');
        if is_standalone {
            self.give_up_stream(id).await;
        }
        Ok(held(self.sessions.resume(id, last_event_id).await?, using))
    }
}

tokio::task_local! {
    /// Whether the request that is being answered was turned away for want of room.
    static TURNED_AWAY: Cell<bool>;
}

/// What the library answers, and whether it was to turn somebody away because all sessions are in use:
/// it calls that an error of its own, as it does all that a session manager refuses.
pub(crate) async fn noting_refusal<T>(answer: impl Future<Output = T>) -> (T, bool) {
    let noted = async { (answer.await, TURNED_AWAY.with(Cell::get)) };
    TURNED_AWAY.scope(Cell::new(false), noted).await
}

/// Why there is no such session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("all {0} sessions are in use; end one of them, or try again later")]
    TooMany(usize),
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
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

    fn count(&self) -> usize {
        self.lock().len()
    }

    /// Forgets the one that was used the longest time ago, of those that nobody has used for so long,
    /// nor listens to.
    fn take_idle(&self, idle: Duration) -> Option<SessionId> {
        let mut uses = self.lock();
        let idle = uses.iter().filter(|(_, it)| it.open == 0 && it.last.elapsed() >= idle);
        let (_, id) = idle.map(|(id, it)| (it.last, SessionId::clone(id))).min()?;
        uses.remove(&id);
        Some(id)
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
