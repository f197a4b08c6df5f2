use rmcp::ErrorData;
use rmcp::model::{
    ArgumentInfo, CompleteRequestParams, CompletionInfo, ContentBlock, GetPromptResult, Reference,
    ResourceContents,
};
use serde_json::json;
use std::time::Duration;

use crate::testing::{Client, House, cpu, gpu, is_invalid, refusal, service};

/// The text, and what is attached by URI.
fn parts(result: GetPromptResult) -> (String, Vec<(String, String)>) {
    let mut text = String::new();
    let mut attached = Vec::new();
    for message in result.messages {
        match message.content {
            ContentBlock::Text(block) => text.push_str(&block.text),
            ContentBlock::Resource(embedded) => match embedded.resource {
                ResourceContents::TextResourceContents { uri, text, .. } => {
                    attached.push((uri, text));
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    (text, attached)
}

async fn complete(
    client: &Client,
    reference: Reference,
    argument: &str,
    begun: &str,
) -> Result<CompletionInfo, ErrorData> {
    let argument = ArgumentInfo::new(argument, begun);
    let result = client.client.complete(CompleteRequestParams::new(reference, argument)).await;
    result.map(|result| result.completion).map_err(refusal)
}

#[tokio::test(start_paused = true)]
async fn a_user_picks_from_four_sentences() {
    let house = House::new([cpu("a")]).await;
    for client in house.both().await {
        let prompts = client.client.list_prompts(None).await.unwrap().prompts;
        let titles: Vec<_> = prompts.iter().filter_map(|prompt| prompt.title.as_deref()).collect();
        assert_eq!(
            titles,
            [
                "What AI services are available?",
                "Start the image generation service",
                "Which service is using the GPU?",
                "Show me the logs for the last service",
            ]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_so_now_comes_along() {
    let house = House::new([gpu("draw"), cpu("talk")]).await;
    house.start("draw").await;
    for client in house.both().await {
        for prompt in ["available_services", "gpu_usage"] {
            let (text, attached) = parts(client.prompt(prompt, json!({})).await.unwrap());
            assert!(text.contains('?'), "{text}");
            let [(uri, status)] = attached.as_slice() else { panic!("{attached:?}") };
            assert_eq!(uri, "service://status");
            assert!(status.contains(r#""gpu_service_running":"draw""#), "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_is_found_by_name_in_any_case_or_by_words_that_only_it_has() {
    let draw = service("comfy", |manifest| {
        manifest.description = "Image generation with nodes".to_owned();
    });
    let edit = service("Touch-Up", |manifest| manifest.tags = vec!["image".to_owned()]);
    let house = House::new([draw, edit, cpu("talk")]).await;
    let client = house.older().await;
    for (given, meant) in [
        ("comfy", "comfy"),
        (" COMFY ", "comfy"),
        ("the Image Generation", ""),
        ("image generation", "comfy"),
        ("touch-up", "Touch-Up"),
        ("image", ""),
        ("talking", ""),
    ] {
        let answer = client.prompt("start_service", json!({ "service": given })).await;
        match answer {
            Ok(result) => {
                let (text, attached) = parts(result);
                assert!(text.contains(&format!("'{meant}'")), "{given}: {text}");
                assert_eq!(attached[0].0, format!("service://status/{meant}"));
            }
            Err(error) => {
                assert_eq!(meant, "", "{given}: {error:?}");
                assert!(is_invalid(&error));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_names_no_service_or_a_wrong_one_is_told_which_there_are() {
    let house = House::new([cpu("stable-diffusion"), cpu("stable-audio"), cpu("talk")]).await;
    for client in house.both().await {
        for (prompt, arguments, hint) in [
            ("start_service", json!({}), "'stable-audio', 'stable-diffusion', 'talk'"),
            (
                "start_service",
                json!({"service": " "}),
                "'stable-audio', 'stable-diffusion', 'talk'",
            ),
            (
                "start_service",
                json!({"service": "stable-difusion"}),
                "did you mean 'stable-diffusion'",
            ),
            (
                "start_service",
                json!({"service": "stable"}),
                "did you mean 'stable-audio', 'stable-diffusion'",
            ),
            ("start_service", json!({"service": 7}), "must be a text"),
            ("service_logs", json!({"name": "tolk"}), "did you mean 'talk'"),
            ("service_logs", json!({"service": "talk"}), "'service' is none of"),
            ("gpu_usage", json!({"name": "talk"}), "'name' is none of"),
            ("gpu", json!({}), "gpu_usage"),
        ] {
            let error = client.prompt(prompt, arguments).await.unwrap_err();
            assert!(is_invalid(&error), "{error:?}");
            assert!(error.message.contains(hint), "{hint}: {}", error.message);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_service_is_the_one_whose_state_changed_last() {
    let house = House::new([cpu("a"), cpu("b"), cpu("c")]).await;
    house.start("c").await;
    house.start("b").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    std::thread::yield_now();
    house.stop("b").await;
    house.print("b", "the end");
    let client = house.older().await;
    let (text, attached) = parts(client.prompt("service_logs", json!({})).await.unwrap());
    assert!(text.contains("'b'"), "{text}");
    assert_eq!(attached[1].0, "service://logs/b");
    assert!(attached[1].1.ends_with("the end\n"), "{attached:?}");
    let (_, attached) = parts(client.prompt("service_logs", json!({"name": "c"})).await.unwrap());
    assert_eq!(attached[1].0, "service://logs/c");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_offered_to_be_started_where_nothing_may_be() {
    let house = House::with([cpu("a")], |config| config.read_only = true).await;
    let client = house.older().await;
    let prompts = client.client.list_prompts(None).await.unwrap().prompts;
    assert!(prompts.iter().all(|prompt| prompt.name != "start_service"), "{prompts:?}");
    assert!(is_invalid(
        &client.prompt("start_service", json!({"service": "a"})).await.unwrap_err()
    ));
}

#[tokio::test(start_paused = true)]
async fn arguments_are_completed_with_the_names_there_are() {
    let house = House::new([cpu("Stable-Diffusion"), cpu("stable-audio"), cpu("talk")]).await;
    for client in house.both().await {
        for (reference, argument) in [
            (Reference::for_prompt("start_service"), "service"),
            (Reference::for_prompt("service_logs"), "name"),
            (Reference::for_resource("service://logs/{name}"), "name"),
            (Reference::for_resource("service://status/{name}"), "name"),
        ] {
            let found = complete(&client, reference.clone(), argument, "STABLE").await.unwrap();
            assert_eq!(found.values, ["Stable-Diffusion", "stable-audio"]);
            assert_eq!((found.total, found.has_more), (Some(2), Some(false)));
            let all = complete(&client, reference.clone(), argument, "").await.unwrap();
            assert_eq!(all.values.len(), 3);
            let error = complete(&client, reference, "other", "").await.unwrap_err();
            assert!(is_invalid(&error), "{error:?}");
        }
        for reference in [
            Reference::for_prompt("gpu_usage"),
            Reference::for_prompt("nothing"),
            Reference::for_resource("service://logs/talk"),
            Reference::for_resource("file:///{name}"),
        ] {
            assert!(is_invalid(&complete(&client, reference, "name", "").await.unwrap_err()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_names_the_first_hundred_are_offered() {
    let house = House::new((0..120).map(|n| cpu(&format!("s{n:03}")))).await;
    let client = house.newer().await;
    let reference = Reference::for_prompt("service_logs");
    let found = complete(&client, reference, "name", "s").await.unwrap();
    assert_eq!((found.values.len(), found.total, found.has_more), (100, Some(120), Some(true)));
    assert_eq!((found.values[0].as_str(), found.values[99].as_str()), ("s000", "s099"));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_leaves_the_rest_of_the_prompt() {
    let house = House::new([cpu("a")]).await;
    house.start("a").await;
    house.engine.go_down();
    for client in house.both().await {
        let prompt = client.prompt("service_logs", json!({"name": "a"})).await.unwrap();
        let (text, attached) = parts(prompt);
        assert!(text.contains("service://logs/a could not be read"), "{text}");
        let [(uri, _)] = attached.as_slice() else { panic!("{attached:?}") };
        assert_eq!(uri, "service://status/a");
    }
}
