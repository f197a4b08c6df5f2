//! Every kind of error, as a client sees it.

use nanny_lib::GpuId;
use nanny_lib::gpu::{
    ExclusivePerGpu, Fit, GpuDevice, GpuPolicy, GpuRequest, GpuSnapshot, HolderName, LedgerOnly,
};

use super::*;

fn service() -> ServiceName {
    ServiceName::new("x").unwrap()
}

fn device(id: &str, capacity_mib: u64, foreign_mib: u64) -> GpuDevice {
    let mut device = GpuDevice::new(GpuId::new(id), capacity_mib);
    device.foreign_mib = foreign_mib;
    device
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
fn nobody_is_sent_to_force_where_somebody_pinned_would_have_to_make_way() {
    let mut account = Account::default();
    account.pinned = vec!["b".to_owned()];
    let conflict = |holders: &[&str]| {
        let holders = holders.iter().map(ToString::to_string).collect();
        let problem = document(Error::GpuConflict { holders, account: account.clone().into() });
        problem["hint"].as_str().unwrap().to_owned()
    };
    assert!(conflict(&["a"]).contains("force"), "it is not in the way");
    let hint = conflict(&["a", "b"]);
    assert!(hint.starts_with("'b' is pinned") && hint.contains("queue"), "{hint}");
    assert!(!hint.contains("force"), "{hint}");
}

#[test]
fn a_refusal_of_the_policy_says_what_may_help() {
    let refused = |reason, capacity_mib, foreign_mib| {
        let device = device("g", capacity_mib, foreign_mib);
        let mut request = GpuRequest::new(service());
        request.vram_mib = 20;
        let snapshot = GpuSnapshot::default().with_devices(vec![device]);
        let account = Account::of(&Fit::new(), &request, &snapshot).into();
        let problem = document(Error::GpuRefused { reason, account });
        problem["hint"].as_str().map(str::to_owned)
    };
    let pinned = GpuRefusal::Pinned(HolderName::Service(service()));
    assert!(refused(pinned, 24, 0).unwrap().starts_with("'x' makes way for nobody"));
    let never = || GpuRefusal::NeverFits { need_mib: 20, count: 1, largest_mib: 8 };
    let others = refused(never(), 24, 16).unwrap();
    assert!(others.contains("end it yourself") && others.contains("queue"), "{others}");
    let too_large = refused(never(), 16, 8).unwrap();
    assert!(too_large.contains("lower vram_gb"), "{too_large}");
    assert_eq!(refused(GpuRefusal::Other("why".into()), 24, 0), None);
}

#[test]
fn a_sum_says_for_how_many_gpus_it_is_and_what_nobody_seen_uses() {
    let devices = ["g", "h"].map(|id| device(id, 24, 16));
    let mut request = GpuRequest::new(service());
    let snapshot = GpuSnapshot::default().with_devices(devices.to_vec());
    let mut detail = |vram_mib, count, policy: &dyn GpuPolicy| {
        (request.vram_mib, request.count) = (vram_mib, count);
        let account: Box<_> = Account::of(policy, &request, &snapshot).into();
        let conflict = Error::GpuConflict { holders: vec!["a".to_owned()], account };
        document(conflict)["detail"].as_str().unwrap().to_owned()
    };
    let held = "GPU service 'a' is already running";
    let free = "and free are 8 MiB on g, 8 MiB on h";
    let fit = Fit::new();
    assert_eq!(detail(9, 1, &fit), format!("{held}; 9 MiB are needed, {free}"));
    let two = format!("{held}; 9 MiB are needed on each of 2 GPUs, {free}");
    assert_eq!(detail(9, 2, &fit), two);
    assert!(detail(0, 2, &fit).contains("needs 2 GPUs of its own"));
    let declared = format!("{held}; 25 MiB are needed, and free are 24 MiB on g, 24 MiB on h");
    assert_eq!(detail(25, 1, &LedgerOnly::default()), declared);
    assert_eq!(detail(9, 1, &ExclusivePerGpu), held);

    let reason = GpuRefusal::NeverFits { need_mib: 9, count: 2, largest_mib: 8 };
    request.vram_mib = 9;
    let account = Account::of(&fit, &request, &snapshot).into();
    let said = document(Error::GpuRefused { reason, account })["detail"].to_string();
    assert!(said.contains("no 2 have more than 8 MiB each"), "{said}");
    assert!(said.contains("in use by somebody who cannot be seen (16 MiB on g)"), "{said}");
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
    let name = ServiceName::new("x").unwrap();
    let error = Error::NoEngine { name, reason: "none is configured".into() };
    let response = ApiError::from(error).into_response();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(!response.headers().contains_key(RETRY_AFTER), "it would be in vain");
    let response = ApiError::from(Refusal::NoToken).into_response();
    assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
}

#[test]
fn a_refusal_names_what_was_refused_and_the_flag_that_allows_it() {
    let detail = document(Refusal::ForeignOrigin("http://evil.test".to_owned()))["detail"].clone();
    let detail = detail.as_str().unwrap();
    assert!(detail.contains("http://evil.test") && detail.contains("--allowed-origin"));
}
