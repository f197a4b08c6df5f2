//! Looking at services.

use nanny_lib::backend::LogStream;
use nanny_lib::manifest::McpEndpoint;
use serde_json::json;

use super::{Era, House, Person, cpu, gpu, named, with};
use crate::McpConfig;

fn tagged(name: &str, tag: &str) -> nanny_lib::manifest::Service {
    with(name, |manifest| manifest.tags = vec![tag.to_owned()])
}

#[tokio::test(start_paused = true)]
async fn services_are_listed_and_filtered_in_both_eras() {
    let house = House::new([cpu("chat"), gpu("images"), tagged("speech", "audio")]).await;
    house.start("images").await;
    for era in [Era::Old, Era::New] {
        let guest = house.guest(era, Person::nobody()).await;
        let all = guest.done("list_services", json!({})).await;
        assert_eq!((&all["total"], &all["gpu_service_running"]), (&json!(3), &json!("images")));
        assert!(all["gpus"].is_array());
        for (filter, expected) in [
            (json!({"status": "running"}), "images"),
            (json!({"gpu": false, "name_contains": "CH", "tag": "audio"}), "speech"),
            (json!({"name_contains": "hat"}), "chat"),
            (json!({"gpu": true, "tag": null}), "images"),
        ] {
            let picked = guest.done("list_services", json!({ "filter": filter })).await;
            assert_eq!(picked["total"], 1, "{filter}");
            assert_eq!(picked["services"][0]["name"], expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_an_mcp_server_shows_where_while_it_runs() {
    let endpoint = "http://localhost:9/mcp";
    let service = with("a", |manifest| manifest.mcp = Some(McpEndpoint::new(endpoint)));
    let house = House::new([service]).await;
    let guest = house.machine().await;
    let list = guest.done("list_services", json!({})).await;
    assert!(list["services"][0].get("mcp").is_none());
    house.start("a").await;
    let list = guest.done("list_services", json!({})).await;
    assert_eq!(list["services"][0]["mcp"]["endpoint"], endpoint);
}

#[tokio::test(start_paused = true)]
async fn the_status_is_that_of_the_rest_api_without_what_is_null() {
    let house = House::new([gpu("a")]).await;
    let guest = house.machine().await;
    let stopped = guest.done("get_service_status", named("a")).await;
    assert_eq!(stopped["status"], "stopped");
    assert!(stopped.get("uptime").is_none() && stopped.get("error").is_none());
    house.start("a").await;
    let running = guest.done("get_service_status", named("a")).await;
    assert_eq!((&running["ready"], &running["holds_gpu"]), (&json!(true), &json!(true)));
    assert_eq!(running["containers"][0]["state"], "running");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_no_services_is_answered_with_those_it_may_mean() {
    let house = House::new([cpu("image-gen"), cpu("llm-chat"), cpu("whisper")]).await;
    let guest = house.machine().await;
    for tool in ["get_service_status", "start_service", "stop_service", "get_service_logs"] {
        let refused = guest.refused(tool, named("imagegen")).await;
        assert_eq!(refused.code, "SERVICE_NOT_FOUND", "{tool}");
        assert_eq!(refused.details["closest"], json!(["image-gen"]));
        assert!(refused.text.contains("'image-gen'"), "{}", refused.text);
    }
    let part = guest.refused("get_service_status", named("LLM")).await;
    assert_eq!(part.details["closest"], json!(["llm-chat"]));
    let nothing = guest.refused("get_service_status", named("xyz")).await;
    assert!(nothing.text.contains("list_services"), "{}", nothing.text);
}

#[tokio::test(start_paused = true)]
async fn an_argument_that_is_wrong_is_named() {
    let house = House::new([cpu("a")]).await;
    let guest = house.machine().await;
    for (tool, arguments, field) in [
        ("get_service_status", json!({}), "name"),
        ("get_service_status", json!({"name": 7}), "name"),
        ("stop_service", json!({"name": "a", "force": true}), "force"),
        ("start_service", json!({"name": "a", "force": "yes"}), "force"),
        ("list_services", json!({"filter": {"status": "up"}}), "filter.status"),
        ("list_services", json!({"state": "up"}), "state"),
        ("get_service_logs", json!({"name": "a", "tail": 0}), "tail"),
        ("get_service_logs", json!({"name": "a", "tail": 1001}), "tail"),
    ] {
        let refused = guest.refused(tool, arguments.clone()).await;
        assert_eq!(refused.code, "INVALID_ARGUMENT", "{arguments}");
        assert_eq!(refused.details["argument"], field, "{arguments}");
        assert!(refused.text.contains(field), "{}", refused.text);
    }
    assert!(house.engine.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn logs_are_the_last_lines_without_secrets() {
    let house = House::new([cpu("a")]).await;
    house.start("a").await;
    for line in ["one", "HF_TOKEN=hf_abcdefghijklmnopqrst", "loss 1", "loss 2"] {
        house.engine.print("a-main-1", LogStream::Stdout, line);
    }
    let guest = house.machine().await;
    let logs = guest.done("get_service_logs", json!({"name": "a", "tail": 3})).await;
    let text = "main-1  | HF_TOKEN=[redacted]\nmain-1  | loss 1\nmain-1  | loss 2\n";
    assert_eq!(logs["logs"], text);
    assert_eq!((&logs["service"], &logs["tail"]), (&json!("a"), &json!(3)));
    let loss = guest.done("get_service_logs", json!({"name": "a", "contains": "loss 2"})).await;
    assert_eq!(loss["logs"], "main-1  | loss 2\n");
    // It is no means to guess what is not shown, one letter after the other.
    for (wanted, lines) in [("hf_abc", 0), ("HF_TOKEN=[redacted]", 1), ("main-1  |", 0)] {
        let found = guest.done("get_service_logs", json!({"name": "a", "contains": wanted})).await;
        assert_eq!(found["logs"].as_str().unwrap().lines().count(), lines, "{found}");
    }
    let last =
        guest.done("get_service_logs", json!({"name": "a", "tail": 1, "contains": "loss 1"})).await;
    assert_eq!(last["logs"], "");
}

#[tokio::test(start_paused = true)]
async fn results_are_capped_and_say_so() {
    let config = McpConfig { output_limit: 3000, ..McpConfig::default() };
    let services = (0..200).map(|n| cpu(&format!("service-{n}")));
    let house = House::with(config, services).await;
    let guest = house.machine().await;
    let list = guest.call("list_services", json!({})).await.unwrap();
    assert!(list.content[0].as_text().unwrap().text.chars().count() <= 3000);
    let list = list.structured_content.unwrap();
    assert_eq!((&list["total"], &list["truncated"]), (&json!(200), &json!(true)));
    assert!(list["hint"].as_str().unwrap().contains("name_contains"), "{list}");

    house.start("service-1").await;
    for n in 0..100 {
        house.engine.print(
            "service-1-main-1",
            LogStream::Stdout,
            &format!("{n} \"{}\"", "é".repeat(50)),
        );
    }
    let logs = guest.call("get_service_logs", named("service-1")).await.unwrap();
    assert!(logs.content[0].as_text().unwrap().text.chars().count() <= 3000);
    let logs = logs.structured_content.unwrap();
    let text = logs["logs"].as_str().unwrap();
    assert_eq!(logs["truncated"], true);
    assert!(text.starts_with("main-1  | ") && text.contains("99 \""), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_is_said_to_be() {
    let house = House::new([cpu("a")]).await;
    house.engine.go_down();
    let guest = house.machine().await;
    house.until("a", nanny_lib::Status::Unknown).await;
    let refused = guest.refused("start_service", named("a")).await;
    assert_eq!(
        (refused.code.as_str(), &refused.details["retryable"]),
        ("ENGINE_UNAVAILABLE", &json!(true))
    );
    assert!(!refused.text.contains("Nothing was changed"), "{}", refused.text);
    let status = guest.done("get_service_status", named("a")).await;
    assert_eq!(status["status"], "unknown");
}
