use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower::ServiceExt as _;

use crate::McpConfig;
use crate::testing::{House, cpu};

const MINUTE: Duration = Duration::from_secs(60);

/// The endpoint, and whoever talks to it.
struct Endpoint {
    house: House,
    app: Router,
}

impl Endpoint {
    async fn new(change: impl FnOnce(&mut McpConfig)) -> Self {
        let house = House::with([cpu("a")], |config| {
            // It goes by the clock on the wall, which a paused one leaves behind.
            config.keep_alive = MINUTE * 60 * 24 * 365;
            change(config);
        })
        .await;
        let app = super::service(house.nanny.clone(), house.shared.config.clone());
        Self { house, app }
    }

    async fn send(&self, method: Method, headers: &[(&str, &str)], body: String) -> Response<Body> {
        let mut request = Request::builder()
            .method(method)
            .uri("/")
            .header("host", "localhost")
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).expect("a sound request");
        self.app.clone().oneshot(request).await.expect("it answers")
    }

    /// Asks for a session, and gives its identifier.
    async fn initialize(&self) -> String {
        let answer = self.send(Method::POST, &[], initialize().to_string()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.headers()["mcp-session-id"].to_str().expect("it is text").to_owned()
    }

    /// Begins a session, and gives its identifier.
    async fn begin(&self) -> String {
        let id = self.initialize().await;
        let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(self.tell(&id, &done).await.status(), StatusCode::ACCEPTED);
        id
    }

    async fn tell(&self, session: &str, message: &Value) -> Response<Body> {
        self.send(Method::POST, &[("mcp-session-id", session)], message.to_string()).await
    }

    /// The answer to a request in a session.
    async fn ask(&self, session: &str, method: &str, params: Value) -> Value {
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        let answer = self.tell(session, &message).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let mut stream = Stream::new(answer);
        stream.next(MINUTE).await.expect("there is an answer")
    }

    async fn is_there(&self, session: &str) -> bool {
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        self.tell(session, &ping).await.status() == StatusCode::OK
    }

    /// Opens a session's stream.
    async fn stream(&self, session: &str) -> Stream {
        let answer = self.send(Method::GET, &[("mcp-session-id", session)], String::new()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        Stream::new(answer)
    }

    async fn subscribe(&self, session: &str, uri: &str) {
        let answer = self.ask(session, "resources/subscribe", json!({ "uri": uri })).await;
        assert!(answer.get("result").is_some(), "{answer}");
    }
}

fn initialize() -> Value {
    let params = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    });
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
}

/// A stream of events.
struct Stream {
    body: Body,
    text: String,
}

impl Stream {
    fn new(answer: Response<Body>) -> Self {
        Self { body: answer.into_body(), text: String::new() }
    }

    /// The next message, if there is one within `time`.
    async fn next(&mut self, time: Duration) -> Option<Value> {
        let end = Instant::now() + time;
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data:"));
                let message = data.and_then(|data| serde_json::from_str(data.trim()).ok());
                self.text = rest.to_owned();
                if message.is_some() {
                    return message;
                }
            }
            let frame = timeout_at(end, self.body.frame()).await.ok()??;
            let data = frame.expect("the stream is sound").into_data().expect("it has no trailers");
            self.text.push_str(std::str::from_utf8(&data).expect("it is text"));
        }
    }

    /// Waits until it has ended.
    async fn end(mut self) {
        timeout(MINUTE, async { while self.body.frame().await.is_some() {} })
            .await
            .expect("it ends");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_initialize_is_refused_and_the_session_lives_on() {
    let endpoint = Endpoint::new(|_| {}).await;
    let session = endpoint.begin().await;
    for version in ["2025-11-25", "2026-07-28", "2099-01-01"] {
        let mut again = initialize();
        again["params"]["protocolVersion"] = json!(version);
        let answer = endpoint.ask(&session, "initialize", again["params"].clone()).await;
        assert_eq!(answer["error"]["code"], -32600, "{answer}");
        assert_eq!(answer["error"]["message"], "already initialized");
    }
    assert!(endpoint.is_there(&session).await);
    endpoint.subscribe(&session, "service://status").await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_is_told_however_long_nothing_happened() {
    let endpoint = Endpoint::new(|config| config.session_idle = MINUTE).await;
    let session = endpoint.begin().await;
    endpoint.subscribe(&session, "service://status/a").await;
    let mut stream = endpoint.stream(&session).await;
    assert_eq!(stream.next(MINUTE * 60).await, None);
    endpoint.house.start("a").await;
    let told = stream.next(MINUTE).await.expect("it is told");
    assert_eq!(told["params"]["uri"], "service://status/a");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_uses_ends_even_if_it_is_told_of_something() {
    let endpoint = Endpoint::new(|config| config.session_idle = MINUTE).await;
    let session = endpoint.begin().await;
    endpoint.subscribe(&session, "service://metrics").await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    drop(endpoint.stream(&session).await);
    for _ in 0..5 {
        sleep(MINUTE / 2).await;
        assert!(endpoint.is_there(&session).await, "whoever uses it keeps it");
    }
    sleep(MINUTE * 2).await;
    assert!(!endpoint.is_there(&session).await);
    let after = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(after < before, "{after} tasks after {before}");
}

#[tokio::test(start_paused = true)]
async fn of_too_many_sessions_the_one_that_was_idle_for_longest_makes_way() {
    let endpoint = Endpoint::new(|config| config.session_limit = 3).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(endpoint.begin().await);
        sleep(Duration::from_secs(1)).await;
    }
    let stream = endpoint.stream(&sessions[0]).await;
    let fourth = endpoint.begin().await;
    assert!(!endpoint.is_there(&sessions[1]).await, "the others are younger, or listened to");
    for session in [&sessions[0], &sessions[2], &fourth] {
        assert!(endpoint.is_there(session).await);
    }
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn if_all_are_listened_to_none_makes_way() {
    let endpoint = Endpoint::new(|config| config.session_limit = 2).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let session = endpoint.begin().await;
        streams.push((endpoint.stream(&session).await, session));
    }
    let message = initialize().to_string();
    let refused = endpoint.send(Method::POST, &[], message).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    let words = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&words).contains("all 2 sessions are in use"), "{words:?}");
    for (_, session) in &streams {
        assert!(endpoint.is_there(session).await);
    }
    drop(streams.pop());
    let session = endpoint.begin().await;
    assert!(endpoint.is_there(&session).await);
}

