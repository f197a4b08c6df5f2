//! Revision 2026-07-28: each message says itself what it needs.

use serde_json::json;

use crate::client::{Client, answer, notification, request, stateless};
use crate::daemon::ScriptedDaemon;

#[tokio::test]
async fn a_request_goes_as_it_came_with_the_headers_that_repeat_it() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut client = Client::of(&daemon);
    let call = stateless(1, "tools/call", json!({"name": "stop_service", "arguments": {"n": 1.0}}));
    client.say(call.clone()).await;
    let asked = daemon.asked().await;
    assert_eq!(asked.json(), call);
    assert_eq!(asked.method, "POST");
    for (name, value) in [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "stop_service"),
    ] {
        assert_eq!(asked.header(name), Some(value), "{asked:?}");
    }
    assert_eq!(asked.header("mcp-session-id"), None);
    asked.reply("200 OK", answer(1, json!({"a": "ä"}))).await;
    assert_eq!(client.hear().await, answer(1, json!({"a": "ä"})));

    client.say(stateless(2, "resources/read", json!({"uri": "service://status/häuser"}))).await;
    let asked = daemon.asked().await;
    let name = "=?base64?c2VydmljZTovL3N0YXR1cy9ow6R1c2Vy?=";
    assert_eq!(asked.header("mcp-name"), Some(name));
    asked.reply("200 OK", answer(2, json!({}))).await;
    client.hear().await;

    client.say(request(3, "server/discover", json!({}))).await;
    let asked = daemon.asked().await;
    assert_eq!(asked.header("mcp-method"), Some("server/discover"));
    assert_eq!(asked.header("mcp-protocol-version"), None);
    let refused = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32602, "message": "no"}});
    asked.reply("400 Bad Request", refused.clone()).await;
    let heard = client.hear().await;
    assert_eq!((&heard["id"], &heard["error"]), (&json!(3), &refused["error"]));
    assert!(client.finish().await.is_empty());
}

#[tokio::test]
async fn requests_do_not_wait_for_each_other() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut client = Client::of(&daemon);
    client.say(stateless(1, "tools/call", json!({"name": "start_service"}))).await;
    let mut slow = daemon.asked().await.stream("").await;
    let progress = notification("notifications/progress", json!({"progress": 5}));
    slow.raw(": alive\n\n").await;
    slow.event(progress.clone()).await;
    assert_eq!(client.hear().await, progress);
    client.say(stateless(2, "tools/list", json!({}))).await;
    daemon.asked().await.reply("200 OK", answer(2, json!({}))).await;
    assert_eq!(client.hear().await, answer(2, json!({})));
    slow.event(answer(1, json!({}))).await;
    assert_eq!(client.hear().await, answer(1, json!({})));
}

#[tokio::test]
async fn to_cancel_a_request_is_to_hang_up() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut client = Client::of(&daemon);
    client.say(stateless(1, "tools/call", json!({"name": "start_service"}))).await;
    let mut stream = daemon.asked().await.stream("").await;
    client.say(notification("notifications/cancelled", json!({"requestId": 1}))).await;
    stream.hung_up().await;
    // One that is before its answer has begun, too.
    client.say(stateless(1, "tools/call", json!({"name": "start_service"}))).await;
    let asked = daemon.asked().await;
    client.say(notification("notifications/cancelled", json!({"requestId": 1}))).await;
    asked.stream("").await.hung_up().await;
    client.say(notification("notifications/cancelled", json!({"requestId": 7}))).await;
    assert!(client.finish().await.is_empty());
    assert!(!daemon.was_asked_more());
}

#[tokio::test]
async fn what_is_no_message_is_answered_and_the_bridge_lives_on() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut client = Client::of(&daemon);
    for (line, code) in [
        ("hello".to_owned(), -32700),
        ("[]".to_owned(), -32600),
        ("{}".to_owned(), -32600),
        (format!("\"{}\"", "a".repeat(5 << 20)), -32600),
    ] {
        client.write(&format!("{line}\r\n\n")).await;
        let heard = client.hear().await;
        assert_eq!((&heard["id"], &heard["error"]["code"]), (&json!(null), &json!(code)));
    }
    client.write(&stateless(1, "tools/list", json!({})).to_string()).await;
    client.write("\r\n").await;
    daemon.asked().await.reply("200 OK", answer(1, json!({}))).await;
    assert_eq!(client.hear().await, answer(1, json!({})));
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_may_be() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut client = Client::of(&daemon);
    let mut open = Vec::new();
    for id in 0..64 {
        client.say(stateless(id, "subscriptions/listen", json!({}))).await;
        open.push(daemon.asked().await.stream("").await);
    }
    client.say(stateless(64, "tools/list", json!({}))).await;
    let heard = client.hear().await;
    assert_eq!(heard["error"]["data"]["code"], "TOO_MANY_REQUESTS", "{heard}");
    open[7].event(answer(7, json!({}))).await;
    client.hear().await;
    // Its place is free a moment after it was answered.
    let asked = loop {
        client.say(stateless(64, "tools/list", json!({}))).await;
        tokio::select! {
            asked = daemon.asked() => break asked,
            heard = client.hear() => {
                assert_eq!(heard["error"]["data"]["code"], "TOO_MANY_REQUESTS", "{heard}");
            }
        }
    };
    asked.reply("200 OK", answer(64, json!({}))).await;
    assert_eq!(client.hear().await, answer(64, json!({})));
}
