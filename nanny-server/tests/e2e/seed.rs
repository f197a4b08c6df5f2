//! What the README promises, from the first request to the last.

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, SERVING, free_port, web};

#[test]
fn the_readme_goes_as_it_is_written() {
    let Some(mut house) = House::new() else { return };
    let port = free_port();
    let endpoint = format!("http://localhost:{port}/health");
    let manifest = format!(
        "description: Makes pictures\nversion: 1.0.0\n{GPU}ports:\n  - \"{port}:8000\"\n\
         health_endpoint: {endpoint}\ntags: [images]\n"
    );
    let published = format!("ports: [\"127.0.0.1:{port}:8000\"]");
    house.add("sd-api", &manifest, &web(SERVING, &published));
    house.add("other", GPU, &web(IDLE, ""));
    house.add("plain", "", &web(IDLE, ""));
    house.open();

    assert_eq!(house.get("/")["message"], "Service Nanny is running!");
    assert_eq!(house.get("/")["services_discovered"], 3);
    let health = house.get("/health");
    assert_eq!(health["status"], "healthy");
    assert_eq!(
        (&health["services_discovered"], &health["services_running"]),
        (&3.into(), &0.into())
    );

    let all = house.get("/services");
    assert_eq!((&all["total"], &all["gpu_service_running"]), (&3.into(), &Value::Null));
    let shown = json!({
        "name": "sd-api", "description": "Makes pictures", "version": "1.0.0",
        "gpu_required": true, "vram_gb": 8, "ports": [format!("{port}:8000")],
        "health_endpoint": endpoint, "tags": ["images"], "status": "stopped",
    });
    assert_eq!(all["services"][2], shown);
    assert_eq!(house.get("/services/sd-api"), with(&shown, "backend", "docker"));
    assert_eq!(house.get("/services/plain")["description"], "No description");

    let started = house.started("sd-api");
    assert_eq!(
        started,
        json!({"message": "Service 'sd-api' started successfully", "status": "running",
               "health_endpoint": endpoint})
    );
    let again = house.started("sd-api");
    assert_eq!(again["message"], "Service 'sd-api' is already running");
    assert!(engine::runs(&house.container("sd-api")));

    let now = house.until("sd-api", |now| now["is_healthy"] == true);
    assert_eq!((&now["status"], &now["is_running"]), (&json!("running"), &json!(true)));
    assert_eq!((&now["ready"], &now["error"]), (&json!(true), &Value::Null));
    let uptime = now["uptime"].as_str().unwrap();
    let (hours, rest) = uptime.split_once(':').unwrap();
    assert!(hours == "0" && rest.len() >= 5, "{uptime}");
    let shape: String =
        rest.chars().map(|letter| if letter.is_ascii_digit() { '9' } else { letter }).collect();
    assert!(shape == "99:99.999999" || shape == "99:99", "{uptime}");

    house.says("sd-api", "web-1  | up\n");
    let logs = house.logs("sd-api", "?tail=50");
    assert_eq!(logs, json!({"service": "sd-api", "logs": "web-1  | up\n", "tail": 50}));
    assert_eq!(house.logs("other", "")["logs"], "");

    let refused = house.start("other", "");
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let refused = refused.expect(409);
    assert_eq!(refused["detail"], "GPU service 'sd-api' is already running");
    assert_eq!(
        (&refused["code"], &refused["conflicts"]),
        (&json!("gpu_conflict"), &json!(["sd-api"]))
    );
    assert!(!engine::runs(&house.container("other")));

    // As the README's own curl sends it, which calls it a form.
    let forced = house.start("other", r#"{"force": true}"#).expect(200);
    assert_eq!(forced["stopped"], json!(["sd-api"]));
    assert_eq!(forced["health_endpoint"], Value::Null);
    assert_eq!(house.holder(), "other");
    assert_eq!(house.status("sd-api")["status"], "stopped");
    assert!(!engine::runs(&house.container("sd-api")));
    assert!(engine::runs(&house.container("other")));
    assert_eq!(house.get("/health")["services_running"], 1);

    // A service that needs no GPU is nobody's business.
    house.started("plain");

    let stopped = house.stop("other", "").expect(200);
    assert_eq!(
        stopped,
        json!({"message": "Service 'other' stopped successfully", "status": "stopped"})
    );
    let again = house.stop("other", "").expect(200);
    assert_eq!(again["message"], "Service 'other' is not running");
    assert_eq!(house.holder(), Value::Null);
    assert_eq!(house.status("other")["uptime"], Value::Null);

    let found = house.ask("POST", "/rediscover", "").expect(200);
    assert_eq!(found["message"], "Service discovery completed");
    assert_eq!((&found["services_discovered"], &found["errors"]), (&3.into(), &json!([])));
}

#[test]
fn what_is_not_there_is_said_to_be_not_there() {
    let Some(house) = House::with("", &web(IDLE, "")) else { return };
    for (method, path) in [
        ("GET", "/services/nobody"),
        ("GET", "/services/nobody/status"),
        ("GET", "/services/nobody/logs"),
        ("POST", "/services/nobody/start"),
        ("POST", "/services/nobody/stop"),
    ] {
        let problem = house.ask(method, path, "").expect(404);
        assert_eq!(problem["detail"], "Service 'nobody' not found", "{path}");
        assert_eq!(problem["code"], "service_not_found");
    }
    assert_eq!(house.ask("GET", "/nowhere", "").expect(404)["code"], "not_found");
    assert_eq!(
        house.ask("GET", "/services/web/start", "").expect(405)["code"],
        "method_not_allowed"
    );
    let unknown = house.start("web", r#"{"forced": true}"#).expect(422);
    assert_eq!(unknown["errors"][0]["loc"], json!(["body", "forced"]));
    let slash = house.ask("GET", "/services/", "");
    assert_eq!((slash.status, slash.header("location")), (307, Some("/services")));
}

#[test]
fn without_anything_to_ask_what_runs_is_healthy() {
    let Some(house) = House::with("", &web(IDLE, "")) else { return };
    house.started("web");
    let now = house.status("web");
    assert_eq!((&now["is_healthy"], &now["ready"]), (&json!(true), &json!(true)), "{now}");
}

fn with(object: &Value, key: &str, value: &str) -> Value {
    let mut object = object.clone();
    object[key] = value.into();
    object
}
