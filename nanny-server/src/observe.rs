//! The outermost layer: names each request, logs it, and writes the errors.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::error::{ApiError, Problem};

/// Gives the request its id and its span, answers a panic with 500, and logs one line.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("request", request_id = id.0);
    async {
        let mut entry = AccessLog { method, path, started, status: None };
        let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let mut response = answered.unwrap_or_else(|_| {
            tracing::error!(path = ?entry.path, "a handler panicked");
            ApiError::Panicked.into_response()
        });
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            write(&problem, &entry.method, &entry.path, &mut response);
        }
        finish(&id, &mut response);
        entry.status = Some(response.status());
        response
    }
    .instrument(span)
    .await
}

/// Writes one line when dropped, so that a request whose client hung up has one, too.
struct AccessLog {
    method: Method,
    path: String,
    started: Instant,
    status: Option<StatusCode>,
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let Self { method, path, started, status } = self;
        let duration_ms = started.elapsed().as_micros() as f64 / 1000.0;
        match status.map(|status| status.as_u16()) {
            Some(status) => tracing::info!(%method, ?path, status, duration_ms, "answered"),
            None => tracing::info!(%method, ?path, duration_ms, "the client hung up"),
        }
    }
}

fn write(problem: &Problem, method: &Method, path: &str, response: &mut Response) {
    let document = serde_json::to_string(&problem.document(path)).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    // The routes counted an empty body.
    headers.insert(CONTENT_LENGTH, document.len().into());
    if method != Method::HEAD {
        *response.body_mut() = Body::from(document);
    }
}

fn finish(id: &RequestId, response: &mut Response) {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id.0) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// By what a request is found in the log.
#[derive(Debug)]
struct RequestId(String);

impl RequestId {
    /// The caller's if it is short and printable, else a fresh one.
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        let fits = |id: &&str| {
            (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        given.filter(fits).map_or_else(Self::fresh, |id| Self(id.to_owned()))
    }

    fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = || NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{:016x}", getrandom::u64().unwrap_or_else(|_| next())))
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use axum::{Router, middleware};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_and_says_nothing() {
        let fails = get(async || -> &'static str { panic!("canary") });
        let app = Router::new().route("/", fails).layer(middleware::from_fn(observe));
        let request = Request::builder().uri("/").body(Body::empty()).unwrap();
        let (parts, body) = app.oneshot(request).await.unwrap().into_parts();
        assert_eq!(parts.status, 500);
        assert_eq!(parts.headers[CONTENT_TYPE], "application/problem+json");
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(text.contains("internal_error") && !text.contains("canary"), "{text}");
    }

    fn id(given: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
        RequestId::of(&headers).0
    }

    #[test]
    fn a_short_printable_id_is_kept() {
        assert_eq!(id(b"build-17/a"), "build-17/a");
        assert_eq!(id(&[b'x'; 64]), "x".repeat(64));
    }

    #[test]
    fn any_other_id_is_replaced() {
        for odd in [&b""[..], b"a b", b"\xff", &[b'x'; 65]] {
            let id = id(odd);
            assert_eq!(id.len(), 16);
            assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
        assert_ne!(RequestId::fresh().0, RequestId::fresh().0);
    }
}
