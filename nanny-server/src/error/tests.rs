//! Every kind of error, as a client sees it.

use super::*;

fn service() -> ServiceName {
    ServiceName::new("x").unwrap()
}

fn document(error: impl Into<ApiError>) -> Value {
    serde_json::to_value(error.into().problem().document("/services/x/start")).unwrap()
}

#[test]
fn a_problem_has_all_its_members() {
    let expected = json!({
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "Service 'x' not found",
        "instance": "/services/x/start",
        "code": "service_not_found",
    });
    assert_eq!(document(Error::NotFound { name: "x".to_owned() }), expected);
}

#[test]
fn every_kind_has_its_status_and_code() {
    let reason = || "why".to_owned();
    let refused = Error::GpuRefused {
        reason: nanny_lib::gpu::Refusal::Other(reason()),
        account: Box::default(),
    };
    let errors: [(ApiError, u16, &str); 17] = [
        (refused.into(), 409, "gpu_refused"),
        (Error::Cancelled { name: service(), reason: reason() }.into(), 409, "start_cancelled"),
        (Error::StopFailed { name: service(), reason: reason() }.into(), 500, "stop_failed"),
        (Error::StartTimeout { name: service() }.into(), 504, "start_timeout"),
        (Error::Protected { name: service(), reason: reason() }.into(), 409, "service_protected"),
        (Error::Overloaded.into(), 503, "overloaded"),
        (Error::ShuttingDown.into(), 503, "shutting_down"),
        (Error::StateDir { path: "/s".into(), reason: reason() }.into(), 500, "internal_error"),
        (Refusal::NoHost("The Host header is not valid").into(), 400, "invalid_request"),
        (Refusal::ForeignHost("evil.test".into()).into(), 403, "forbidden_host"),
        (Refusal::ForeignOrigin("null".into()).into(), 403, "forbidden_origin"),
        (Refusal::CrossSite("cross-site".into()).into(), 403, "forbidden_origin"),
        (Refusal::NoToken.into(), 401, "unauthorized"),
        (ApiError::TooLarge, 413, "payload_too_large"),
        (ApiError::BodyTimeout, 408, "request_timeout"),
        (ApiError::LogsTimeout { service: service() }, 504, "logs_timeout"),
        (ApiError::Panicked, 500, "internal_error"),
    ];
    for (error, status, code) in errors {
        let problem = error.problem();
        assert_eq!((problem.status.as_u16(), problem.code), (status, code), "{error:?}");
        assert!(problem.detail.starts_with(|first: char| !first.is_lowercase()), "{problem:?}");
    }
}

#[test]
fn a_conflict_names_the_holders_and_the_way_out() {
    let problem =
        document(Error::GpuConflict { holders: vec!["a".to_owned()], account: Box::default() });
    assert_eq!(problem["status"], 409);
    assert_eq!(problem["detail"], "GPU service 'a' is already running");
    assert_eq!(problem["conflicts"], json!(["a"]));
    assert!(problem["hint"].as_str().unwrap().contains("force"));
}

#[test]
fn a_failed_start_says_what_was_restored() {
    let problem = document(Error::StartFailed {
        name: service(),
        reason: "no such image".to_owned(),
        restored: vec![ServiceName::new("a").unwrap()],
        source: None,
    });
    assert_eq!(problem["code"], "start_failed");
    assert_eq!(problem["detail"], "'x' could not be started: no such image");
    assert_eq!(problem["restored"], json!(["a"]));
}

#[test]
fn an_engine_out_of_reach_says_when_to_come_back() {
    let error = Error::EngineUnavailable { engine: "docker".into(), reason: "refused".into() };
    let response = ApiError::from(error).into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key(RETRY_AFTER));
    let response = ApiError::from(Refusal::NoToken).into_response();
    assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
}

#[test]
fn a_refusal_names_what_was_refused_and_the_flag_that_allows_it() {
    let detail = document(Refusal::ForeignOrigin("http://evil.test".to_owned()))["detail"].clone();
    let detail = detail.as_str().unwrap();
    assert!(detail.contains("http://evil.test") && detail.contains("--allowed-origin"));
}
