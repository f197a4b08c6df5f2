//! Answers that break off.

use std::time::Duration;

use nanny_mcp::bridge::Daemon;
use serde_json::json;
use tokio::time::sleep;

use crate::client::{Client, answer, clocks, stateless};
use crate::daemon::ScriptedDaemon;

#[tokio::test]
async fn a_call_whose_answer_breaks_off_may_have_happened() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut client = Client::of(&daemon);
    for begun in [false, true] {
        client.say(stateless(1, "tools/call", json!({"name": "start_service"}))).await;
        let asked = daemon.asked().await;
        if begun {
            asked.stream("").await.raw("data: {\"jsonrpc\"").await;
        } else {
            drop(asked);
        }
        let heard = client.hear().await;
        let error = &heard["error"];
        assert_eq!(error["data"]["code"], "CUT_OFF", "{heard}");
        assert_eq!(error["data"]["executed"], "unknown", "{heard}");
        assert!(error["message"].as_str().unwrap().contains("look at the status first"), "{heard}");
    }
    // Whatever only reads did not change anything.
    client.say(stateless(1, "tools/list", json!({}))).await;
    drop(daemon.asked().await);
    let heard = client.hear().await;
    assert_eq!(heard["error"]["data"]["executed"], "no", "{heard}");
    assert_eq!(heard["id"], 1);
}

#[tokio::test]
async fn a_stream_without_a_sign_of_life_is_dead() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut clocks = clocks();
    clocks.silence = Duration::from_secs(15);
    let mut client = Client::with(Daemon::at_url(&daemon.url()).expect("it is one"), clocks);
    client.say(stateless(1, "tools/call", json!({"name": "start_service"}))).await;
    let mut stream = daemon.asked().await.stream("").await;
    // For longer than the limit, and never silent for so long.
    for _ in 0..17 {
        sleep(Duration::from_secs(1)).await;
        stream.raw(": alive\n\n").await;
    }
    stream.event(answer(1, json!({}))).await;
    assert_eq!(client.hear().await, answer(1, json!({})));
    client.say(stateless(2, "tools/call", json!({"name": "start_service"}))).await;
    let _silent = daemon.asked().await.stream("").await;
    let heard = client.hear().await;
    assert!(heard["error"]["message"].as_str().unwrap().contains("fell silent"), "{heard}");
}

#[tokio::test]
async fn an_answer_that_never_begins_has_a_deadline() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut clocks = clocks();
    clocks.answer = Duration::from_secs(2);
    let mut client = Client::with(Daemon::at_url(&daemon.url()).expect("it is one"), clocks);
    client.say(stateless(1, "tools/call", json!({"name": "start_service"}))).await;
    let _asked = daemon.asked().await;
    let heard = client.hear().await;
    assert!(heard["error"]["message"].as_str().unwrap().contains("within 2s"), "{heard}");
}
