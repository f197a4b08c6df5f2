//! Services that cannot be started, and those that crash.

use serde_json::{Value, json};

use crate::house::until;
use crate::kind::{Kind, Program};
use crate::stage::Stage;

pub(crate) fn b18_a_program_that_is_missing_is_named_and_frees_the_gpu(kind: &'static dyn Kind) {
    let stage = Stage::with(kind, &[("web", Program::missing()), ("next", Program::idle())]);
    let failed = stage.start("web", "").expect(500);
    assert_eq!((&failed["code"], &failed["restored"]), (&json!("start_failed"), &json!([])));
    assert!(failed["detail"].as_str().is_some_and(|it| it.contains("no-such-program")), "{failed}");
    let now = stage.status("web");
    assert_eq!((&now["status"], &now["holds_gpu"]), (&json!("failed"), &json!(false)), "{now}");
    assert!(now["error"].as_str().is_some_and(|it| it.contains("no-such-program")), "{now}");
    assert_eq!(now["containers"][0]["exit_code"], Value::Null, "it never ran");
    stage.started("next");
    // A stop is how a failure is acknowledged.
    stage.stop("web", "").expect(200);
    let now = stage.status("web");
    assert_eq!((&now["status"], &now["error"]), (&json!("stopped"), &Value::Null));
    stage.ends_with(&["next"]);
}

pub(crate) fn what_crashes_is_restarted_as_it_asks_and_keeps_the_gpu(kind: &'static dyn Kind) {
    let fragile = Program::fragile().restart("unless-stopped");
    let stage = Stage::with(kind, &[("web", fragile), ("rival", Program::idle())]);
    stage.started("web");
    stage.says_lines("web", &["up"]);
    let before = stage.run("web");
    let id = stage.status("web")["containers"][0]["id"].clone();
    stage.signal_service("web", "USR1");
    until(
        || {
            // All that time nobody else gets the GPU.
            let refused = stage.start("rival", "").expect(409);
            assert_eq!(refused["conflicts"], json!(["web"]));
            stage.find("web").filter(|run| *run != before)
        },
        || format!("it is never restarted: {}", stage.status("web")),
    );
    stage.says_lines("web", &["up", "down", "up"]);
    stage.ends_with(&["web"]);
    assert_eq!(stage.status("web")["containers"][0]["id"], id);
    // A stop is no crash.
    stage.stop("web", "").expect(200);
    stage.ends_with(&[]);
}

pub(crate) fn d10_what_is_not_to_be_restarted_fails_and_frees_the_gpu(kind: &'static dyn Kind) {
    let stage = Stage::with(kind, &[("web", Program::fragile()), ("rival", Program::idle())]);
    stage.started("web");
    stage.says_lines("web", &["up"]);
    stage.signal_service("web", "USR1");
    let now = stage.becomes("web", "failed");
    assert!(now["error"].as_str().is_some_and(|error| error.contains('7')), "{now}");
    assert_eq!((&now["holds_gpu"], &now["containers"][0]["exit_code"]), (&json!(false), &json!(7)));
    stage.says_lines("web", &["up", "down"]);
    stage.started("rival");
    stage.ends_with(&["rival"]);

    // Killed from outside, as by a kernel that is out of memory.
    stage.stop("rival", "").expect(200);
    stage.started("web");
    stage.signal_service("web", "KILL");
    let now = stage.becomes("web", "failed");
    assert_eq!(now["containers"][0]["exit_code"], 137, "{now}");
    stage.ends_with(&[]);
}
