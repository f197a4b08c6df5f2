//! The mount: streamable HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use nanny_lib::Nanny;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::McpConfig;
use crate::server::{Server, Shared};
use crate::sessions::Sessions;

/// The MCP endpoint over `nanny`, to be mounted with `nest_service`. It ends with the nanny, and so do
/// all its sessions and streams; dropping it ends them, too.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn service(nanny: Nanny, config: McpConfig) -> Router {
    let sessions = Arc::new(Sessions::new(config.session_limit, config.session_idle));
    // Whoever mounts this checks the host and the origin.
    let mut http = StreamableHttpServerConfig::default().disable_allowed_hosts();
    http.sse_keep_alive = Some(config.keep_alive);
    http.max_request_body_bytes = BODY_LIMIT;

    let mut tasks = JoinSet::new();
    let end = http.cancellation_token.clone().drop_guard();
    tasks.spawn(live(nanny.clone(), Arc::clone(&sessions), end));
    let shared = Arc::new(Shared::new(nanny, config));
    let server = move || {
        // It lives as long as this.
        let _ = &tasks;
        Ok(Server::new(Arc::clone(&shared)))
    };
    Router::new()
        .fallback_service(StreamableHttpService::new(server, sessions, http))
        .layer(from_fn(say_that_it_is_done))
}

/// Looks after the sessions for as long as the nanny lives. `_end` ends them all when this does.
async fn live<T>(nanny: Nanny, sessions: Arc<Sessions>, _end: T) {
    tokio::select! {
        () = nanny.ended() => sleep(LAST_WORDS).await,
        () = sessions.look_after() => {}
    }
}

/// A session that was ended by its client is ended: there is nothing left that would be accepted.
async fn say_that_it_is_done(request: Request, next: Next) -> Response {
    let is_end = request.method() == Method::DELETE;
    let mut response = next.run(request).await;
    if is_end && response.status() == StatusCode::ACCEPTED {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    response
}

const BODY_LIMIT: usize = 1024 * 1024;
/// For streams to say that they have ended, before they are cut off.
const LAST_WORDS: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
