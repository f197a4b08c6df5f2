//! The mount: streamable HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use nanny_lib::Nanny;
use rmcp::model::ErrorCode;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::McpConfig;
use crate::server::{Server, Shared};
use crate::sessions::{self, Sessions};

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
        .layer(from_fn(with_the_right_status))
}

/// Looks after the sessions for as long as the nanny lives. `_end` ends them all when this does.
async fn live<T>(nanny: Nanny, sessions: Arc<Sessions>, _end: T) {
    tokio::select! {
        () = nanny.ended() => sleep(LAST_WORDS).await,
        () = sessions.look_after() => {}
    }
}

/// What the library answers, with the status that clients go by where it has another:
///
/// - a session that its client ended is ended, and not only about to be;
/// - a body that is no message is a bad request, whatever its type said;
/// - whoever finds all sessions in use may come again.
async fn with_the_right_status(request: Request, next: Next) -> Response {
    let is_end = request.method() == Method::DELETE;
    let is_json = says_json(request.headers());
    let (mut response, turned_away) = sessions::noting_refusal(next.run(request)).await;
    match response.status() {
        StatusCode::ACCEPTED if is_end => *response.status_mut() = StatusCode::NO_CONTENT,
        StatusCode::UNSUPPORTED_MEDIA_TYPE if is_json => return no_message(),
        StatusCode::INTERNAL_SERVER_ERROR if turned_away => {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert(header::RETRY_AFTER, COME_AGAIN);
        }
        _ => {}
    }
    response
}

fn says_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// The answer to what no request can be read from, so that it names none.
fn no_message() -> Response {
    let message = "the body is not one JSON-RPC message";
    let error = json!({
        "jsonrpc": "2.0",
        "id": null,
        "error": {"code": ErrorCode::PARSE_ERROR, "message": message},
    });
    let json = HeaderValue::from_static("application/json");
    (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, json)], error.to_string()).into_response()
}

const BODY_LIMIT: usize = 1024 * 1024;
/// In seconds: clients come and go.
const COME_AGAIN: HeaderValue = HeaderValue::from_static("10");
/// For streams to say that they have ended, before they are cut off.
const LAST_WORDS: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
