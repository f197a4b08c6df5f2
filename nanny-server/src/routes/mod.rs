//! The map of routes. Handlers are thin: they read the request, ask the nanny, and answer.

mod control;
mod gpus;
mod health;
mod logs;
mod services;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, get, post};
use nanny_lib::Nanny;

use crate::error::ApiError;

/// All routes, without the layers around them.
pub(crate) fn routes(nanny: Nanny) -> Router {
    let routes = [
        ("/gpus", get(gpus::list)),
        ("/health", get(health::health)),
        ("/services", get(services::list)),
        ("/services/{name}", get(services::show)),
        ("/services/{name}/status", get(services::status)),
        ("/services/{name}/logs", get(logs::logs)),
        ("/services/{name}/plan", get(control::plan)),
        ("/services/{name}/start", post(control::start)),
        ("/services/{name}/stop", post(control::stop)),
        ("/services/{name}/restart", post(control::restart)),
        ("/rediscover", post(control::rediscover)),
    ];
    let root = Router::new().route("/", get(health::welcome));
    routes
        .into_iter()
        .fold(root, |router, (path, methods)| with_and_without_slash(router, path, methods))
        .fallback(async || ApiError::NoRoute)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .with_state(nanny)
}

/// Only known paths are redirected, so that no request can make us name a foreign place.
fn with_and_without_slash(
    router: Router<Nanny>,
    path: &str,
    methods: MethodRouter<Nanny>,
) -> Router<Nanny> {
    router.route(path, methods).route(&format!("{path}/"), any(without_slash))
}

async fn without_slash(request: Request) -> Response {
    let uri = request.uri();
    let path = uri.path().trim_end_matches('/');
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    match HeaderValue::from_str(&format!("{path}{query}")) {
        Ok(place) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, place)]).into_response(),
        Err(_) => ApiError::NoRoute.into_response(),
    }
}

/// The `{name}` of a path, percent-decoded.
type Name = Result<Path<String>, PathRejection>;

fn name(path: Name) -> Result<String, ApiError> {
    path.map(|Path(name)| name).map_err(|_| ApiError::BadPath)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn redirected(target: &str) -> Option<String> {
        let request = Request::builder().uri(target).body(axum::body::Body::empty()).unwrap();
        let response = without_slash(request).await;
        assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
        response.headers().get(LOCATION).map(|place| place.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_redirect_drops_the_slash_and_keeps_the_query() {
        assert_eq!(redirected("/services/").await.unwrap(), "/services");
        assert_eq!(redirected("/services/a%20b/?x=/").await.unwrap(), "/services/a%20b?x=/");
    }
}
