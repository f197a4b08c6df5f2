//! One service: started, stopped, removed, changed, and touched by other hands.

use serde_json::{Value, json};

use crate::house::GPU;
use crate::kind::{Kind, Program};
use crate::stage::Stage;

pub(crate) fn a_service_is_started_and_stopped_and_started_again(kind: &'static dyn Kind) {
    let stage = Stage::with(kind, &[("web", Program::idle())]);
    stage.becomes("web", "stopped");
    let shown = stage.get("/services/web");
    assert_eq!((&shown["status"], &shown["backend"]), (&json!("stopped"), &json!(kind.name())));
    assert_eq!(stage.logs("web", "")["logs"], "", "it was never started");

    let answer = stage.started("web");
    let done = json!({"message": "Service 'web' started successfully", "status": "running",
                      "health_endpoint": null});
    assert_eq!(answer, done);
    let first = stage.run("web");
    assert_eq!(stage.started("web")["message"], "Service 'web' is already running");
    assert_eq!(stage.run("web"), first);
    let now = stage.status("web");
    assert_eq!((&now["is_running"], &now["holds_gpu"]), (&json!(true), &json!(true)), "{now}");
    assert_eq!((&now["is_healthy"], &now["ready"]), (&json!(true), &json!(true)), "{now}");
    assert!(now["uptime"].is_string() && now["error"].is_null(), "{now}");
    let container = &now["containers"][0];
    assert_eq!(container["state"], "running");
    stage.says_lines("web", &["up"]);

    let done = json!({"message": "Service 'web' stopped successfully", "status": "stopped"});
    assert_eq!(stage.stop("web", "").expect(200), done);
    stage.ends_with(&[]);
    let again = stage.stop("web", "").expect(200);
    assert_eq!(again["message"], "Service 'web' is not running");
    assert_eq!(stage.status("web")["uptime"], Value::Null);

    stage.started("web");
    assert_ne!(stage.run("web"), first);
    let now = stage.status("web");
    assert_eq!(now["containers"][0]["id"], container["id"], "it was stopped and not removed");
    stage.says_lines("web", &["up", "up"]);
    stage.ends_with(&["web"]);
}

pub(crate) fn what_is_removed_leaves_nothing_and_can_be_started(kind: &'static dyn Kind) {
    let stage = Stage::with(kind, &[("web", Program::idle())]);
    for _ in 0..2 {
        stage.started("web");
        assert!(kind.keeps(&stage, "web"));
        stage.stop("web", r#"{"remove": true}"#).expect(200);
        stage.ends_with(&[]);
        assert!(!kind.keeps(&stage, "web"));
        assert_eq!(stage.status("web")["containers"], json!([]));
        assert_eq!(stage.logs("web", "")["logs"], "");
    }
}

pub(crate) fn what_ignores_a_stop_is_told_first_and_killed_then(kind: &'static dyn Kind) {
    let stage = Stage::with(kind, &[("web", Program::stubborn())]);
    stage.started("web");
    stage.says_lines("web", &["up"]);
    stage.stop("web", "").expect(200);
    stage.ends_with(&[]);
    stage.says_lines("web", &["up", "told"]);
    let now = stage.status("web");
    assert_eq!((&now["status"], &now["error"]), (&json!("stopped"), &Value::Null));
    assert_eq!(now["containers"][0]["exit_code"], 137, "{now}");
}

pub(crate) fn whoever_is_told_to_stop_may_run_programs_to_tidy_up(kind: &'static dyn Kind) {
    let script = "trap 'sleep 0.5 && echo tidied; exit 4' TERM; echo up; \
                  while :; do sleep 0.1; done 2>/dev/null";
    let stage = Stage::with(kind, &[("web", Program::new(script))]);
    stage.started("web");
    stage.says_lines("web", &["up"]);
    stage.stop("web", "").expect(200);
    stage.says_lines("web", &["up", "tidied"]);
    assert_eq!(stage.status("web")["containers"][0]["exit_code"], 4);
    stage.ends_with(&[]);
}

pub(crate) fn what_is_stopped_by_hand_is_seen_and_frees_the_gpu(kind: &'static dyn Kind) {
    let stage = Stage::with(kind, &[("web", Program::idle()), ("rival", Program::idle())]);
    stage.started("web");
    kind.stop_by_hand(&stage, "web");
    stage.sees("web", |now| now["is_running"] == false && now["holds_gpu"] == false);
    stage.started("rival");
    stage.ends_with(&["rival"]);
    stage.stop("rival", "").expect(200);
    stage.started("web");
    stage.ends_with(&["web"]);
}

pub(crate) fn a_plan_says_what_a_start_would_do(kind: &'static dyn Kind) {
    let stage = Stage::with(kind, &[("web", Program::idle()), ("rival", Program::idle())]);
    let plan = |query: &str| stage.get(&format!("/services/rival/plan{query}"));
    let steps = |plan: &Value| -> Vec<String> {
        let steps = plan["steps"].as_array().expect("a list").iter();
        let words = steps.filter_map(|step| step.as_str()?.split(' ').next());
        words.map(str::to_owned).collect()
    };
    let admitted = plan("");
    assert_eq!(admitted["verdict"], "admit");
    assert!(steps(&admitted).ends_with(&["create".to_owned(), "start".to_owned()]), "{admitted}");

    stage.started("web");
    let refused = plan("");
    assert_eq!((&refused["verdict"], &refused["conflicts"]), (&json!("refuse"), &json!(["web"])));
    let forced = plan("?force=true");
    assert_eq!((&forced["verdict"], &forced["victims"]), (&json!("evict"), &json!(["web"])));
    assert_eq!(forced["steps"], admitted["steps"]);
    stage.ends_with(&["web"]);

    stage.start("rival", r#"{"force": true}"#).expect(200);
    assert_eq!(plan("")["verdict"], "already_running");
    // What it was made of is there already.
    stage.stop("rival", "").expect(200);
    let warm = plan("");
    assert!(!steps(&warm).contains(&"create".to_owned()), "{warm}");
    assert_eq!(steps(&warm).last().map(String::as_str), Some("start"), "{warm}");
}

pub(crate) fn what_changed_is_said_and_made_anew_when_asked(kind: &'static dyn Kind) {
    let mut stage = Stage::new(kind);
    stage.add("web", "", &Program::idle());
    stage.open();
    stage.started("web");
    let old = stage.run("web");
    let change = |says: &str| {
        let program = Program::new(&format!("echo {says}; exec sleep 86400"));
        kind.change(&stage, "web", GPU, &program);
        stage.ask("POST", "/rediscover", "").expect(200);
    };
    change("changed");
    let now = stage.until("web", |now| now["drift"] == true);
    assert_eq!(now["status"], "running");
    assert_eq!(stage.get("/services/web/plan")["drift"].as_array().map(Vec::len), Some(1));
    // What runs is left alone, unless somebody asks.
    assert_eq!(stage.started("web")["message"], "Service 'web' is already running");
    assert_eq!(stage.run("web"), old);
    stage.start("web", r#"{"recreate": true}"#).expect(200);
    assert_ne!(stage.run("web"), old);
    stage.says_lines("web", &["changed"]);
    assert_eq!(stage.status("web")["drift"], false);

    // What is stopped is made anew without being asked.
    stage.stop("web", "").expect(200);
    change("again");
    stage.until("web", |now| now["drift"] == true);
    stage.started("web");
    stage.says_lines("web", &["again"]);
    stage.ends_with(&["web"]);
    assert_eq!(stage.status("web")["containers"].as_array().map(Vec::len), Some(1));
}
