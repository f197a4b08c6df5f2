//! Starting, stopping, restarting, planning, rediscovering.

use std::time::Duration;

use axum::body::Body;
use futures_util::stream;
use nanny_lib::backend::{BackendError, ErrorKind};
use serde_json::json;

use crate::api::{Api, request};

#[tokio::test(start_paused = true)]
async fn a_service_starts_and_stops() {
    let api = Api::new().await;
    let expected = json!({
        "message": "Service 'web' started successfully",
        "status": "running",
        "health_endpoint": null,
    });
    assert_eq!(api.post("/services/web/start", "").await.ok(), expected);
    assert_eq!(api.engine.running(), ["web-main-1"]);
    let again = api.post("/services/web/start", "{}").await.ok();
    assert_eq!(again["message"], "Service 'web' is already running");
    assert_eq!(again["status"], "running");

    let expected = json!({"message": "Service 'web' stopped successfully", "status": "stopped"});
    assert_eq!(api.post("/services/web/stop", "").await.ok(), expected);
    assert!(api.engine.running().is_empty());
    assert!(api.engine.id_of("web-main-1").is_some(), "stopped, not removed");
    let again = api.post("/services/web/stop", "").await.ok();
    assert_eq!(again["message"], "Service 'web' is not running");
    assert_eq!(again["status"], "stopped");
}

