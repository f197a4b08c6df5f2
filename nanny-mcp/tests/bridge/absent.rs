//! Daemons that are not there, or do not want us.

use std::time::Duration;

use nanny_mcp::bridge::Daemon;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::{Client, answer, clocks, request, stateless};
use crate::daemon::ScriptedDaemon;

/// An error of the bridge's own, with all that it must say.
#[track_caller]
fn assert_says(heard: &Value, code: &str, executed: &str, words: &[&str]) {
    let error = &heard["error"];
    assert_eq!(error["code"], -32000, "{heard}");
    assert_eq!(error["data"]["code"], code, "{heard}");
    assert_eq!(error["data"]["executed"], executed, "{heard}");
    let said = error["message"].as_str().expect("it says something");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[tokio::test]
async fn without_a_daemon_every_request_is_told_how_to_start_one() {
    let daemon = ScriptedDaemon::new().await;
    let (url, address) = (daemon.url(), daemon.end().await);
    let mut client = Client::with(Daemon::at_url(&url).expect("it is one"), clocks());
    for message in [
        request(1, "initialize", json!({"protocolVersion": "2025-11-25"})),
        stateless(1, "server/discover", json!({})),
        stateless(1, "tools/call", json!({"name": "start_service"})),
        request(1, "tools/list", json!({})),
    ] {
        client.say(message).await;
        let heard = client.hear().await;
        assert_says(&heard, "NANNY_UNREACHABLE", "no", &[&url, "`nanny serve`", "`nanny demo`"]);
        assert_eq!(heard["error"]["data"]["address"], url.as_str());
    }
    // It comes, and all is well.
    let mut daemon = ScriptedDaemon::at(address).await;
    client.say(stateless(2, "tools/list", json!({}))).await;
    daemon.asked().await.reply("200 OK", answer(2, json!({}))).await;
    assert_eq!(client.hear().await, answer(2, json!({})));
}

#[tokio::test]
async fn an_editor_may_start_shortly_before_the_daemon() {
    let daemon = ScriptedDaemon::new().await;
    let (url, address) = (daemon.url(), daemon.end().await);
    let mut clocks = clocks();
    clocks.patience = Duration::from_secs(60);
    let mut client = Client::with(Daemon::at_url(&url).expect("it is one"), clocks);
    client.say(stateless(1, "server/discover", json!({}))).await;
    sleep(Duration::from_millis(200)).await;
    let mut daemon = ScriptedDaemon::at(address).await;
    daemon.asked().await.reply("200 OK", answer(1, json!({}))).await;
    assert_eq!(client.hear().await, answer(1, json!({})));
}

#[tokio::test]
async fn a_unix_socket_is_asked_like_an_address() {
    let place = std::env::temp_dir().join(format!("nanny-bridge-{}.sock", std::process::id()));
    let daemon = Daemon::at_unix_socket(&place).expect("it is a path");
    let mut client = Client::with(daemon, clocks());
    client.say(stateless(1, "tools/list", json!({}))).await;
    let path = place.to_str().expect("it is text");
    assert_says(&client.hear().await, "NANNY_UNREACHABLE", "no", &[path]);
}

#[tokio::test]
async fn a_daemon_that_wants_a_token_gets_it_or_the_client_is_told() {
    let mut daemon = ScriptedDaemon::new().await;
    let refusal = json!({"code": "unauthorized", "message": "A token is needed"});
    let bare = Daemon::at_url(&daemon.url()).expect("it is one");
    let mut client = Client::with(bare.clone(), clocks());
    client.say(stateless(1, "tools/list", json!({}))).await;
    let asked = daemon.asked().await;
    assert_eq!(asked.header("authorization"), None);
    asked.reply("401 Unauthorized", refusal.clone()).await;
    let words = ["wants a token", "--token-file", "NANNY_TOKEN"];
    assert_says(&client.hear().await, "TOKEN_REQUIRED", "no", &words);

    let mut client = Client::with(bare.with_token("canary").expect("it is a token"), clocks());
    client.say(stateless(1, "tools/list", json!({}))).await;
    let asked = daemon.asked().await;
    assert_eq!(asked.header("authorization"), Some("Bearer canary"));
    asked.reply("401 Unauthorized", refusal).await;
    let heard = client.hear().await;
    assert_says(&heard, "TOKEN_REQUIRED", "no", &["another token"]);
    assert!(!heard.to_string().contains("canary"));
}

#[tokio::test]
async fn whoever_answers_and_is_no_nanny_is_named() {
    let mut daemon = ScriptedDaemon::new().await;
    let url = daemon.url();
    let mut client = Client::of(&daemon);
    let call = || stateless(1, "tools/call", json!({"name": "start_service"}));
    client.say(call()).await;
    daemon.asked().await.status("404 Not Found", "").await;
    assert_says(&client.hear().await, "NO_MCP_HERE", "no", &[&url, "--no-mcp"]);
    client.say(call()).await;
    let refusal = json!({"code": "foreign_host", "message": "I am not gpu.lan"});
    daemon.asked().await.reply("403 Forbidden", refusal).await;
    assert_says(&client.hear().await, "REFUSED", "no", &["I am not gpu.lan", "--allowed-host"]);
    client.say(call()).await;
    daemon.asked().await.status("500 Internal Server Error", "oh\u{1b}[31m dear").await;
    assert_says(
        &client.hear().await,
        "REFUSED",
        "unknown",
        &["500", "oh[31m dear", "status first"],
    );
    client.say(call()).await;
    daemon.asked().await.status("200 OK", "<html>").await;
    assert_says(&client.hear().await, "UNINTELLIGIBLE", "unknown", &["not in MCP"]);
    client.say(call()).await;
    daemon.asked().await.reply("200 OK", answer(9, json!({}))).await;
    assert_says(&client.hear().await, "UNINTELLIGIBLE", "unknown", &["something else"]);
}
