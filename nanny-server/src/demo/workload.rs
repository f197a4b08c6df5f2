//! `nanny demo-service`: plays a model behind an HTTP API of the usual kind.
//!
//! Like a real one it takes a moment to load, during which it is not healthy; it answers its API,
//! writes a log, has a page for people, and ends at once when it is asked to.

use std::convert::Infallible;
use std::env;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::trade::{Done, Trade};
use crate::accept::Limits;
use crate::listen::Listener;
use crate::serving::StopSignals;

/// Which service to play.
#[derive(Debug, Clone, Args)]
#[non_exhaustive]
pub struct DemoServiceArgs {
    /// What it does. Its port is in PORT; LOAD_SECONDS, MODEL, VRAM_GB and SERVICE are optional.
    #[arg(value_name = "TRADE")]
    pub trade: Trade,
}

/// Why a service of the demo does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoServiceError {
    /// It does not know where.
    #[error("{0} is '{1}', which cannot be; set it in the service's manifest, under 'env'")]
    Number(&'static str, String),
    /// Somebody is there already.
    #[error(
        "cannot listen on {0}; set PORT and health_endpoint in the service's manifest to another port"
    )]
    Listen(SocketAddr, #[source] io::Error),
    /// Nobody could end it.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
}

/// Plays a service until it is asked to end.
///
/// # Errors
///
/// If it cannot begin.
pub async fn play(args: DemoServiceArgs) -> Result<ExitCode, DemoServiceError> {
    let mut stop = StopSignals::listen().map_err(DemoServiceError::Signals)?;
    let port = number("PORT", "8000")?;
    let load: f64 = number("LOAD_SECONDS", args.trade.load_seconds())?;
    let no_time = || DemoServiceError::Number("LOAD_SECONDS", load.to_string());
    let load = Duration::try_from_secs_f64(load).ok().filter(|load| *load < DAY);
    let model = Arc::new(Model {
        trade: args.trade,
        service: variable("SERVICE", args.trade.name()),
        model: variable("MODEL", args.trade.model()),
        vram_gb: number("VRAM_GB", "0")?,
        began: Instant::now(),
        load: load.ok_or_else(no_time)?,
        requests: AtomicU64::new(0),
    });
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.map_err(|error| DemoServiceError::Listen(address, error))?;
    say(&format!("{}, process {}", model.service, process::id()));
    if let Ok(devices) = env::var("CUDA_VISIBLE_DEVICES") {
        say(&format!("CUDA_VISIBLE_DEVICES={devices}"));
    }
    say(&format!("listening on port {port}"));

    let mut limits = Limits::default();
    limits.connections = limits.connections.min(CONNECTIONS);
    // To end at once is the point.
    limits.drain = Duration::ZERO;
    let app = Router::new().fallback(answer).with_state(Arc::clone(&model));
    let asked = async {
        let signal = tokio::select! {
            signal = stop.next() => signal,
            never = load_aloud(&model) => match never {},
        };
        say(&format!("{signal}: unloading {}", model.model));
    };
    crate::serve_within(limits, Listener::from(listener), app, asked).await;
    Ok(ExitCode::SUCCESS)
}

/// A model, loaded or on its way.
struct Model {
    trade: Trade,
    service: String,
    model: String,
    vram_gb: u32,
    began: Instant,
    load: Duration,
    requests: AtomicU64,
}

impl Model {
    /// How much of it is loaded, in per cent.
    fn loaded(&self) -> u32 {
        let per_cent = self.began.elapsed().as_millis() * 100 / self.load.as_millis().max(1);
        u32::try_from(per_cent).unwrap_or(100).min(100)
    }

    fn status(&self) -> Value {
        json!({
            "service": self.service,
            "model": self.model,
            "trade": self.trade.name(),
            "vram_gb": self.vram_gb,
            "loaded": self.loaded(),
            "uptime": self.began.elapsed().as_secs(),
            "requests": self.requests.load(Ordering::Relaxed),
            "process": process::id(),
        })
    }

