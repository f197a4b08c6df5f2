//! Revisions before 2026-07-28: a session that begins with `initialize`.

use std::time::Duration;

use nanny_mcp::bridge::{Clocks, Daemon};
use serde_json::{Value, json};

use crate::client::{Client, DEADLINE, answer, clocks, notification, request};
use crate::daemon::{Asked, ScriptedDaemon, Stream};

const VERSION: &str = "2025-11-25";

fn initialize(id: i64) -> Value {
    request(id, "initialize", json!({"protocolVersion": VERSION, "capabilities": {"x": {}}}))
}

async fn grant(asked: Asked, session: &str) {
    let id = asked.id();
    let mut stream = asked.stream(&format!("mcp-session-id: {session}\r\n")).await;
    stream.raw("data: \nid: 0\nretry: 10\n\n").await;
    let capabilities = json!({"resources": {"listChanged": true}, "tools": {}});
    let begun = json!({
        "protocolVersion": VERSION, "capabilities": capabilities, "daemon": session,
    });
    stream.event(answer(id, begun)).await;
}

/// A client whose session is `first`, with the stream of what the daemon has to say.
pub(crate) async fn begun(daemon: &mut ScriptedDaemon, clocks: Clocks) -> (Client, Stream) {
    let mut client = Client::with(Daemon::at_url(&daemon.url()).expect("it is one"), clocks);
    client.say(initialize(1)).await;
    let asked = daemon.asked_for("initialize").await;
    assert_eq!(asked.header("mcp-session-id"), None);
    grant(asked, "first").await;
    assert_eq!(client.hear().await["result"]["daemon"], "first");
    client.say(notification("notifications/initialized", json!({}))).await;
    let asked = daemon.asked_for("notifications/initialized").await;
    assert_of(&asked, "first");
    asked.accepted().await;
    let stream = listened(daemon, "first", None).await;
    (client, stream)
}

/// The same client in its session `second`: the daemon knows nothing of the first.
async fn renewed(daemon: &mut ScriptedDaemon, client: &mut Client) -> Stream {
    client.say(request(99, "ping", json!({}))).await;
    daemon.asked_for("ping").await.status("404 Not Found", "Session not found").await;
    grant(daemon.asked_for("initialize").await, "second").await;
    daemon.asked_for("notifications/initialized").await.accepted().await;
    assert_eq!(client.hear().await, list_changed());
    let (one, other) = (daemon.asked().await, daemon.asked().await);
    let (stream, ping) = if one.method == "GET" { (one, other) } else { (other, one) };
    assert_of(&ping, "second");
    ping.reply("200 OK", answer(99, json!({}))).await;
    assert_eq!(client.hear().await, answer(99, json!({})));
    stream.stream("").await
}

async fn listened(daemon: &mut ScriptedDaemon, session: &str, last: Option<&str>) -> Stream {
    let asked = daemon.asked().await;
    assert_eq!(asked.method, "GET", "{asked:?}");
    assert_eq!(asked.header("accept"), Some("text/event-stream"));
    assert_eq!(asked.header("last-event-id"), last);
    assert_of(&asked, session);
    asked.stream("").await
}

#[track_caller]
fn assert_of(asked: &Asked, session: &str) {
    assert_eq!(asked.header("mcp-session-id"), Some(session), "{asked:?}");
    assert_eq!(asked.header("mcp-protocol-version"), Some(VERSION), "{asked:?}");
}

fn list_changed() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/resources/list_changed"})
}

fn updated(uri: &str) -> Value {
    notification("notifications/resources/updated", json!({"uri": uri}))
}

