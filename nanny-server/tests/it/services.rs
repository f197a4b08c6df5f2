//! Looking at services and at the nanny.

use serde_json::json;

use crate::api::{Api, request};

#[tokio::test(start_paused = true)]
async fn the_root_greets() {
    let api = Api::new().await;
    let expected = json!({
        "message": "Service Nanny is running!",
        "version": env!("CARGO_PKG_VERSION"),
        "services_discovered": 3,
        "gpu_service_running": null,
    });
    assert_eq!(api.get("/").await.ok(), expected);
}

#[tokio::test(start_paused = true)]
async fn health_counts_and_names_the_engines() {
    let api = Api::new().await;
    api.post("/services/web/start", "").await.ok();
    let expected = json!({
        "status": "healthy",
        "services_discovered": 3,
        "services_running": 1,
        "engines": [{"name": "memory", "state": "up", "reason": null}],
        "degraded": [],
    });
    assert_eq!(api.get("/health").await.ok(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_sorted_and_has_the_seeds_fields() {
    let api = Api::new().await;
    let list = api.get("/services").await.ok();
    assert_eq!(list["total"], 3);
    assert_eq!(list["gpu_service_running"], json!(null));
    let names: Vec<_> = list["services"].as_array().unwrap().iter().map(|s| &s["name"]).collect();
    assert_eq!(names, ["llm", "sd", "web"]);
    let expected = json!({
        "name": "web",
        "description": "A web page",
        "version": "1.0.0",
        "gpu_required": false,
        "vram_gb": 0,
        "ports": ["8001:8000"],
        "health_endpoint": "",
        "tags": ["page"],
        "status": "stopped",
    });
    assert_eq!(list["services"][2], expected);
    assert_eq!(list["services"][0]["description"], "No description");
    assert_eq!(list["services"][0]["version"], "unknown");
    let text = api.get("/services/llm").await.text;
    assert!(text.contains("\"vram_gb\":8,"), "numbers stay as they were written: {text}");
}

#[tokio::test(start_paused = true)]
async fn a_list_can_be_filtered() {
    let api = Api::new().await;
    api.post("/services/llm/start", "").await.ok();
    for (query, names) in [
        ("?gpu=true", &["llm", "sd"][..]),
        ("?gpu=false", &["web"]),
        ("?tag=page", &["web"]),
        ("?tag=page&tag=model", &[]),
        ("?status=running", &["llm"]),
        ("?status=stopped&gpu=true", &["sd"]),
        ("?unknown=1", &["llm", "sd", "web"]),
    ] {
        let list = api.get(&format!("/services{query}")).await.ok();
        let found: Vec<_> =
            list["services"].as_array().unwrap().iter().map(|s| s["name"].as_str()).collect();
        assert_eq!(found, names.iter().copied().map(Some).collect::<Vec<_>>(), "{query}");
        assert_eq!(list["total"], names.len(), "{query}");
        assert_eq!(list["gpu_service_running"], "llm", "{query}");
    }
    let problem = api.get("/services?status=up").await.problem(422, "invalid_request");
    assert_eq!(problem["errors"][0]["loc"], json!(["query", "status"]));
    api.get("/services?gpu=maybe").await.problem(422, "invalid_request");
}

#[tokio::test(start_paused = true)]
async fn one_service_and_its_status_can_be_seen() {
    let api = Api::new().await;
    assert_eq!(api.get("/services/llm").await.ok()["vram_gb"], 8);
    let stopped = api.get("/services/llm/status").await.ok();
    for (field, value) in [
        ("name", json!("llm")),
        ("status", json!("stopped")),
        ("is_running", json!(false)),
        ("is_healthy", json!(false)),
        ("ready", json!(false)),
        ("uptime", json!(null)),
        ("error", json!(null)),
        ("stale_since", json!(null)),
        ("drift", json!(false)),
    ] {
        assert_eq!(stopped[field], value, "{field}");
    }
    api.post("/services/llm/start", "").await.ok();
    let running = api.get("/services/llm/status").await.ok();
    assert_eq!(running["status"], "running");
    assert_eq!((&running["is_running"], &running["is_healthy"]), (&json!(true), &json!(true)));
    let uptime = running["uptime"].as_str().unwrap();
    assert!(uptime.starts_with("0:0"), "{uptime}");
    assert_eq!(running["containers"][0]["state"], "running");
    assert_eq!(running["containers"][0]["name"], "llm-main-1");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_an_mcp_server_says_where_while_it_runs() {
    let api = Api::new().await;
    let expected = json!({
        "endpoint": "http://localhost:8001/mcp",
        "tools": ["draw"],
        "resources": [],
    });
    let seen = async || {
        let list = api.get("/services").await.ok();
        let one = api.get("/services/web").await.ok();
        [list["services"][2].get("mcp").cloned(), one.get("mcp").cloned()]
    };
    assert_eq!(seen().await, [None, None]);
    api.post("/services/web/start", "").await.ok();
    assert_eq!(seen().await, [Some(expected.clone()), Some(expected)]);
    api.post("/services/web/stop", "").await.ok();
    assert_eq!(seen().await, [None, None]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_service_is_not_found_anywhere() {
    let api = Api::new().await;
    for target in ["", "/status", "/logs", "/plan"] {
        let answer = api.get(&format!("/services/x%20y{target}")).await;
        let problem = answer.problem(404, "service_not_found");
        assert_eq!(problem["detail"], "Service 'x y' not found");
        assert_eq!(problem["instance"], format!("/services/x%20y{target}"));
    }
    for target in ["start", "stop", "restart"] {
        let answer = api.post(&format!("/services/x/{target}"), "").await;
        assert_eq!(answer.problem(404, "service_not_found")["detail"], "Service 'x' not found");
    }
    // Row G12: whatever is in a path names a service or nothing.
    for target in ["/services/..%2f..%2fetc", "/services/%00", "/services/con", "/services/WEB"] {
        api.get(target).await.problem(404, "service_not_found");
    }
    api.get("/services/%ff").await.problem(400, "invalid_request");
}

#[tokio::test(start_paused = true)]
async fn unknown_routes_and_methods_are_problems_too() {
    let api = Api::new().await;
    for target in ["/nope", "/services/web/nope", "//services", "/services//web", "/Health"] {
        assert_eq!(api.get(target).await.problem(404, "not_found")["detail"], "Not Found");
    }
    for (method, target, allow) in [
        ("POST", "/services", "GET,HEAD"),
        ("DELETE", "/services/web", "GET,HEAD"),
        ("GET", "/services/web/start", "POST"),
        ("HEAD", "/rediscover", "POST"),
        ("OPTIONS", "/health", "GET,HEAD"),
    ] {
        let answer = api.send(request(method, target), "").await;
        assert_eq!(answer.status, 405, "{method} {target}");
        assert_eq!(answer.header("allow"), Some(allow));
        assert!(answer.header("access-control-allow-origin").is_none(), "row G5");
    }
    assert_eq!(api.engine.running(), [""; 0], "row G15: nothing was started");
}

#[tokio::test(start_paused = true)]
async fn a_trailing_slash_is_redirected() {
    let api = Api::new().await;
    for (target, place) in [
        ("/services/", "/services"),
        ("/services/?gpu=true", "/services?gpu=true"),
        ("/services/a%20b/status/", "/services/a%20b/status"),
        ("/health/", "/health"),
    ] {
        let answer = api.get(target).await;
        assert_eq!((answer.status, answer.header("location")), (307, Some(place)));
    }
    let answer = api.post("/services/web/start/", "{}").await;
    assert_eq!((answer.status, answer.header("location")), (307, Some("/services/web/start")));
    assert_eq!(api.get("//evil.test/").await.status, 404, "row G17: no open redirect");
}

#[tokio::test(start_paused = true)]
async fn head_answers_as_get_without_a_body() {
    let api = Api::new().await;
    for target in ["/", "/health", "/services", "/services/web", "/services/web/logs", "/nope"] {
        let get = api.get(target).await;
        let head = api.send(request("HEAD", target), "").await;
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{target}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{target}");
        assert_eq!(head.header("content-length"), get.header("content-length"), "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn g13_no_answer_holds_an_environment_value() {
    let api = Api::new().await;
    let mut seen = api.post("/services/web/start", "").await.text;
    assert!(api.engine.spec_of("web-main-1").is_some_and(|spec| !spec.environment.0.is_empty()));
    for target in ["", "/status", "/logs", "/plan"] {
        seen += &api.get(&format!("/services/web{target}")).await.text;
    }
    for target in ["/", "/health", "/services"] {
        seen += &api.get(target).await.text;
    }
    seen += &api.post("/services/web/restart", "").await.text;
    seen += &api.post("/rediscover", "").await.text;
    assert!(!seen.contains("canary"), "{seen}");
}

#[tokio::test(start_paused = true)]
async fn every_answer_carries_a_request_id() {
    let api = Api::new().await;
    let answer = api.send(request("GET", "/nope").header("x-request-id", "mine-1"), "").await;
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    let answer = api.send(request("GET", "/").header("x-request-id", "not printable"), "").await;
    assert_eq!(answer.header("x-request-id").map(str::len), Some(16));
    assert!(api.get("/services/").await.header("x-request-id").is_some());
}
