//! Logs as one text.

use nanny_lib::backend::LogStream;
use serde_json::json;

use crate::api::Api;

#[tokio::test(start_paused = true)]
async fn a_service_that_never_started_has_none() {
    let api = Api::new().await;
    let expected = json!({"service": "web", "logs": "", "tail": 100});
    assert_eq!(api.get("/services/web/logs").await.ok(), expected);
}

#[tokio::test(start_paused = true)]
async fn lines_carry_their_containers_name() {
    let api = Api::new().await;
    api.engine.prints("web-main-1", [(LogStream::Stdout, "hello".to_owned())]);
    api.post("/services/web/start", "").await.ok();
    api.engine.print("web-main-1", LogStream::Stderr, "oh\nno");
    let logs = api.get("/services/web/logs?tail=all").await.ok();
    assert_eq!(logs["tail"], -1);
    assert_eq!(logs["logs"], "main-1  | hello\nmain-1  | oh\nmain-1  | no\n");
    let logs = api.get("/services/web/logs?tail=1").await.ok();
    assert_eq!((&logs["logs"], &logs["tail"]), (&json!("main-1  | no\n"), &json!(1)));
    assert_eq!(api.get("/services/web/logs?tail=0").await.ok()["logs"], "");
    let logs = api.get("/services/web/logs?tail=1&timestamps=true").await.ok();
    let line = logs["logs"].as_str().unwrap();
    assert!(line.starts_with("main-1  | 2") && line.ends_with("Z no\n"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_stopped_service_keeps_its_log() {
    let api = Api::new().await;
    api.engine.prints("web-main-1", [(LogStream::Stdout, "last words".to_owned())]);
    api.post("/services/web/start", "").await.ok();
    api.post("/services/web/stop", "").await.ok();
    assert_eq!(api.get("/services/web/logs").await.ok()["logs"], "main-1  | last words\n");
}

#[tokio::test(start_paused = true)]
async fn e11_tail_has_bounds() {
    let api = Api::new().await;
    for tail in ["10001", "-2", "x", "", "1e3"] {
        let problem = api
            .get(&format!("/services/web/logs?tail={tail}"))
            .await
            .problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["loc"], json!(["query", "tail"]));
    }
    for tail in ["0", "10000", "-1", "all"] {
        api.get(&format!("/services/web/logs?tail={tail}")).await.ok();
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_long_log_the_newest_part_is_shown() {
    let api = Api::new().await;
    api.post("/services/web/start", "").await.ok();
    let line = "x".repeat(8 * 1024);
    for _ in 0..1100 {
        api.engine.print("web-main-1", LogStream::Stdout, &line);
    }
    api.engine.print("web-main-1", LogStream::Stdout, "the end");
    let logs = api.get("/services/web/logs?tail=all").await.ok();
    assert_eq!(logs["truncated"], true);
    let text = logs["logs"].as_str().unwrap();
    assert!(text.len() <= 8 * 1024 * 1024 && text.len() > 8 * 1024 * 1024 - 10_000);
    assert!(text.ends_with("main-1  | the end\n"));
}

#[tokio::test(start_paused = true)]
async fn an_engine_out_of_reach_is_said() {
    let api = Api::new().await;
    api.post("/services/web/start", "").await.ok();
    api.engine.go_down();
    api.get("/services/web/logs").await.problem(503, "engine_unavailable");
}