#[tokio::test]
async fn a_session_is_kept_and_what_the_daemon_says_in_it_is_passed_on() {
    let mut daemon = ScriptedDaemon::new().await;
    // A stream counts as refused if it ends sooner than this.
    let mut clocks = clocks();
    clocks.retry = Duration::from_millis(500);
    let (mut client, mut stream) = begun(&mut daemon, clocks).await;
    stream.event_with_id("4", updated("service://status")).await;
    assert_eq!(client.hear().await, updated("service://status"));

    client.say(request(2, "tools/call", json!({"name": "start_service"}))).await;
    let asked = daemon.asked_for("tools/call").await;
    assert_of(&asked, "first");
    assert_eq!(asked.header("mcp-method"), None);
    let mut call = asked.stream("").await;
    // It asks the user, in the midst of its answer.
    let question = request(7, "elicitation/create", json!({"message": "stop llm-chat?"}));
    call.event(question.clone()).await;
    assert_eq!(client.hear().await, question);
    client.say(answer(7, json!({"action": "accept"}))).await;
    let asked = daemon.asked().await;
    assert_of(&asked, "first");
    assert_eq!(asked.json(), answer(7, json!({"action": "accept"})));
    asked.accepted().await;
    call.event(answer(2, json!({}))).await;
    assert_eq!(client.hear().await, answer(2, json!({})));

    // It breaks off, and is taken up again where it did.
    drop(stream);
    let mut stream = listened(&mut daemon, "first", Some("4")).await;
    stream.event_with_id("5", updated("service://metrics")).await;
    assert_eq!(client.hear().await, updated("service://metrics"));
    // It is not known any more: an end at once, and the next one is afresh.
    drop(stream);
    drop(listened(&mut daemon, "first", Some("5")).await);
    let _stream = listened(&mut daemon, "first", None).await;

    let (rest, ()) = tokio::join!(client.finish(), async {
        let asked = daemon.asked().await;
        assert_eq!(asked.method, "DELETE");
        assert_of(&asked, "first");
        asked.accepted().await;
    });
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_cancelled_request_is_cancelled_at_the_daemon() {
    let mut daemon = ScriptedDaemon::new().await;
    let (mut client, _stream) = begun(&mut daemon, clocks()).await;
    client.say(request(2, "tools/call", json!({"name": "start_service"}))).await;
    let mut call = daemon.asked_for("tools/call").await.stream("").await;
    let cancelled = notification("notifications/cancelled", json!({"requestId": 2}));
    client.say(cancelled.clone()).await;
    let asked = daemon.asked().await;
    assert_of(&asked, "first");
    assert_eq!(asked.json(), cancelled);
    asked.accepted().await;
    call.hung_up().await;
}

#[tokio::test]
async fn a_daemon_that_hangs_holds_up_neither_the_client_nor_the_end() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut clocks = clocks();
    (clocks.head, clocks.grace) = (10 * DEADLINE, Duration::from_millis(50));
    let (mut client, _stream) = begun(&mut daemon, clocks).await;
    let mut calls = Vec::new();
    for id in 2..6 {
        client.say(request(id, "tools/call", json!({"name": "start_service"}))).await;
        calls.push(daemon.asked_for("tools/call").await.stream("").await);
    }
    for id in 2..6 {
        client.say(notification("notifications/cancelled", json!({"requestId": id}))).await;
    }
    let _hangs = daemon.asked_for("notifications/cancelled").await;
    for call in &mut calls {
        call.hung_up().await;
    }
    client.say(request(6, "ping", json!({}))).await;
    daemon.asked_for("ping").await.reply("200 OK", answer(6, json!({}))).await;
    assert_eq!(client.hear().await, answer(6, json!({})));
    let (rest, ()) = tokio::join!(client.finish(), async {
        let asked = daemon.asked().await;
        assert_eq!(asked.method, "DELETE");
        asked.accepted().await;
    });
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_answer_never_counts_for_a_question_of_another_session() {
    let mut daemon = ScriptedDaemon::new().await;
    let (mut client, _first) = begun(&mut daemon, clocks()).await;
    client.say(request(2, "tools/call", json!({"name": "start_service"}))).await;
    let mut call = daemon.asked_for("tools/call").await.stream("").await;
    let question = |what: &str| request(0, "elicitation/create", json!({"message": what}));
    call.event(question("stop A?")).await;
    assert_eq!(client.hear().await, question("stop A?"));
    // Daemons number their questions from the start in each session.
    let mut stream = renewed(&mut daemon, &mut client).await;
    stream.event(question("stop B?")).await;
    let shown = client.hear().await;
    assert_eq!(shown["params"]["message"], "stop B?");
    client.say(answer(0, json!({"action": "accept"}))).await;
    client.say(answer(7, json!({"action": "accept"}))).await;
    client.say(answer(shown["id"].clone(), json!({"action": "decline"}))).await;
    let asked = daemon.asked().await;
    assert_of(&asked, "second");
    assert_eq!(asked.json(), answer(0, json!({"action": "decline"})));
    asked.accepted().await;
}

#[tokio::test]
async fn a_subscription_that_is_agreed_to_while_the_session_goes_is_repeated() {
    let mut daemon = ScriptedDaemon::new().await;
    let (mut client, _first) = begun(&mut daemon, clocks()).await;
    client.say(request(2, "resources/subscribe", json!({"uri": "service://status"}))).await;
    let late = daemon.asked_for("resources/subscribe").await;
    let _second = renewed(&mut daemon, &mut client).await;
    late.reply("200 OK", answer(2, json!({}))).await;
    assert_eq!(client.hear().await, answer(2, json!({})));
    let asked = daemon.asked_for("resources/subscribe").await;
    assert_of(&asked, "second");
    assert_eq!(asked.json()["params"]["uri"], "service://status");
    let id = asked.id();
    asked.reply("200 OK", answer(id, json!({}))).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_taken_up_again() {
    let mut daemon = ScriptedDaemon::new().await;
    let (mut client, _stream) = begun(&mut daemon, clocks()).await;
    client.say(request(2, "tools/call", json!({"name": "start_service"}))).await;
    let mut call = daemon.asked_for("tools/call").await.stream("").await;
    call.raw("data: \nid: 0/3\nretry: 10\n\n").await;
    drop(call);
    // What comes after that may have its id.
    let mut call = listened(&mut daemon, "first", Some("0/3")).await;
    let progress = |done| notification("notifications/progress", json!({"progress": done}));
    call.event_with_id("0/3", progress(1)).await;
    assert_eq!(client.hear().await, progress(1));
    call.event_with_id("1/3", progress(2)).await;
    assert_eq!(client.hear().await, progress(2));
    drop(call);
    // The daemon repeats the last that was heard.
    let mut call = listened(&mut daemon, "first", Some("1/3")).await;
    call.event_with_id("1/3", progress(2)).await;
    call.event_with_id("2/3", answer(2, json!({}))).await;
    assert_eq!(client.hear().await, answer(2, json!({})));

    client.say(request(3, "tools/call", json!({"name": "start_service"}))).await;
    let mut call = daemon.asked_for("tools/call").await.stream("").await;
    call.raw("data: \nid: 0/4\n\n").await;
    drop(call);
    // A daemon that knows nothing of it.
    daemon.asked().await.status("404 Not Found", "").await;
    let heard = client.hear().await;
    assert_eq!(heard["error"]["data"]["executed"], "unknown", "{heard}");
}

#[tokio::test]
async fn a_session_that_went_with_its_daemon_is_begun_anew() {
    let mut daemon = ScriptedDaemon::new().await;
    let (mut client, stream) = begun(&mut daemon, clocks()).await;
    for (id, uri) in [(2, "service://status"), (3, "service://metrics"), (4, "service://logs/a")] {
        client.say(request(id, "resources/subscribe", json!({"uri": uri}))).await;
        daemon.asked_for("resources/subscribe").await.reply("200 OK", answer(id, json!({}))).await;
        client.hear().await;
    }
    client.say(request(5, "resources/unsubscribe", json!({"uri": "service://metrics"}))).await;
    daemon.asked_for("resources/unsubscribe").await.reply("200 OK", answer(5, json!({}))).await;
    client.hear().await;

    // Two at once, and the session is begun once.
    client.say(request(6, "tools/call", json!({"name": "start_service"}))).await;
    client.say(request(7, "tools/list", json!({}))).await;
    let (one, other) = (daemon.asked().await, daemon.asked().await);
    one.status("404 Not Found", "Session not found").await;
    other.status("404 Not Found", "Session not found").await;
    let asked = daemon.asked_for("initialize").await;
    assert_eq!(asked.header("mcp-session-id"), None);
    assert_eq!(asked.json()["params"], initialize(1)["params"]);
    assert!(asked.id().as_str().is_some_and(|id| id.starts_with("nanny-bridge-")));
    grant(asked, "second").await;
    let asked = daemon.asked_for("notifications/initialized").await;
    assert_of(&asked, "second");
    asked.accepted().await;
    for uri in ["service://logs/a", "service://status"] {
        let asked = daemon.asked_for("resources/subscribe").await;
        assert_eq!(asked.json()["params"]["uri"], uri);
        let id = asked.id();
        asked.reply("200 OK", answer(id, json!({}))).await;
        // What happened in between, nobody told.
        assert_eq!(client.hear().await, updated(uri));
    }
    assert_eq!(client.hear().await, list_changed());
    // Both requests, and the stream of the new session.
    let mut streams = Vec::new();
    for _ in 0..3 {
        let asked = daemon.asked().await;
        assert_of(&asked, "second");
        if asked.method == "GET" {
            streams.push(asked.stream("").await);
        } else {
            let id = asked.id();
            asked.reply("200 OK", answer(id, json!({}))).await;
            assert_eq!(client.hear().await["result"], json!({}));
        }
    }
    assert_eq!(streams.len(), 1);
    drop(stream);
}

#[tokio::test]
async fn who_only_listens_hears_of_the_next_daemon_too() {
    let mut daemon = ScriptedDaemon::new().await;
    let (mut client, stream) = begun(&mut daemon, clocks()).await;
    client.say(request(2, "resources/subscribe", json!({"uri": "service://status"}))).await;
    daemon.asked_for("resources/subscribe").await.reply("200 OK", answer(2, json!({}))).await;
    client.hear().await;
    let address = daemon.end().await;
    drop(stream);
    let mut daemon = ScriptedDaemon::at(address).await;
    daemon.asked().await.status("404 Not Found", "Session not found").await;
    grant(daemon.asked_for("initialize").await, "second").await;
    daemon.asked_for("notifications/initialized").await.accepted().await;
    let asked = daemon.asked_for("resources/subscribe").await;
    let id = asked.id();
    asked.reply("200 OK", answer(id, json!({}))).await;
    assert_eq!(client.hear().await, updated("service://status"));
    assert_eq!(client.hear().await, list_changed());
    let mut stream = listened(&mut daemon, "second", None).await;
    stream.event(updated("service://status")).await;
    assert_eq!(client.hear().await, updated("service://status"));
}

#[tokio::test]
async fn a_second_initialize_is_for_the_daemon_to_refuse() {
    let mut daemon = ScriptedDaemon::new().await;
    let (mut client, _stream) = begun(&mut daemon, clocks()).await;
    client.say(initialize(2)).await;
    let asked = daemon.asked_for("initialize").await;
    assert_eq!(asked.header("mcp-session-id"), Some("first"));
    let refusal = json!({"code": -32600, "message": "already initialized"});
    let refused = json!({"jsonrpc": "2.0", "id": 2, "error": refusal});
    asked.reply("200 OK", refused.clone()).await;
    assert_eq!(client.hear().await, refused);
    client.say(request(3, "ping", json!({}))).await;
    let asked = daemon.asked_for("ping").await;
    assert_of(&asked, "first");
    asked.reply("200 OK", answer(3, json!({}))).await;
    client.hear().await;
}

#[tokio::test]
async fn without_a_session_a_notification_is_for_nobody() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut client = Client::of(&daemon);
    client.say(notification("notifications/roots/list_changed", json!({}))).await;
    client.say(notification("notifications/initialized", json!({}))).await;
    client.say(request(1, "ping", json!({}))).await;
    let asked = daemon.asked_for("ping").await;
    assert_eq!(asked.header("mcp-session-id"), None);
    asked.status("400 Bad Request", "Session ID is required").await;
    let heard = client.hear().await;
    assert_eq!(heard["error"]["data"]["executed"], "no", "{heard}");
    assert!(client.finish().await.is_empty());
}
