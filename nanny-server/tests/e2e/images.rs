//! Images: found, pulled or built, as the file says.

use std::fs;

use serde_json::{Value, json};

use crate::engine;
use crate::house::{CANARY, House, IDLE, web};

const RECIPE: &str = "FROM nanny-test/busybox:1\nARG MADE=first\nENV MADE=$MADE\nCOPY . /context\n";

/// A service whose image is built from its own directory.
fn built(more: &str) -> String {
    format!(
        "services:\n  web:\n    build: {{context: ., args: {{MADE: '${{MADE:-first}}', \
         HUSH: {CANARY}-argument}}, labels: {{mine: 'yes'}}}}\n    init: true\n    \
         command: [sh, -c, {IDLE:?}]\n{more}"
    )
}

/// Removes an image when a test ends.
struct Image(String);

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rmi", "-f", &self.0]).output();
    }
}

fn image(name: &str) -> Value {
    let found = engine::docker(&["image", "inspect", name]);
    serde_json::from_str::<Value>(&found).expect("JSON")[0].clone()
}

fn id(image: &Value) -> String {
    image["Id"].as_str().expect("it has one").to_owned()
}

#[test]
fn what_is_not_there_is_built_under_the_name_and_labels_of_compose() {
    let Some(mut house) = House::new() else { return };
    let image_name = house.project("web") + "-web";
    house.add("web", "", &built(""));
    house.write("web", "Dockerfile", RECIPE);
    house.write("web", ".dockerignore", "secret\n");
    house.write("web", "secret", "x");
    house.open();
    let plan = house.get("/services/web/plan");
    assert_eq!(plan["steps"][1], format!("image '{}'", "web-web"), "{plan}");
    house.started("web");
    let container = house.container("web");
    assert_eq!(
        engine::execute(&container, "echo $MADE; ls /context | grep -c secret || true"),
        "first\n0\n"
    );
    let first = image(&image_name);
    let (one, other) = (Image(id(&first)), Image(image_name.clone()));
    let labels = &first["Config"]["Labels"];
    assert_eq!(labels["com.docker.compose.project"], house.project("web"));
    assert_eq!(
        (&labels["com.docker.compose.service"], &labels["mine"]),
        (&json!("web"), &json!("yes"))
    );
    assert_eq!(
        engine::inspect(&container)["Config"]["Labels"]["com.docker.compose.image"],
        first["Id"]
    );
    if engine::has_compose() {
        let id = engine::id(&container);
        engine::compose(&house.home("web"), &["up", "-d"]);
        assert_eq!(engine::id(&container), id);
        let listed = engine::compose(&house.home("web"), &["images"]);
        assert!(listed.contains(&image_name), "{listed}");
    }

    // What is there is not built again, unless the file says so.
    house.stop("web", "").expect(200);
    house.write("web", ".env", "MADE=second\n");
    house.started("web");
    assert_eq!(image(&image_name)["Id"], first["Id"]);
    house.write("web", "docker-compose.yml", &built("    pull_policy: build\n"));
    house.stop("web", "").expect(200);
    house.ask("POST", "/rediscover", "").expect(200);
    house.started("web");
    assert_ne!(image(&image_name)["Id"], first["Id"]);
    assert_eq!(engine::execute(&container, "echo $MADE"), "second\n");
    // Only without their containers can they go.
    drop(house);
    drop((one, other));
}

#[test]
fn a_build_that_fails_says_which_and_why_and_leaves_nothing() {
    let Some(house) = House::with("", &built("")) else { return };
    house.write("web", "Dockerfile", "FROM nanny-test/busybox:1\nRUN exit 7\n");
    let failed = house.start("web", "").expect(500);
    let detail = failed["detail"].as_str().unwrap();
    assert!(detail.contains("web-web") && detail.contains("exit 7"), "{detail}");
    assert!(engine::containers(&house.project("web")).is_empty());
    fs::remove_file(house.home("web").join("Dockerfile")).unwrap();
    let failed = house.start("web", "").expect(500);
    assert!(failed["detail"].as_str().unwrap().contains("Dockerfile"), "{failed}");
}

#[test]
fn a_long_build_shows_and_a_stop_ends_it() {
    let Some(house) = House::with("", &built("")) else { return };
    house.write("web", "Dockerfile", "FROM nanny-test/busybox:1\nRUN sleep 600\n");
    let client = house.begin_start("web", "");
    let now = house.until("web", |now| now["building"]["sent_bytes"].as_u64() > Some(0));
    assert_eq!((&now["status"], &now["pulling"]), (&json!("starting"), &Value::Null), "{now}");
    house.stop("web", "").expect(200);
    drop(client);
    let now = house.becomes("web", "stopped");
    assert_eq!(now["building"], Value::Null);
    // Whoever was waited for is not built after all.
    let image = house.project("web") + "-web";
    assert!(engine::docker(&["images", "-q", &image]).is_empty());
}

#[test]
fn what_must_not_be_pulled_and_is_not_there_is_named_with_the_cure() {
    let file =
        web(IDLE, "pull_policy: never").replace("nanny-test/busybox:1", "nanny-e2e/nowhere:7");
    let Some(house) = House::with("", &file) else { return };
    let failed = house.start("web", "").expect(500);
    let detail = failed["detail"].as_str().unwrap();
    assert!(detail.contains("nanny-e2e/nowhere:7") && detail.contains("by hand"), "{detail}");
}

#[test]
fn an_image_for_another_platform_is_none() {
    let Some(mut house) = House::new() else { return };
    // In no registry, and here for this machine alone.
    let name = format!("127.0.0.1:1/nanny-e2e/{}:1", house.tag);
    let _image = Image(name.clone());
    engine::docker(&["tag", "nanny-test/busybox:1", &name]);
    let file = |platform: &str| {
        web(IDLE, &format!("platform: {platform}")).replace("nanny-test/busybox:1", &name)
    };
    house.add("same", "", &file("linux/amd64"));
    house.add("other", "", &file("linux/s390x"));
    house.open();
    house.started("same");
    let failed = house.start("other", "").expect(500);
    assert!(failed["detail"].as_str().unwrap().contains("cannot be pulled"), "{failed}");
}