    async fn route(&self, method: &Method, path: &str, request: Request) -> Response {
        let reads = method == Method::GET || method == Method::HEAD;
        let loaded = self.loaded();
        match path {
            "/" if reads => html(PAGE),
            "/status" if reads => json(StatusCode::OK, &self.status()),
            "/health" if reads && loaded < 100 => json(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({"status": "loading", "loaded": loaded}),
            ),
            "/health" if reads => {
                json(StatusCode::OK, &json!({"status": "ok", "model": self.model}))
            }
            "/v1/models" if reads => json(
                StatusCode::OK,
                &json!({"object": "list", "data": [{"id": self.model, "object": "model"}]}),
            ),
            _ => self.work(method, path, request).await,
        }
    }

    /// Whatever only this kind of service does.
    async fn work(&self, method: &Method, path: &str, request: Request) -> Response {
        if !self.trade.answers(method, path) {
            return json(StatusCode::NOT_FOUND, &json!({"error": "no such endpoint"}));
        }
        if self.loaded() < 100 {
            let error = json!({"error": format!("{} is still loading", self.model)});
            return json(StatusCode::SERVICE_UNAVAILABLE, &error);
        }
        let query: Result<Query<Vec<(String, String)>>, _> = Query::try_from_uri(request.uri());
        let query = query.map(|Query(pairs)| pairs).unwrap_or_default();
        let body = axum::body::to_bytes(request.into_body(), BODY_BYTES);
        let body = match tokio::time::timeout(BODY, body).await {
            Ok(Ok(body)) => serde_json::from_slice(&body).unwrap_or(Value::Null),
            Ok(Err(_)) => {
                return json(StatusCode::PAYLOAD_TOO_LARGE, &json!({"error": "too long"}));
            }
            Err(_) => return json(StatusCode::REQUEST_TIMEOUT, &json!({"error": "too slow"})),
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        match self.trade.work(path, &query, &body, &self.model) {
            Done::Json(answer) => json(StatusCode::OK, &answer),
            Done::File(kind, content) => {
                ([(header::CONTENT_TYPE, kind)], Body::from(content)).into_response()
            }
            Done::Nothing(missing) => json(StatusCode::BAD_REQUEST, &json!({"error": missing})),
        }
    }
}

async fn answer(State(model): State<Arc<Model>>, request: Request) -> Response {
    let began = Instant::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response = model.route(&method, uri.path(), request).await;
    response.headers_mut().extend(HeaderMap::from_iter(
        HEADERS.map(|(name, value)| (name, header::HeaderValue::from_static(value))),
    ));
    // What asks every few seconds would drown the rest.
    if !matches!(uri.path(), "/health" | "/status") {
        let (status, took) = (response.status().as_u16(), began.elapsed().as_millis());
        say(&format!("{method} {} {status} in {took} ms", uri.path()));
    }
    response
}

fn html(page: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

fn json(status: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, format!("{body}\n")).into_response()
}

/// Loads, says how far it is, as those who load from a disk do, and is there from then on.
async fn load_aloud(model: &Model) -> Infallible {
    say(&format!("loading {}", model.model));
    for quarter in 1..=4 {
        tokio::time::sleep_until(model.began + model.load * quarter / 4).await;
        say(&format!("loaded {} %", quarter * 25));
    }
    let place = match model.vram_gb {
        0 => "on the processor".to_owned(),
        vram_gb => format!("on the GPU, {vram_gb} GB"),
    };
    say(&format!("ready, {place}"));
    std::future::pending().await
}

/// A line of the log. If nobody reads it any more, that is no reason to end.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{}", crate::telemetry::plain(line));
}

fn variable(name: &str, default: &str) -> String {
    env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

fn number<T: std::str::FromStr>(name: &'static str, default: &str) -> Result<T, DemoServiceError> {
    let text = variable(name, default);
    text.parse().map_err(|_| DemoServiceError::Number(name, text))
}

const PAGE: &str = include_str!("page.html");
const CONNECTIONS: usize = 64;
const BODY_BYTES: usize = 64 * 1024;
const BODY: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(24 * 3600);
const HEADERS: [(header::HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' data:; media-src 'self' blob:; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'",
    ),
];
