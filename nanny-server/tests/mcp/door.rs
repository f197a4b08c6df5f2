//! Who gets in at `/mcp`, and with what.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::stage::{
    Bridge, Daemon, initialize, message, nanny, request, stateless, stateless_headers,
};

fn discover() -> Value {
    stateless(1, "server/discover", &json!({}))
}

#[test]
fn web_pages_and_strangers_are_kept_out() {
    let daemon = Daemon::new(&[]);
    let headers = stateless_headers("server/discover");
    let own = format!("http://{}", daemon.address());
    for (name, value, status) in [
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "file://", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("host", "evil.example", 403),
        ("host", "localhost.evil.example:8080", 403),
        ("origin", own.as_str(), 200),
        ("host", daemon.address(), 200),
        ("user-agent", "curl", 200),
    ] {
        let answer = daemon.post(&[&headers[..], &[(name, value)]].concat(), &discover());
        assert_eq!(answer.status, status, "{name}: {value}: {answer:?}");
    }
    for method in ["GET", "DELETE", "OPTIONS"] {
        let request = format!("{method} /mcp");
        let answer = daemon.ask(&request, &[("origin", "http://evil.example")], "");
        assert_eq!(answer.status, 403, "{method}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[test]
fn a_token_is_asked_for_and_the_bridge_presents_it() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("token");
    fs::write(&file, "canary-4711\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let file = file.to_str().unwrap();
    let daemon = Daemon::new(&["--token-file", file]);
    for token in [None, Some("Bearer wrong"), Some("Basic canary-4711"), Some("Bearer ")] {
        let mut headers = stateless_headers("server/discover").to_vec();
        headers.extend(token.map(|token| ("authorization", token)));
        let answer = daemon.post(&headers, &discover());
        assert_eq!(answer.status, 401, "{token:?}: {answer:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!answer.text.contains("canary"));
    }
    let mut headers = stateless_headers("server/discover").to_vec();
    headers.push(("authorization", "Bearer canary-4711"));
    assert_eq!(daemon.post(&headers, &discover()).status, 200);

    let mut stranger = Bridge::to(&daemon);
    assert!(stranger.logged().contains("wants a token"));
    let refused = stranger.ask(&discover());
    assert_eq!(refused["error"]["data"]["code"], "TOKEN_REQUIRED", "{refused}");
    stranger.finish();
    let url = daemon.url();
    let mut wrong =
        Bridge::with(nanny().args(["mcp", "--url", &url]).env("NANNY_TOKEN", "canary-2"));
    let refused = wrong.ask(&discover());
    assert!(refused["error"]["message"].as_str().unwrap().contains("another token"), "{refused}");
    assert!(!wrong.finish().contains("canary"));
    let mut friend = Bridge::with(nanny().args(["mcp", "--url", &url, "--token-file", file]));
    assert!(friend.ask(&discover())["result"].is_object());
    assert_eq!(friend.finish(), "");
    let mut neighbour = Bridge::over_socket(&daemon);
    assert!(neighbour.ask(&discover())["result"].is_object());
}

#[test]
fn g9_what_is_no_message_is_refused_and_harms_nobody() {
    let daemon = Daemon::new(&[]);
    let session = daemon.session();
    let headers = [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-session-id", &session),
    ];
    let post = |body: &str| daemon.ask("POST /mcp", &headers, body).status;
    for body in ["", "hello", "{", "[]", "{}", "7", r#"{"jsonrpc": "1.0"}"#, &"[".repeat(9999)] {
        assert_eq!(post(body), 400, "{body:.20}");
    }
    let big =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","x":"{}"}}"#, "a".repeat(1 << 20));
    assert_eq!(post(&big), 413);
    let ping = request(1, "ping", &json!({})).to_string();
    let odd = |name, value| {
        let headers: Vec<_> =
            headers.iter().map(|pair| if pair.0 == name { (name, value) } else { *pair }).collect();
        daemon.ask("POST /mcp", &headers, &ping).status
    };
    assert_eq!(odd("accept", "application/json"), 406);
    assert_eq!(odd("content-type", "text/plain"), 415);
    assert_eq!(odd("mcp-session-id", "00000000-0000-0000-0000-000000000000"), 404);
    assert_eq!(daemon.ask("PUT /mcp", &headers, &ping).status, 405);
    assert_eq!(post(&ping), 200);
}

#[test]
fn the_body_limit_is_told_through_the_bridge_too() {
    let daemon = Daemon::new(&[]);
    let mut bridge = Bridge::to(&daemon);
    let big = stateless(1, "tools/call", &json!({"arguments": "a".repeat(1 << 20)}));
    let refused = bridge.ask(&big);
    assert_eq!(refused["error"]["data"]["executed"], "no", "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("HTTP 413"), "{refused}");
    assert!(bridge.ask(&discover())["result"].is_object());
}

#[test]
fn clients_of_both_eras_are_served_on_one_port() {
    let daemon = Daemon::new(&[]);
    let session = daemon.session();
    let read = json!({"uri": "service://status"});
    let old = daemon.in_session(&session, &request(1, "resources/read", &read));
    let mut headers = stateless_headers("resources/read").to_vec();
    headers.push(("mcp-name", "service://status"));
    let new = daemon.post(&headers, &stateless(1, "resources/read", &read));
    for answer in [old, new] {
        assert_eq!(answer.status, 200, "{answer:?}");
        let message = message(&answer);
        let text = message["result"]["contents"][0]["text"].as_str().expect("it is text");
        assert!(text.contains("\"one\"") && text.contains("\"two\""), "{text}");
    }
}

#[test]
fn without_mcp_there_is_none_and_the_bridge_says_so() {
    let daemon = Daemon::new(&["--no-mcp"]);
    assert_eq!(daemon.post(&[], &initialize(1)).status, 404);
    let mut bridge = Bridge::to(&daemon);
    let refused = bridge.ask(&initialize(1));
    assert_eq!(refused["error"]["data"]["code"], "NO_MCP_HERE", "{refused}");
}
