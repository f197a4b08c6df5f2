//! Sessions of the older revisions, and streams of both, at `/mcp` itself.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::{Daemon, initialize, message, request, stateless, stateless_headers};

fn subscribe(id: i64, uri: &str) -> Value {
    request(id, "resources/subscribe", &json!({"uri": uri}))
}

#[test]
fn g9_a_second_initialize_is_refused_and_the_session_lives_on() {
    let daemon = Daemon::new(&[]);
    let session = daemon.session();
    let mut future = initialize(2);
    future["params"]["protocolVersion"] = json!("2099-01-01");
    for again in [initialize(1), future] {
        let headers = [("mcp-session-id", session.as_str())];
        let refused = daemon.post(&headers, &again);
        assert!(message(&refused)["error"].is_object(), "{refused:?}");
        let pong = daemon.in_session(&session, &request(3, "ping", &json!({})));
        assert_eq!(message(&pong)["result"], json!({}), "{pong:?}");
        let subscribed = daemon.in_session(&session, &subscribe(4, "service://status"));
        assert!(message(&subscribed)["result"].is_object(), "{subscribed:?}");
    }
}

#[test]
fn g9_a_session_is_needed_for_its_stream_and_ends_when_it_is_told_to() {
    let daemon = Daemon::new(&[]);
    let accept = [("accept", "text/event-stream")];
    assert_eq!(daemon.ask("GET /mcp", &accept, "").status, 400);
    assert_eq!(daemon.ask("DELETE /mcp", &[], "").status, 400);
    let ping = request(1, "ping", &json!({}));
    assert_eq!(daemon.post(&[], &ping).status, 400);
    let (session, other) = (daemon.session(), daemon.session());
    let stream = daemon.listen(&session);
    let ended = daemon.ask("DELETE /mcp", &[("mcp-session-id", &session)], "");
    assert_eq!(ended.status, 204, "{ended:?}");
    stream.end();
    assert_eq!(daemon.in_session(&session, &ping).status, 404);
    assert_eq!(daemon.in_session(&other, &ping).status, 200);
}

#[test]
fn a_subscriber_that_was_idle_past_every_keep_alive_is_still_told() {
    let daemon = Daemon::new(&["--mcp-keep-alive", "1", "--mcp-session-idle", "6"]);
    let session = daemon.session();
    let mut stream = daemon.listen(&session);
    daemon.in_session(&session, &subscribe(1, "service://status/one"));
    // Longer than a session may be idle that nobody listens to.
    crate::stage::pause(Duration::from_secs(10));
    daemon.operate("one", "start");
    let told = stream.next().expect("the stream is open");
    assert_eq!(told["method"], "notifications/resources/updated", "{told}");
    assert_eq!(told["params"]["uri"], "service://status/one", "{told}");
    assert!(stream.comments >= 2, "{} signs of life", stream.comments);
}

#[test]
fn a_session_that_nobody_listens_to_ends() {
    let daemon = Daemon::new(&["--mcp-session-idle", "5"]);
    let session = daemon.session();
    let ping = request(1, "ping", &json!({}));
    crate::stage::pause(Duration::from_secs(12));
    assert_eq!(daemon.in_session(&session, &ping).status, 404);
}

#[test]
fn g9_there_are_only_so_many_sessions() {
    let daemon = Daemon::new(&[]);
    let sessions: Vec<_> = (0..64).map(|_| daemon.session()).collect();
    // One more: either it is refused, or the one that was idle for longest makes way.
    let more = daemon.post(&[], &initialize(1));
    let ping = request(1, "ping", &json!({}));
    let alive = sessions.iter().filter(|name| daemon.in_session(name, &ping).status == 200);
    let alive = alive.count() + usize::from(more.status == 200);
    assert!((60..=64).contains(&alive), "{alive} sessions live: {more:?}");
}

#[test]
fn open_streams_do_not_hold_up_the_end() {
    let mut daemon = Daemon::new(&[]);
    let session = daemon.session();
    let old = daemon.listen(&session);
    let listen = stateless(
        1,
        "subscriptions/listen",
        &json!({"notifications": {"resourceSubscriptions": ["service://status"]}}),
    );
    let mut new = daemon.stream(&stateless_headers("subscriptions/listen"), &listen);
    let acknowledged = new.next().expect("it is acknowledged");
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    let (status, took) = daemon.end();
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    old.end();
    new.end();
}
