//! Clients of both eras behind `nanny mcp`.

use serde_json::{Value, json};

use crate::stage::{Bridge, Daemon, initialize, nanny, request, stateless};

fn read_status(bridge: &mut Bridge, message: &dyn Fn(&str, &Value) -> Value) -> String {
    let answer = bridge.ask(&message("resources/read", &json!({"uri": "service://status"})));
    let text = answer["result"]["contents"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("no status: {answer}")).to_owned()
}

fn assert_told(told: &Value, uri: &str) {
    assert_eq!(told["params"]["uri"], uri, "{told}");
}

#[test]
fn a_client_with_a_session_reads_and_is_told() {
    let daemon = Daemon::new(&[]);
    let mut bridge = Bridge::to(&daemon);
    bridge.initialize();
    let old = |method: &str, params: &Value| request(1, method, params);
    assert!(read_status(&mut bridge, &old).contains("\"one\""));
    let subscribed = json!({"uri": "service://status/one"});
    let answer = bridge.ask(&old("resources/subscribe", &subscribed));
    assert!(answer["result"].is_object(), "{answer}");
    daemon.operate("one", "start");
    let told = bridge.hear_of("notifications/resources/updated");
    assert_told(&told, "service://status/one");
    assert_eq!(bridge.finish(), "");
}

#[test]
fn a_client_without_one_reads_and_is_told() {
    let daemon = Daemon::new(&[]);
    let mut bridge = Bridge::over_socket(&daemon);
    let discovered = bridge.ask(&stateless(0, "server/discover", &json!({})));
    assert!(discovered["result"]["supportedVersions"].is_array(), "{discovered}");
    let new = |method: &str, params: &Value| stateless(1, method, params);
    assert!(read_status(&mut bridge, &new).contains("\"two\""));
    let wanted = json!({"notifications": {"resourceSubscriptions": ["service://status/two"]}});
    bridge.say(&stateless(2, "subscriptions/listen", &wanted));
    bridge.hear_of("notifications/subscriptions/acknowledged");
    daemon.operate("two", "start");
    let told = bridge.hear_of("notifications/resources/updated");
    assert_told(&told, "service://status/two");
    let cancelled = json!({"requestId": 2});
    bridge.say(&json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled,
    }));
    let unknown = bridge.ask(&new("nonsense/method", &json!({})));
    assert_eq!(unknown["error"]["code"], -32601, "{unknown}");
    assert_eq!(bridge.finish(), "");
}

#[test]
fn one_daemon_has_many_bridges() {
    let daemon = Daemon::new(&[]);
    let mut bridges: Vec<_> = (0..5).map(|_| Bridge::to(&daemon)).collect();
    for bridge in &mut bridges {
        bridge.initialize();
        bridge.ask(&request(1, "resources/subscribe", &json!({"uri": "service://status/one"})));
    }
    daemon.operate("one", "start");
    for mut bridge in bridges {
        assert_told(&bridge.hear_of("notifications/resources/updated"), "service://status/one");
        bridge.finish();
    }
}

#[test]
fn a_daemon_that_comes_back_finds_its_clients_again() {
    let mut daemon = Daemon::new(&[]);
    let mut bridge = Bridge::over_socket(&daemon);
    bridge.initialize();
    let old = |method: &str, params: &Value| request(1, method, params);
    bridge.ask(&old("resources/subscribe", &json!({"uri": "service://status/one"})));
    daemon.end();
    let absent = bridge.ask(&old("resources/list", &json!({})));
    assert_eq!(absent["error"]["data"]["code"], "NANNY_UNREACHABLE", "{absent}");
    let said = absent["error"]["message"].as_str().unwrap();
    assert!(said.contains("nanny serve") && said.contains(daemon.socket().to_str().unwrap()));
    daemon.begin();
    assert!(read_status(&mut bridge, &old).contains("\"one\""));
    // It was subscribed again, and told at once, since nobody knows what it has missed.
    assert_told(&bridge.hear_of("notifications/resources/updated"), "service://status/one");
    daemon.operate("one", "start");
    assert_told(&bridge.hear_of("notifications/resources/updated"), "service://status/one");
    bridge.finish();
}

#[test]
fn a_session_that_ended_by_itself_is_begun_anew() {
    let daemon = Daemon::new(&["--mcp-session-idle", "1"]);
    let mut bridge = Bridge::to(&daemon);
    let answer = bridge.ask(&initialize(0));
    assert!(answer["result"].is_object(), "{answer}");
    // It never says that it is initialized, so nobody listens for it.
    crate::stage::pause(std::time::Duration::from_secs(3));
    let listed = bridge.ask(&request(1, "resources/list", &json!({})));
    assert!(listed["result"].is_object(), "{listed}");
}

#[test]
fn a_signal_ends_the_bridge_in_order() {
    let daemon = Daemon::new(&[]);
    let mut bridge = Bridge::to(&daemon);
    bridge.initialize();
    bridge.ask(&request(1, "ping", &json!({})));
    assert!(bridge.signalled().success());
}

#[test]
fn flags_that_cannot_be_meant_are_refused() {
    for (flags, says) in [
        (&["mcp", "--url", "127.0.0.1:8080"][..], "http://127.0.0.1:8080"),
        (&["mcp", "--url", "http://a", "--unix-socket", "b"], "cannot be used with"),
        (&["mcp", "--token-file", "/nonexistent"], "/nonexistent"),
    ] {
        let output = nanny().args(flags).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn a_flag_counts_more_than_the_variable_of_the_other() {
    let variables = [("NANNY_URL", "http://127.0.0.1:1"), ("NANNY_UNIX_SOCKET", "/nonexistent")];
    for flags in [["--url", "http://127.0.0.1:2"], ["--unix-socket", "/nonexistent-either"]] {
        // Standard input is at its end: all that it does is to look whether somebody is there.
        let output = nanny().arg("mcp").args(flags).envs(variables).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let output = nanny().arg("mcp").envs(variables).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(variables.iter().all(|(name, _)| said.contains(name)), "{said}");
}
