//! Requests made up at random: none is a fault of the server, and every error is a problem
//! document.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use nanny_lib::backend::{ContainerBackend as _, Selector};
use proptest::prelude::*;
use tower::ServiceExt as _;

use crate::api::{Api, request};

/// Every route, with `{name}` where a service's goes.
const ROUTES: [&str; 12] = [
    "/",
    "/gpus",
    "/health",
    "/services",
    "/services/{name}",
    "/services/{name}/status",
    "/services/{name}/logs",
    "/services/{name}/plan",
    "/services/{name}/start",
    "/services/{name}/stop",
    "/services/{name}/restart",
    "/rediscover",
];

#[test]
fn the_routes_here_are_all_there_are() {
    let source = include_str!("../../src/routes/mod.rs");
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let written = code.split("(\"/").skip(1).filter_map(|rest| rest.split('"').next());
    let mut written: Vec<_> = written.map(|rest| format!("/{rest}")).collect();
    let mut known = ROUTES.map(str::to_owned).to_vec();
    written.sort();
    known.sort();
    assert_eq!(written, known);
}

async fn engine(api: &Api) -> String {
    let containers = api.engine.list(&Selector::All).await.expect("it is in memory");
    let runs = ["web", "llm", "sd"].map(|name| api.engine.runs(&format!("{name}-main-1")));
    format!("{containers:?} {runs:?}")
}

#[tokio::test(start_paused = true)]
async fn g15_no_get_changes_anything_on_any_route() {
    let api = Api::new().await;
    api.post("/services/web/start", "").await.ok();
    api.post("/services/llm/start", "").await.ok();
    let before = engine(&api).await;
    let answers = [200, 405, 404];
    for route in ROUTES {
        for name in ["web", "llm", "sd", "nobody"] {
            for query in ["", "?force=true", "?_method=POST&remove=true&recreate=true"] {
                let target = route.replace("{name}", name) + query;
                for method in ["GET", "HEAD", "GET", "HEAD", "OPTIONS", "TRACE"] {
                    let overridden = request(method, &target)
                        .header("x-http-method-override", "POST")
                        .header("x-http-method", "POST")
                        .header("x-method-override", "DELETE");
                    let status = api.send(overridden, r#"{"force": true}"#).await.status;
                    assert!(answers.contains(&status), "{method} {target}: {status}");
                }
            }
        }
    }
    assert_eq!(engine(&api).await, before);
    let stopped = api.post("/services/web/stop", "").await.ok();
    assert_eq!(stopped["status"], "stopped");
    assert_ne!(engine(&api).await, before, "a change would have been seen");
}

#[derive(Debug, Clone)]
struct Made {
    method: String,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn made() -> impl Strategy<Value = Made> {
    let method = prop_oneof![
        6 => prop::sample::select(vec!["GET", "HEAD", "POST"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"]).prop_map(str::to_owned),
        1 => "[A-Z]{1,20}",
    ];
    let name = prop_oneof![
        4 => prop::sample::select(vec!["web", "llm", "sd"]).prop_map(str::to_owned),
        1 => "[a-z%0-9.;~-]{0,20}",
        1 => prop::collection::vec(any::<u8>(), 0..20)
            .prop_map(|bytes| bytes.iter().map(|byte| format!("%{byte:02x}")).collect()),
    ];
    let query = prop_oneof![
        2 => Just(String::new()),
        2 => "\\?(tail|force|tag|status|gpu|timestamps)=[a-z0-9%&=+-]{0,12}",
        1 => "\\?[!-\"$-~]{0,30}",
    ];
    let target = (0..ROUTES.len(), name, prop::sample::select(vec!["", "", "", "/", "/x"]), query)
        .prop_map(|(route, name, end, query)| {
            let path = ROUTES[route].replace("{name}", &name);
            format!("{path}{end}{query}")
        });
    let header = (
        prop::sample::select(vec![
            "accept",
            "authorization",
            "content-type",
            "content-length",
            "expect",
            "if-none-match",
            "origin",
            "range",
            "sec-fetch-site",
            "x-request-id",
            "x-forwarded-for",
            "cookie",
            "host",
            "accept-encoding",
            "upgrade",
            "transfer-encoding",
        ]),
        "[ -~]{0,30}",
    );
    let json = prop_oneof![
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("null".to_owned()),
        "-?[0-9]{1,25}(\\.[0-9]{1,9})?(e[0-9]{1,3})?",
        "\"[a-z \\\\u0-9]{0,9}\"",
        Just("[]".to_owned()),
        Just("{}".to_owned()),
    ];
    let field = prop::sample::select(vec![
        "force", "wait", "timeout", "queue", "rollback", "recreate", "remove", "x",
    ]);
    let body = prop_oneof![
        2 => Just(Vec::new()),
        3 => prop::collection::vec((field, json), 0..4).prop_map(|fields| {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            format!("{{{}}}", fields.join(", ")).into_bytes()
        }),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ];
    let headers = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(header, 0..3)];
    (method, target, headers, body).prop_map(|(method, target, headers, body)| Made {
        method,
        target,
        headers,
        body,
    })
}

/// Sends it and checks what comes back against what every answer promises.
async fn check(api: &Api, made: &Made) -> Result<(), TestCaseError> {
    let mut builder = Request::builder().method(&*made.method).uri(&*made.target);
    if made.headers.iter().all(|(name, _)| *name != "host") {
        builder = builder.header("host", "localhost:8080");
    }
    for (name, value) in &made.headers {
        builder = builder.header(*name, value);
    }
    // What cannot be written as a request never reaches the server.
    let Ok(request) = builder.body(Body::from(made.body.clone())) else { return Ok(()) };
    let response = api.app.clone().oneshot(request).await.expect("a router always answers");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("it is complete").to_bytes();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    prop_assert!(parts.status.as_u16() < 500, "{made:?}: {}", parts.status);
    prop_assert_eq!(header("x-content-type-options"), Some("nosniff"), "{:?}", made);
    prop_assert!(header("x-request-id").is_some_and(|id| id.len() <= 64));
    prop_assert!(!parts.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
    if made.method == "HEAD" || parts.status == 307 {
        prop_assert!(body.is_empty(), "{made:?}");
        return Ok(());
    }
    let text = String::from_utf8(body.to_vec()).expect("answers are UTF-8");
    prop_assert!(!text.contains("canary"), "{made:?}: {text}");
    let json: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| TestCaseError::fail(format!("{made:?}: {error}: {text}")))?;
    if parts.status.is_success() {
        prop_assert_eq!(header("content-type"), Some("application/json"), "{:?}", made);
    } else {
        prop_assert_eq!(header("content-type"), Some("application/problem+json"), "{:?}", made);
        prop_assert_eq!(&json["status"], parts.status.as_u16(), "{:?}", made);
        for member in ["type", "title", "detail", "instance", "code"] {
            prop_assert!(json[member].is_string(), "no {member}: {made:?}: {text}");
        }
    }
    Ok(())
}

#[test]
fn g11_no_request_is_a_fault_and_every_error_is_a_problem() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let api = runtime.block_on(Api::new());
    proptest!(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() }, |(made in made())| {
        runtime.block_on(check(&api, &made))?;
    });
}
