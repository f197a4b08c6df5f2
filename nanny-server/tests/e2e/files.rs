//! Service directories change while the nanny looks after them.

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, until, web};

#[test]
fn a_new_directory_is_found_without_being_asked_for() {
    let Some(mut house) = House::new() else { return };
    house.open();
    assert_eq!(house.get("/services")["total"], 0);
    house.add("late", "tags: [new]\n", &web(IDLE, ""));
    house.appears("late");
    house.started("late");
    house.manifest("late", "description: Changed\n");
    until(
        || (house.get("/services/late")["description"] == "Changed").then_some(()),
        || "the change is never seen".to_owned(),
    );
}

#[test]
fn h9_what_runs_without_its_directory_keeps_the_gpu_and_can_be_stopped() {
    let Some(mut house) = House::with(GPU, &web(IDLE, "")) else { return };
    house.add("other", GPU, &web(IDLE, ""));
    house.appears("other");
    house.started("web");
    std::fs::remove_dir_all(house.home("web")).unwrap();
    let found = house.ask("POST", "/rediscover", "").expect(200);
    assert_eq!(found["services_discovered"], 1, "{found}");
    // Whoever watches the files may have been faster.
    let removed = &found["removed"];
    assert!(removed == &json!(["web"]) || removed == &json!([]), "{found}");
    assert!(engine::runs(&house.container("web")));
    assert_eq!(house.get("/services")["gpu_service_running"], "web");
    let refused = house.ask("POST", "/services/other/start", "").expect(409);
    assert_eq!(refused["conflicts"], json!(["web"]), "{refused}");
    house.stop("web", "").expect(200);
    assert!(!engine::runs(&house.container("web")));
    // Now nothing is left of it.
    house.ask("GET", "/services/web", "").expect(404);
    house.started("other");
}

#[test]
fn a_broken_manifest_keeps_what_was_good_and_says_where_it_is_broken() {
    let Some(house) = House::with("description: Good\n", &web(IDLE, "")) else { return };
    house.started("web");
    house.manifest("web", "description: Bad\ngpu_required: perhaps\n");
    let found = house.ask("POST", "/rediscover", "").expect(200);
    let error = &found["errors"][0];
    assert_eq!((&error["line"], &error["column"]), (&json!(3), &json!(15)), "{found}");
    let path = error["path"].as_str().unwrap();
    assert!(path.ends_with("/web/service.yaml"), "{path}");
    assert!(error["message"].as_str().unwrap().contains("gpu_required"), "{error}");
    assert_eq!(house.get("/services/web")["description"], "Good");
    assert_eq!(house.status("web")["status"], "running");
    house.stop("web", "").expect(200);
    house.started("web");

    house.manifest("web", "description: Better\n");
    house.write("web", "docker-compose.yml", "services:\n  web:\n    image: [\n");
    let found = house.ask("POST", "/rediscover", "").expect(200);
    let error = &found["errors"][0];
    assert!(error["path"].as_str().unwrap().ends_with("docker-compose.yml"), "{found}");
    assert!(error["line"].as_u64().unwrap() >= 3, "{found}");
    assert!(engine::runs(&house.container("web")));

    house.write("web", "docker-compose.yml", &web(IDLE, ""));
    assert_eq!(house.ask("POST", "/rediscover", "").expect(200)["errors"], json!([]));
    assert_eq!(house.get("/services/web")["description"], "Better");
}

#[test]
fn a_change_of_the_environment_file_is_drift_until_the_next_start() {
    let Some(mut house) = House::new() else { return };
    house.add("web", "", &web(IDLE, "environment: {MODEL: '${MODEL}'}"));
    house.write("web", ".env", "MODEL=small\n");
    house.open();
    house.started("web");
    let container = house.container("web");
    let model = || engine::execute(&container, "echo $MODEL");
    assert_eq!(model(), "small\n");
    let first = engine::id(&container);

    house.write("web", ".env", "MODEL=large\n");
    house.until("web", |now| now["drift"] == true);
    // What runs is left alone.
    assert_eq!(house.started("web")["message"], "Service 'web' is already running");
    assert_eq!((engine::id(&container), model()), (first.clone(), "small\n".to_owned()));
    assert_eq!(house.start("web", r#"{"recreate": true}"#).expect(200)["status"], "running");
    let second = engine::id(&container);
    assert_ne!(second, first);
    assert_eq!(
        (model(), house.status("web")["drift"].clone()),
        ("large\n".to_owned(), json!(false))
    );

    house.stop("web", "").expect(200);
    house.started("web");
    assert_eq!(engine::id(&container), second, "nothing has changed");
    house.stop("web", "").expect(200);
    house.write("web", "docker-compose.yml", &web("echo changed; exec sleep 86400", ""));
    house.until("web", |now| now["drift"] == true);
    house.started("web");
    assert_ne!(engine::id(&container), second, "what was stopped is made anew");
    house.says("web", "web-1  | changed\n");
    assert_eq!(engine::containers(&house.project("web")).len(), 1);
}

#[test]
fn two_directories_with_one_name_are_an_error_of_both() {
    let Some(mut house) = House::new() else { return };
    house.add("one", "", &web(IDLE, ""));
    house.add("two", "", &web(IDLE, ""));
    house.open();
    house.started("one");
    let name = house.project("one");
    house.write("two", "service.yaml", &format!("name: {name}\n"));
    let found = house.ask("POST", "/rediscover", "").expect(200);
    let errors = found["errors"].as_array().unwrap();
    for service in ["one", "two"] {
        let file = format!("/{service}/service.yaml");
        let named = |error: &Value| error["path"].as_str().unwrap().ends_with(&file);
        assert!(errors.iter().any(named), "{found}");
    }
    // What runs can still be stopped.
    assert!(engine::runs(&house.container("one")));
    house.stop("one", "").expect(200);
    assert!(!engine::runs(&house.container("one")));
}