#[tokio::test(start_paused = true)]
async fn a_stop_can_remove() {
    let api = Api::new().await;
    api.post("/services/web/start", "").await.ok();
    api.post("/services/web/stop", r#"{"remove": true}"#).await.ok();
    assert!(api.engine.id_of("web-main-1").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_second_gpu_service_is_refused_without_force() {
    let api = Api::new().await;
    api.post("/services/llm/start", "").await.ok();
    let problem = api.post("/services/sd/start", "").await.problem(409, "gpu_conflict");
    assert_eq!(problem["detail"], "GPU service 'llm' is already running");
    assert_eq!(problem["conflicts"], json!(["llm"]));
    assert_eq!(problem["instance"], "/services/sd/start");
    assert_eq!(api.engine.running(), ["llm-main-1"]);
    assert_eq!(api.get("/services").await.ok()["gpu_service_running"], "llm");
}

#[tokio::test(start_paused = true)]
async fn force_stops_the_other_whatever_the_content_type_says() {
    let api = Api::new().await;
    api.post("/services/llm/start", "").await.ok();
    let form = request("POST", "/services/sd/start")
        .header("content-type", "application/x-www-form-urlencoded");
    let started = api.send(form, r#"{"force": true}"#).await.ok();
    assert_eq!(started["message"], "Service 'sd' started successfully");
    assert_eq!(started["stopped"], json!(["llm"]));
    assert_eq!(api.engine.running(), ["sd-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_swap_says_what_was_restored() {
    let api = Api::new().await;
    api.post("/services/llm/start", "").await.ok();
    let error = BackendError::new(ErrorKind::Invalid, "start", "no such device");
    api.engine.start_fails("sd-main-1", error);
    let failed = api.post("/services/sd/start", r#"{"force": true}"#).await;
    let problem = failed.problem(500, "start_failed");
    assert_eq!(problem["restored"], json!(["llm"]));
    assert_eq!(api.engine.running(), ["llm-main-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_nobody_waits_for_is_starting() {
    let api = Api::new().await;
    api.engine.start_takes("web-main-1", Duration::from_secs(60));
    let started = api.post("/services/web/start", r#"{"wait": "none"}"#).await.ok();
    assert_eq!(started["message"], "Service 'web' is starting");
    assert_eq!(started["status"], "starting");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_takes_too_long_goes_on() {
    let api = Api::new().await;
    api.engine.start_takes("web-main-1", Duration::from_secs(20));
    let late = api.post("/services/web/start", r#"{"timeout": 0.5}"#).await;
    late.problem(504, "start_timeout");
    let running = |now: &nanny_lib::Snapshot| now.running() == 1;
    api.nanny.wait_until(running).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_engine_out_of_reach_is_unavailable() {
    let api = Api::new().await;
    api.engine.go_down();
    let answer = api.post("/services/web/start", "").await;
    answer.problem(503, "engine_unavailable");
    assert!(answer.header("retry-after").is_some());
    api.get("/health").await.ok();
}

#[tokio::test(start_paused = true)]
async fn a_service_restarts() {
    let api = Api::new().await;
    api.post("/services/llm/start", "").await.ok();
    let restarted = api.post("/services/llm/restart", "").await.ok();
    assert_eq!(restarted["message"], "Service 'llm' restarted successfully");
    assert_eq!(restarted["status"], "running");
    assert_eq!(api.engine.runs("llm-main-1"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_plan_says_what_would_happen_and_does_nothing() {
    let api = Api::new().await;
    let plan = api.get("/services/llm/plan").await.ok();
    assert_eq!((&plan["service"], &plan["verdict"]), (&json!("llm"), &json!("admit")));
    assert!(plan["steps"].is_array());
    api.post("/services/llm/start", "").await.ok();
    assert_eq!(api.get("/services/llm/plan").await.ok()["verdict"], "already_running");
    let refused = api.get("/services/sd/plan").await.ok();
    assert_eq!((&refused["verdict"], &refused["conflicts"]), (&json!("refuse"), &json!(["llm"])));
    let forced = api.get("/services/sd/plan?force=true").await.ok();
    assert_eq!((&forced["verdict"], &forced["victims"]), (&json!("evict"), &json!(["llm"])));
    assert_eq!(api.engine.running(), ["llm-main-1"]);
    api.get("/services/sd/plan?force=yes").await.problem(422, "invalid_request");
}

#[tokio::test(start_paused = true)]
async fn rediscovery_counts() {
    let api = Api::new().await;
    for body in ["", "{}"] {
        let found = api.post("/rediscover", body).await.ok();
        assert_eq!(found["message"], "Service discovery completed");
        assert_eq!(found["services_discovered"], 3);
        for list in ["added", "changed", "removed", "errors"] {
            assert_eq!(found[list], json!([]), "{list}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_wrong_changes_nothing() {
    let api = Api::new().await;
    for (target, body, loc) in [
        ("start", r#"{"force": "yes"}"#, json!(["body", "force"])),
        ("start", r#"{"forced": true}"#, json!(["body", "forced"])),
        ("start", r#"{"queue": "true"}"#, json!(["body", "queue"])),
        ("start", "force=true", json!(["body"])),
        ("start", "[]", json!(["body"])),
        ("stop", r#"{"force": true}"#, json!(["body", "force"])),
        ("restart", r#"{"timeout": 0}"#, json!(["body", "timeout"])),
    ] {
        let answer = api.post(&format!("/services/web/{target}"), body).await;
        let problem = answer.problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["loc"], loc, "{body}");
        assert!(problem["errors"][0]["msg"].is_string());
    }
    api.post("/rediscover", r#"{"x": 1}"#).await.problem(422, "invalid_request");
    assert!(api.engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_body_has_a_limit_and_a_deadline() {
    let api = Api::new().await;
    let long = " ".repeat(1024 * 1024);
    api.post("/services/web/stop", &long).await.ok();
    let longer = format!("{long} ");
    api.post("/services/web/stop", &longer).await.problem(413, "payload_too_large");
    let piece = || Ok::<_, std::io::Error>(vec![b' '; 4096]);
    let endless = Body::from_stream(stream::repeat_with(piece));
    let answer = api.send(request("POST", "/services/web/start"), endless).await;
    answer.problem(413, "payload_too_large");
    let silent = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let answer = api.send(request("POST", "/services/web/start"), silent).await;
    answer.problem(408, "request_timeout");
}
