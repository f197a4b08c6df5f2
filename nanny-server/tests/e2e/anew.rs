//! Containers that are made anew, and those that go with them.

use std::process::Command;

use serde_json::{Value, json};

use crate::engine;
use crate::house::{House, IDLE, STUBBORN, until, web};

/// Its data is in a volume that has no name.
fn with_data(more: &str) -> String {
    web(
        IDLE,
        &format!(
            "volumes: [/data, {{type: bind, source: './there', target: /there, bind: {{create_host_path: {more}}}}}]"
        ),
    )
}

#[test]
fn what_is_made_anew_keeps_the_volumes_that_have_no_name() {
    let Some(house) = House::with("", &with_data("true")) else { return };
    let container = house.container("web");
    house.started("web");
    engine::execute(&container, "echo kept > /data/file");
    let old = engine::id(&container);
    for change in ["USER_A=1\n", "USER_B=2\n"] {
        house.write("web", ".env", change);
        let compose = with_data("true")
            .replace("init: true", &format!("init: true\n    labels: {{of: '{}'}}", change.trim()));
        house.write("web", "docker-compose.yml", &compose);
        house.ask("POST", "/rediscover", "").expect(200);
        assert_eq!(house.until("web", |now| now["drift"] == true)["status"], "running");
        let plan = house.get("/services/web/plan");
        assert_eq!(plan["drift"], json!(["web-web-1"]), "{plan}");
        house.start("web", r#"{"recreate": true}"#).expect(200);
        assert_eq!(engine::execute(&container, "cat /data/file"), "kept\n");
        assert_eq!(house.status("web")["drift"], false);
    }
    assert_ne!(engine::id(&container), old);
    assert_eq!(engine::containers(&house.project("web")).len(), 1);
}

#[test]
fn what_cannot_be_made_anew_stays_as_it_was() {
    let Some(house) = House::with("", &web(IDLE, "volumes: [/data]")) else { return };
    let container = house.container("web");
    house.started("web");
    engine::execute(&container, "echo kept > /data/file");
    let id = engine::id(&container);
    // No engine makes a container with a mount of what is not there.
    house.write("web", "docker-compose.yml", &with_data("false"));
    house.ask("POST", "/rediscover", "").expect(200);
    let failed = house.start("web", r#"{"recreate": true}"#).expect(500);
    assert!(failed["detail"].as_str().unwrap().contains("there"), "{failed}");
    assert_eq!((engine::id(&container), engine::runs(&container)), (id.clone(), true));
    house.stop("web", "").expect(200);
    house.start("web", "").expect(500);
    assert_eq!(engine::id(&container), id);
    house.write("web", "docker-compose.yml", &web(IDLE, "volumes: [/data]"));
    house.ask("POST", "/rediscover", "").expect(200);
    house.started("web");
    assert_eq!(engine::id(&container), id);
    assert_eq!(engine::execute(&container, "cat /data/file"), "kept\n");
}

/// What Compose leaves if it is killed while it makes a container anew: the next one, made.
fn half_done(house: &House) -> String {
    let old = engine::inspect(&house.container("web"));
    let id = old["Id"].as_str().expect("it has one");
    let name = format!("{}_{}", &id[..12], house.container("web"));
    let mut command = Command::new("docker");
    command.args(["create", "--name", &name]);
    for (label, value) in old["Config"]["Labels"].as_object().expect("it has labels") {
        command.arg("--label").arg(format!("{label}={}", value.as_str().unwrap_or_default()));
    }
    command.args(["nanny-test/busybox:1", "sleep", "86400"]);
    assert!(command.output().expect("there is a docker command").status.success());
    name
}

#[test]
fn what_compose_left_half_made_anew_is_brought_to_an_end() {
    let Some(house) = House::with("", &web(IDLE, "")) else { return };
    let container = house.container("web");
    house.started("web");
    let id = engine::id(&container);
    house.stop("web", "").expect(200);
    let heir = half_done(&house);
    house.sees("web", |now| now["containers"].as_array().is_some_and(|all| all.len() == 2));
    house.started("web");
    assert_eq!(engine::id(&container), id, "nothing is wrong with it");
    assert!(engine::find(&heir).is_none());

    house.stop("web", "").expect(200);
    let heir = half_done(&house);
    let next = engine::id(&heir);
    engine::remove(&container);
    // Not the one before it, as long as the other has not been seen yet.
    house.sees("web", |now| {
        now["containers"].as_array().is_some_and(|all| all.len() == 1 && all[0]["id"] == next)
    });
    house.started("web");
    assert_eq!(engine::id(&container), next);
    assert!(engine::find(&heir).is_none());
}

#[test]
fn a3_killed_while_it_makes_a_container_anew_it_ends_with_one() {
    let Some(mut house) =
        House::with("", &web(STUBBORN, "volumes: [/data]\nstop_grace_period: 8s"))
    else {
        return;
    };
    let container = house.container("web");
    house.started("web");
    engine::execute(&container, "echo kept > /data/file");
    for _ in 0..3 {
        house.notes("web", "running");
        let client = house.begin_start("web", r#"{"recreate": true}"#);
        until(
            || (engine::containers(&house.project("web")).len() == 2).then_some(()),
            || "no other container is made".to_owned(),
        );
        house.notes("web", "starting");
        house.end_with("KILL");
        drop(client);
        house.open();
        until(
            || {
                let all = engine::containers(&house.project("web"));
                (all.len() == 1 && all[0]["State"] == "running").then_some(())
            },
            || format!("{:?}", engine::containers(&house.project("web"))),
        );
        house.becomes("web", "running");
        assert_eq!(engine::execute(&container, "cat /data/file"), "kept\n");
    }
}

fn sharing() -> String {
    format!(
        "{}  side:\n    image: nanny-test/busybox:1\n    init: true\n    \
         command: [sh, -c, {IDLE:?}]\n    network_mode: service:web\n    ipc: service:web\n",
        web(IDLE, "ipc: shareable")
    )
}

fn ids(house: &House) -> [String; 2] {
    ["web", "side"].map(|part| engine::id(&format!("{}-{part}-1", house.project("web"))))
}

#[test]
fn parts_share_namespaces_and_compose_finds_nothing_to_do() {
    let Some(house) = House::with("", &sharing()) else { return };
    house.started("web");
    let side = format!("{}-side-1", house.project("web"));
    let shares = |web: &str| {
        let host = &engine::inspect(&side)["HostConfig"];
        let of_web = json!(format!("container:{web}"));
        assert_eq!((&host["NetworkMode"], &host["IpcMode"]), (&of_web, &of_web));
    };
    let first = ids(&house);
    shares(&first[0]);
    assert_eq!(house.status("web")["drift"], false);
    if engine::has_compose() {
        let said = engine::compose(&house.home("web"), &["up", "-d"]);
        assert_eq!(ids(&house), first, "{said}");
    }
    house.start("web", r#"{"recreate": true}"#).expect(200);
    let second = ids(&house);
    assert!(first.iter().all(|id| !second.contains(id)));
    shares(&second[0]);
    assert_eq!(house.becomes("web", "running")["drift"], false);
    if engine::has_compose() {
        let said = engine::compose(&house.home("web"), &["up", "-d"]);
        assert_eq!(ids(&house), second, "{said}");
    }
    house.stop("web", r#"{"remove": true}"#).expect(200);
    assert!(engine::containers(&house.project("web")).is_empty());
}

#[test]
fn who_is_to_follow_is_started_again_after_the_other() {
    let follower = format!(
        "{}  side:\n    image: nanny-test/busybox:1\n    init: true\n    \
         command: [sh, -c, {IDLE:?}]\n    depends_on:\n      \
         web: {{condition: service_started, restart: true}}\n",
        web(IDLE, "")
    );
    let Some(house) = House::with("", &follower) else { return };
    house.started("web");
    let side = format!("{}-side-1", house.project("web"));
    let since = |container: &str| engine::time(&engine::inspect(container)["State"]["StartedAt"]);
    let (id, before) = (engine::id(&side), since(&side));
    // Somebody takes one away; the other runs on.
    engine::docker(&["kill", &house.container("web")]);
    house.until("web", |now| now["status"] == "unhealthy");
    let compose = follower.replace("up; exec", "anew; exec");
    house.write(
        "web",
        "docker-compose.yml",
        &compose.replacen("anew; exec", "new; exec", 1).replacen("anew; exec", "up; exec", 1),
    );
    house.ask("POST", "/rediscover", "").expect(200);
    house.started("web");
    assert_eq!(engine::id(&side), id, "nothing changed about it");
    assert!(since(&side) > before, "it was not started again");
    assert!(since(&side) >= since(&house.container("web")));
}

#[test]
fn orphans_are_told_of_and_left() {
    let both = format!(
        "{}  gone:\n    image: nanny-test/busybox:1\n    init: true\n    \
         command: [sh, -c, {IDLE:?}]\n",
        web(IDLE, "")
    );
    let Some(house) = House::with("", &both) else { return };
    house.started("web");
    assert_eq!(house.status("web")["orphans"], json!([]));
    house.write("web", "docker-compose.yml", &web(IDLE, ""));
    house.ask("POST", "/rediscover", "").expect(200);
    let now = house.until("web", |now| now["orphans"] == json!(["web-gone-1"]));
    assert_eq!(now["status"], "running", "{now}");
    assert_eq!(house.get("/services/web/plan")["orphans"], json!(["web-gone-1"]));
    house.stop("web", r#"{"remove": true}"#).expect(200);
    let left = engine::containers(&house.project("web"));
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["State"], "exited");
}

#[test]
fn a_part_scaled_to_nothing_has_no_container() {
    let scaled = |scale: u8| {
        format!(
            "{}  extra:\n    image: nanny-test/busybox:1\n    init: true\n    scale: {scale}\n    \
             command: [sh, -c, {IDLE:?}]\n",
            web(IDLE, "")
        )
    };
    let Some(house) = House::with("", &scaled(0)) else { return };
    assert_eq!(house.started("web")["status"], "running");
    let parts = |house: &House| engine::containers(&house.project("web")).len();
    assert_eq!(parts(&house), 1);
    assert_eq!(house.started("web")["message"], "Service 'web' is already running");
    house.write("web", "docker-compose.yml", &scaled(1));
    house.ask("POST", "/rediscover", "").expect(200);
    house.started("web");
    assert_eq!(parts(&house), 2);
    house.stop("web", "").expect(200);
    house.write("web", "docker-compose.yml", &scaled(0));
    house.ask("POST", "/rediscover", "").expect(200);
    house.started("web");
    assert_eq!(parts(&house), 1);
    assert_eq!(house.status("web")["orphans"], json!([]));
}

#[test]
fn a_network_from_another_configuration_is_used_and_told_of() {
    let file = |label: &str| {
        format!("{}networks:\n  default:\n    labels: {{made: '{label}'}}\n", web(IDLE, ""))
    };
    let Some(house) = House::with("", &file("first")) else { return };
    house.started("web");
    assert_eq!(house.status("web")["notices"], json!([]));
    house.stop("web", "").expect(200);
    house.write("web", "docker-compose.yml", &file("second"));
    house.ask("POST", "/rediscover", "").expect(200);
    house.started("web");
    let now = house.status("web");
    assert!(now["notices"][0].as_str().unwrap().contains("web_default"), "{now}");
    house.stop("web", r#"{"remove": true}"#).expect(200);
    house.started("web");
    assert_eq!(house.status("web")["notices"], json!([]));
    let made =
        engine::docker(&["network", "inspect", &format!("{}_default", house.project("web"))]);
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made[0]["Labels"]["made"], "second");
}
