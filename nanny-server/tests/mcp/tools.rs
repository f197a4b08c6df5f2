//! Services, operated by tools and through `nanny mcp`, in both eras.

use serde_json::{Value, json};

use crate::stage::{Bridge, Daemon, initialize, request, stateless};

/// A call of a client that can ask its user.
fn call(era: Era, id: i64, tool: &str, arguments: &Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    match era {
        Era::Sessions => request(id, "tools/call", &params),
        Era::Stateless => {
            let mut message = stateless(id, "tools/call", &params);
            message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
                json!({"elicitation": {"form": {}}});
            message
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    Sessions,
    Stateless,
}

fn client(daemon: &Daemon, era: Era) -> Bridge {
    let mut bridge = Bridge::to(daemon);
    if era == Era::Sessions {
        let mut first = initialize(0);
        first["params"]["capabilities"] = json!({"elicitation": {}});
        assert!(bridge.ask(&first)["result"].is_object());
        bridge.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    }
    bridge
}

/// What a tool answered that did what it was asked to.
#[track_caller]
fn done(answer: &Value) -> &Value {
    assert_ne!(answer["result"]["isError"], true, "{answer}");
    let content = &answer["result"]["structuredContent"];
    assert!(content.is_object(), "{answer}");
    content
}

#[test]
fn services_are_started_looked_at_and_stopped() {
    let daemon = Daemon::new(&[]);
    for era in [Era::Sessions, Era::Stateless] {
        let mut bridge = client(&daemon, era);
        let named = json!({"name": "one"});
        let listed = bridge.ask(&call(era, 1, "list_services", &json!({})));
        assert_eq!(done(&listed)["services"].as_array().map(Vec::len), Some(5), "{listed}");
        let started = bridge.ask(&call(era, 2, "start_service", &named));
        assert_eq!(done(&started)["outcome"], "running", "{started}");
        let status = bridge.ask(&call(era, 3, "get_service_status", &named));
        assert!(done(&status).to_string().contains("running"), "{status}");
        let stopped = bridge.ask(&call(era, 4, "stop_service", &named));
        assert_eq!(done(&stopped)["outcome"], "stopped", "{stopped}");
        let unknown = bridge.ask(&call(era, 5, "start_service", &json!({"name": "nobody"})));
        assert_eq!(unknown["result"]["isError"], true, "{unknown}");
        assert_eq!(bridge.finish(), "");
    }
}

#[test]
fn the_user_is_asked_in_the_midst_of_a_call() {
    let daemon = Daemon::new(&[]);
    let era = Era::Sessions;
    let mut bridge = client(&daemon, era);
    let mut ask = |id, name, force, says: Option<Value>| {
        bridge.say(&call(era, id, "start_service", &json!({"name": name, "force": force})));
        if let Some(says) = says {
            let question = bridge.hear_of("elicitation/create");
            bridge.say(&json!({"jsonrpc": "2.0", "id": question["id"], "result": says}));
        }
        bridge.answer_to(&json!(id))
    };
    assert_eq!(done(&ask(1, "painter", false, None))["outcome"], "running");
    let refused = ask(2, "writer", false, None);
    assert!(refused.to_string().contains("GPU_BUSY"), "{refused}");
    let declined = ask(3, "writer", true, Some(json!({"action": "decline"})));
    assert!(declined.to_string().contains("USER_DECLINED"), "{declined}");
    let yes = json!({"action": "accept", "content": {"confirm": true}});
    assert_eq!(done(&ask(4, "writer", true, Some(yes)))["outcome"], "running");
}

#[test]
fn the_user_is_asked_between_two_calls() {
    let daemon = Daemon::new(&[]);
    let era = Era::Stateless;
    let mut bridge = client(&daemon, era);
    done(&bridge.ask(&call(era, 1, "start_service", &json!({"name": "painter"}))));
    let mut forced = call(era, 2, "start_service", &json!({"name": "writer", "force": true}));
    let asked = bridge.ask(&forced);
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    let requests = asked["result"]["inputRequests"].as_object().expect("it asks");
    let says = json!({"action": "accept", "content": {"confirm": true}});
    let answers = requests.keys().map(|key| (key.clone(), says.clone())).collect();
    forced["id"] = json!(3);
    forced["params"]["inputResponses"] = Value::Object(answers);
    forced["params"]["requestState"] = asked["result"]["requestState"].clone();
    assert_eq!(done(&bridge.ask(&forced))["outcome"], "running");
}

#[test]
fn a_start_that_takes_its_time_tells_how_far_it_is_and_goes_on() {
    let daemon = Daemon::new(&["--mcp-start-wait", "3"]);
    for era in [Era::Sessions, Era::Stateless] {
        let mut bridge = client(&daemon, era);
        let mut start = call(era, 1, "start_service", &json!({"name": "slow"}));
        start["params"]["_meta"]["progressToken"] = json!("how far");
        let started = bridge.ask(&start);
        assert_eq!(done(&started)["outcome"], "starting", "{started}");
        let progress = bridge.hear_of("notifications/progress");
        assert_eq!(progress["params"]["progressToken"], "how far", "{progress}");
        done(&bridge.ask(&call(era, 2, "stop_service", &json!({"name": "slow"}))));
    }
}

#[test]
fn a_call_that_its_daemon_did_not_survive_may_have_happened() {
    let mut daemon = Daemon::new(&[]);
    for era in [Era::Sessions, Era::Stateless] {
        let mut bridge = client(&daemon, era);
        let mut start = call(era, 1, "start_service", &json!({"name": "slow"}));
        start["params"]["_meta"]["progressToken"] = json!(1);
        bridge.say(&start);
        bridge.hear_of("notifications/progress");
        daemon.kill();
        let cut = bridge.answer_to(&json!(1));
        assert_eq!(cut["error"]["data"]["code"], "CUT_OFF", "{cut}");
        assert_eq!(cut["error"]["data"]["executed"], "unknown", "{cut}");
        daemon.begin();
    }
}

#[test]
fn an_assistant_that_may_only_look_has_no_tools_that_act() {
    let daemon = Daemon::new(&["--mcp-read-only"]);
    let mut bridge = Bridge::to(&daemon);
    let listed = bridge.ask(&stateless(1, "tools/list", &json!({})));
    let tools = listed["result"]["tools"].as_array().expect("there are some");
    let names: Vec<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert_eq!(names, ["list_services", "get_service_status", "get_service_logs"]);
    let refused = bridge.ask(&call(Era::Stateless, 2, "stop_service", &json!({"name": "one"})));
    assert!(refused.to_string().contains("READ_ONLY"), "{refused}");
}
