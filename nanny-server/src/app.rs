//! The router with its layers around it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::{Router, middleware};
use nanny_lib::{Error, Nanny};

use crate::edge::EdgeConfig;
use crate::error::ApiError;
use crate::guard::{Guard, guard};
use crate::observe::observe;
use crate::routes::routes;

/// The whole API over `nanny`, for those whom `edge` lets in.
///
/// Needs no socket: a request may be handed to it directly. Without the server's own accept loop
/// every request counts as one that came over TCP, so it needs a `Host` header, and the token if
/// there is one.
///
/// ```
/// use nanny_server::EdgeConfig;
///
/// fn api(nanny: nanny_lib::Nanny) -> axum::Router {
///     nanny_server::app(nanny, EdgeConfig::new(([127, 0, 0, 1], 8080).into()))
/// }
/// ```
pub fn app(nanny: Nanny, edge: EdgeConfig) -> Router {
    // As a fallback of an empty router, so that the layers run before the routing.
    Router::new()
        .fallback_service(all(&nanny, &edge))
        .layer(middleware::from_fn_with_state(nanny, while_it_lasts))
        .layer(middleware::from_fn_with_state(Arc::new(Guard::new(edge)), guard))
        .layer(middleware::from_fn(observe))
}

fn all(nanny: &Nanny, edge: &EdgeConfig) -> Router {
    let routes = routes(nanny.clone());
    #[cfg(feature = "mcp")]
    if let Some(mcp) = edge.mcp.clone() {
        return routes.nest_service("/mcp", nanny_mcp::service(nanny.clone(), mcp));
    }
    let _ = edge;
    routes
}

/// Whoever still waits for something else than the nanny when it ends, such as an engine's log or the
/// rest of a body, is told so like those who wait for the nanny itself.
async fn while_it_lasts(State(nanny): State<Nanny>, request: Request, next: Next) -> Response {
    tokio::select! {
        biased;
        response = next.run(request) => response,
        () = nanny.ended() => ApiError::from(Error::ShuttingDown).into_response(),
    }
}
