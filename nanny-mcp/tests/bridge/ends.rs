//! How a bridge ends.

use std::time::Duration;

use nanny_mcp::bridge::{Daemon, Lost};
use serde_json::json;

use crate::client::{Client, DEADLINE, answer, clocks, request, stateless};
use crate::daemon::ScriptedDaemon;
use crate::sessions::begun;

#[tokio::test]
async fn what_is_under_way_when_the_client_goes_is_still_answered() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut client = Client::of(&daemon);
    client.say(stateless(1, "subscriptions/listen", json!({}))).await;
    let mut endless = daemon.asked().await.stream("").await;
    // The last line need not be ended.
    client.write(&stateless(2, "tools/list", json!({})).to_string()).await;
    let (rest, ()) = tokio::join!(client.finish(), async {
        let asked = daemon.asked().await;
        endless.hung_up().await;
        asked.reply("200 OK", answer(2, json!({}))).await;
    });
    assert_eq!(rest, [answer(2, json!({}))]);
}

#[tokio::test]
async fn what_takes_longer_than_the_grace_does_not_hold_up_the_end() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut clocks = clocks();
    clocks.grace = Duration::from_millis(50);
    let mut client = Client::with(Daemon::at_url(&daemon.url()).expect("it is one"), clocks);
    client.say(stateless(1, "tools/call", json!({"name": "start_service"}))).await;
    let mut stream = daemon.asked().await.stream("").await;
    let (rest, ()) = tokio::join!(client.finish(), stream.hung_up());
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_signal_ends_it_at_once() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut client = Client::of(&daemon);
    client.say(stateless(1, "tools/call", json!({"name": "start_service"}))).await;
    let mut stream = daemon.asked().await.stream("").await;
    let (rest, ()) = tokio::join!(client.stop(), stream.hung_up());
    assert!(rest.is_empty());
}

#[tokio::test]
async fn without_a_reader_it_ends() {
    let mut daemon = ScriptedDaemon::new().await;
    let (mut client, _stream) = begun(&mut daemon, clocks()).await;
    client.say(request(2, "tools/call", json!({"name": "start_service"}))).await;
    let mut call = daemon.asked_for("tools/call").await.stream("").await;
    client.close_output();
    client.write("hello\n").await;
    call.hung_up().await;
    let asked = daemon.asked().await;
    assert_eq!((&*asked.method, asked.header("mcp-session-id")), ("DELETE", Some("first")));
    asked.accepted().await;
    assert!(matches!(client.ended().await, Err(Lost::Output(_))));
}

#[tokio::test]
async fn the_end_of_the_input_is_seen_before_a_session_has_begun() {
    let mut daemon = ScriptedDaemon::new().await;
    let mut clocks = clocks();
    (clocks.initialize, clocks.grace) = (10 * DEADLINE, Duration::from_millis(50));
    let mut client = Client::with(Daemon::at_url(&daemon.url()).expect("it is one"), clocks);
    client.say(request(1, "initialize", json!({"protocolVersion": "2025-11-25"}))).await;
    let _hangs = daemon.asked_for("initialize").await;
    assert!(client.finish().await.is_empty());
}

#[tokio::test]
async fn the_end_of_the_input_is_seen_behind_a_full_output() {
    let daemon = ScriptedDaemon::new().await;
    let mut clocks = clocks();
    clocks.grace = Duration::from_millis(50);
    let mut client = Client::with(Daemon::at_url(&daemon.url()).expect("it is one"), clocks);
    // Each is answered, and nobody reads that.
    client.write(&"hello\n".repeat(20_000)).await;
    client.close_input();
    assert!(client.ended().await.is_ok());
}
