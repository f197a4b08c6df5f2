use nanny_lib::backend::LogStream;
use rmcp::model::{ErrorCode, PaginatedRequestParams};
use serde_json::{Value, json};

use crate::testing::{House, cpu, gpu, refusal, service};

#[tokio::test(start_paused = true)]
async fn the_overview_says_what_there_is_and_leaves_out_what_is_not_known() {
    let house = House::new([gpu("draw"), cpu("talk")]).await;
    house.start("draw").await;
    for client in house.both().await {
        let overview = client.read_json("service://status").await;
        assert_eq!(overview["total"], 2);
        assert_eq!(overview["gpu_service_running"], "draw");
        assert_eq!(overview["services"][0]["status"], "running");
        assert_eq!(overview["services"][1]["name"], "talk");
        assert_eq!(overview["gpus"], json!([]));
        assert!(!has_null(&overview), "{overview}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_s_status_is_that_of_the_api() {
    let house = House::new([cpu("größe 1")]).await;
    house.start("größe 1").await;
    for client in house.both().await {
        let status = client.read_json("service://status/gr%C3%B6%C3%9Fe%201").await;
        assert_eq!(status["name"], "größe 1");
        assert_eq!((&status["status"], &status["ready"]), (&json!("running"), &json!(true)));
        assert!(!has_null(&status), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_count_and_measure_each_service() {
    let house = House::new([gpu("draw"), cpu("talk")]).await;
    house.start("draw").await;
    for client in house.both().await {
        let metrics = client.read_json("service://metrics").await;
        let [draw, talk] = [&metrics["services"][0], &metrics["services"][1]];
        assert_eq!((&draw["name"], &draw["starts"]), (&json!("draw"), &json!(1)));
        assert_eq!(draw["memory_bytes"], 64 << 20);
        assert!(draw["uptime_seconds"].is_number() && draw["cpu_seconds"].is_number());
        assert_eq!((&talk["starts"], &talk["gpu_seconds"]), (&json!(0), &json!(0.0)));
        assert!(talk.get("uptime_seconds").is_none(), "it does not run: {talk}");
        assert_eq!(metrics["totals"]["services_running"], 1);
        assert_eq!(metrics["engines"][0]["state"], "up");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_is_its_last_200_lines_and_no_longer_than_the_limit() {
    let house = House::with([cpu("a"), cpu("b")], |config| config.output_limit = 5000).await;
    house.engine.prints("a-main-1", (0..300).map(|n| (LogStream::Stdout, format!("line {n}"))));
    house.engine.prints(
        "b-main-1",
        (0..300).map(|n| (LogStream::Stdout, "long ".repeat(9) + &n.to_string())),
    );
    let client = house.older().await;
    assert_eq!(client.read("service://logs/a").await.unwrap().0, "", "it never started");
    house.start("a").await;
    house.start("b").await;
    let (text, mime_type, _) = client.read("service://logs/a").await.unwrap();
    assert_eq!(mime_type, "text/plain");
    assert_eq!(text.lines().count(), 200);
    assert!(text.ends_with("main-1  | line 299\n"), "{text}");
    let (text, ..) = client.read("service://logs/b").await.unwrap();
    assert!(text.len() <= 5000, "{}", text.len());
    assert!(text.starts_with("main-1  | long") && text.ends_with("299\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_a_service_writes_is_shown_without_its_secrets() {
    let house = House::new([cpu("a")]).await;
    house.start("a").await;
    house.print("a", "login with API_KEY=abcdefgh1 worked");
    let client = house.older().await;
    let (text, ..) = client.read("service://logs/a").await.unwrap();
    assert!(text.contains("worked") && !text.contains("abcdefgh1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn of_too_many_services_a_part_is_shown_that_says_so() {
    let services = (0..200).map(|n| cpu(&format!("s{n}")));
    let house = House::with(services, |config| config.output_limit = 5000).await;
    let client = house.newer().await;
    for uri in ["service://status", "service://metrics"] {
        let answer = client.read_json(uri).await;
        assert!(answer.to_string().len() <= 5000);
        assert_eq!(answer["truncated"], true);
        assert!(answer["services"][0]["name"].is_string(), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_found_by_the_code_of_each_era() {
    let house = House::new([cpu("a")]).await;
    let [older, newer] = house.both().await;
    for uri in
        ["service://status/b", "service://logs/b", "service://other", "file:///etc/passwd", ""]
    {
        let error = older.read(uri).await.unwrap_err();
        assert_eq!((error.code, error.data), (ErrorCode(-32002), Some(json!({ "uri": uri }))));
        let error = newer.read(uri).await.unwrap_err();
        assert_eq!((error.code, error.data), (ErrorCode(-32602), Some(json!({ "uri": uri }))));
    }
}

#[tokio::test(start_paused = true)]
async fn every_resource_in_the_list_can_be_read() {
    let described = service("b c", |manifest| manifest.description = "what it does".to_owned());
    let house = House::new([described, cpu("a")]).await;
    for client in house.both().await {
        let list = client.client.list_resources(None).await.unwrap();
        let uris: Vec<_> = list.resources.iter().map(|resource| resource.uri.as_str()).collect();
        assert_eq!(
            uris,
            [
                "service://status",
                "service://metrics",
                "service://status/a",
                "service://logs/a",
                "service://status/b%20c",
                "service://logs/b%20c",
            ]
        );
        for resource in &list.resources {
            let (_, mime_type, uri) = client.read(&resource.uri).await.unwrap();
            assert_eq!((Some(mime_type), &uri), (resource.mime_type.clone(), &resource.uri));
            assert!(resource.title.is_some() && resource.annotations.is_some());
        }
        assert_eq!(list.resources[4].description.as_deref(), Some("what it does"));
        let templates = client.client.list_resource_templates(None).await.unwrap();
        let templates: Vec<_> = templates
            .resource_templates
            .into_iter()
            .map(|template| template.uri_template)
            .collect();
        assert_eq!(templates, ["service://status/{name}", "service://logs/{name}"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_was_never_offered_is_refused() {
    let house = House::new([cpu("a")]).await;
    let client = house.older().await;
    let page = PaginatedRequestParams::default().with_cursor(Some("2".to_owned()));
    let error = refusal(client.client.list_resources(Some(page)).await.unwrap_err());
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
}

#[tokio::test(start_paused = true)]
async fn results_say_who_answers_where_no_handshake_did() {
    let house = House::new([cpu("a")]).await;
    let [older, newer] = house.both().await;
    let signed = newer.client.list_resources(None).await.unwrap().meta.unwrap();
    assert_eq!(signed["io.modelcontextprotocol/serverInfo"]["name"], "service-nanny");
    let plain = older.client.list_resources(None).await.unwrap();
    assert!(plain.meta.is_none(), "{:?}", plain.meta);
    assert_eq!((plain.ttl_ms, plain.cache_scope.is_some()), (Some(0), true));
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().any(has_null),
        Value::Array(items) => items.iter().any(has_null),
        _ => false,
    }
}
