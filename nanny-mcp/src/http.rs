//! The mount: streamable HTTP.

use std::sync::Arc;

use axum::Router;
use nanny_lib::Nanny;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};

use crate::McpConfig;
use crate::server::{Server, Shared};

/// The MCP endpoint over `nanny`, to be mounted with `nest_service`.
pub fn service(nanny: Nanny, config: McpConfig) -> Router {
    let mut sessions = LocalSessionManager::default();
    sessions.session_config.keep_alive = Some(config.session_idle);
    // Whoever mounts this checks the host and the origin.
    let mut http = StreamableHttpServerConfig::default().disable_allowed_hosts();
    http.sse_keep_alive = Some(config.keep_alive);
    http.max_request_body_bytes = BODY_LIMIT;
    let shared = Arc::new(Shared::new(nanny, config));
    let endpoint = StreamableHttpService::new(
        move || Ok(Server::new(Arc::clone(&shared))),
        Arc::new(sessions),
        http,
    );
    Router::new().fallback_service(endpoint)
}

const BODY_LIMIT: usize = 1024 * 1024;