#[tokio::test(start_paused = true)]
async fn the_newest_stream_of_a_session_is_told_while_an_older_one_seems_to_live() {
    let endpoint = Endpoint::new(|_| {}).await;
    let session = endpoint.begin().await;
    let lost = endpoint.stream(&session).await;
    let mut stream = endpoint.stream(&session).await;
    endpoint.subscribe(&session, "service://status").await;
    endpoint.house.start("a").await;
    let told = stream.next(Duration::from_secs(10)).await.expect("it is told");
    assert_eq!(told["params"]["uri"], "service://status");
    lost.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_sessions_at_once_are_no_more_than_the_limit() {
    let endpoint = Endpoint::new(|config| config.session_limit = 4).await;
    let message = initialize().to_string();
    let begin = || endpoint.send(Method::POST, &[], message.clone());
    let begun = futures_util::future::join_all((0..20).map(|_| begin())).await;
    let mut left = 0;
    // Those that came while all were beginning were refused.
    for session in begun.iter().filter_map(|answer| answer.headers().get("mcp-session-id")) {
        left += usize::from(endpoint.is_there(session.to_str().unwrap()).await);
    }
    assert_eq!(left, 4);
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_is_gone() {
    let endpoint = Endpoint::new(|_| {}).await;
    let session = endpoint.begin().await;
    let stream = endpoint.stream(&session).await;
    let header = [("mcp-session-id", session.as_str())];
    let answer = endpoint.send(Method::DELETE, &header, String::new()).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    stream.end().await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    assert_eq!(endpoint.tell(&session, &ping).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_a_mebibyte_is_refused() {
    let endpoint = Endpoint::new(|_| {}).await;
    let mut large = initialize();
    large["params"]["clientInfo"]["name"] = json!("x".repeat(1024 * 1024));
    let answer = endpoint.send(Method::POST, &[], large.to_string()).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_message_is_a_bad_request() {
    let endpoint = Endpoint::new(|_| {}).await;
    for body in ["", "{", "[]", "7", r#"{"jsonrpc": "1.0"}"#] {
        let answer = endpoint.send(Method::POST, &[], body.to_owned()).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        let answer = answer.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(-32700)));
    }
}

#[tokio::test(start_paused = true)]
async fn every_stream_ends_with_the_nanny() {
    let endpoint = Endpoint::new(|_| {}).await;
    let session = endpoint.begin().await;
    let older = endpoint.stream(&session).await;
    let mut newer = Stream::new(endpoint.listen("service://status").await);
    assert!(newer.next(MINUTE).await.is_some(), "it is acknowledged");
    endpoint.house.nanny.shutdown().await;
    let last = newer.next(MINUTE).await.expect("it says that it has ended");
    assert!(last.get("result").is_some(), "{last}");
    newer.end().await;
    older.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_an_endpoint_that_is_dropped() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let endpoint = Endpoint::new(|_| {}).await;
    let session = endpoint.begin().await;
    endpoint.subscribe(&session, "service://logs/a").await;
    let stream = endpoint.stream(&session).await;
    let newer = Stream::new(endpoint.listen("service://metrics").await);
    let Endpoint { house, app } = endpoint;
    drop(app);
    stream.end().await;
    newer.end().await;
    house.nanny.shutdown().await;
    drop(house);
    sleep(MINUTE).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), before);
}

impl Endpoint {
    /// Listens, as a client of 2026-07-28.
    async fn listen(&self, uri: &str) -> Response<Body> {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({"_meta": meta, "notifications": {"resourceSubscriptions": [uri]}});
        let listen = json!({
            "jsonrpc": "2.0", "id": 9, "method": "subscriptions/listen", "params": params,
        });
        let headers =
            [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen")];
        let answer = self.send(Method::POST, &headers, listen.to_string()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer
    }
}
