//! Health: who is asked, and what the answers mean.

use std::fs;

use serde_json::json;

use crate::house::free_port;
use crate::kind::{Kind, Program};
use crate::stage::Stage;

fn stage(kind: &'static dyn Kind, more: &str, first: &str) -> Stage {
    let port = free_port();
    let mut stage = Stage::new(kind);
    let manifest = format!("health_endpoint: http://localhost:{port}/health\n{more}");
    stage.add("web", &manifest, &Program::serving(port, first));
    stage.open();
    stage
}

pub(crate) fn d1_what_gets_healthy_late_is_unhealthy_until_then(kind: &'static dyn Kind) {
    let port = free_port();
    let mut stage = Stage::new(kind);
    let folder = stage.directory().join("shared");
    fs::create_dir(&folder).expect("it is new");
    // Answers 404 until it is told to be healthy.
    let late = format!(
        "(until test -e {}/go; do sleep 0.1; done; echo fine > www/health) &",
        kind.sees(&folder)
    );
    let program = Program { mount: Some(folder.clone()), ..Program::serving(port, &late) };
    let manifest = format!(
        "health_endpoint: http://localhost:{port}/health\nhealth_timeout: 1\n\
         health: {{interval: 1}}\n"
    );
    stage.add("web", &manifest, &program);
    stage.open();
    let answer = stage.started("web");
    assert!(answer["health_endpoint"].is_string(), "{answer}");
    let run = stage.run("web");
    let now = stage.becomes("web", "unhealthy");
    assert_eq!((&now["is_running"], &now["is_healthy"]), (&json!(true), &json!(false)), "{now}");
    assert_eq!((&now["ready"], &now["holds_gpu"]), (&json!(false), &json!(true)), "{now}");
    assert!(now["health"]["reason"].is_string(), "{now}");
    fs::write(folder.join("go"), "").expect("it is ours");
    let now = stage.until("web", |now| now["ready"] == true);
    assert_eq!((&now["status"], &now["is_healthy"]), (&json!("running"), &json!(true)), "{now}");
    assert_eq!(now["health"]["source"], "endpoint");
    assert_eq!(stage.run("web"), run, "late health is never a reason to stop it");
}

pub(crate) fn who_waits_for_health_is_answered_when_it_is_there(kind: &'static dyn Kind) {
    let stage = stage(kind, "health: {interval: 1}\n", "echo fine > www/health;");
    let answer = stage.start("web", r#"{"wait": "healthy"}"#).expect(200);
    assert_eq!(answer["status"], "running");
    let now = stage.status("web");
    assert_eq!((&now["is_healthy"], &now["ready"]), (&json!(true), &json!(true)), "{now}");
    stage.ends_with(&["web"]);
}
