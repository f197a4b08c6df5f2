//! The router with its layers around it.

use std::sync::Arc;

use axum::{Router, middleware};
use nanny_lib::Nanny;

use crate::edge::EdgeConfig;
use crate::guard::guard;
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
        .fallback_service(routes(nanny))
        .layer(middleware::from_fn_with_state(Arc::new(edge), guard))
        .layer(middleware::from_fn(observe))
}
