//! S5: what is secret stays so, whatever happens.

use crate::engine;
use crate::house::{CANARY, GPU, House, IDLE, pause, web};

#[test]
fn s5_no_secret_shows_in_an_answer_or_in_the_log() {
    let Some(mut house) = House::new() else { return };
    let environment = format!(
        "environment:\n  LITERAL: {CANARY}-literal\n  FROM_FILE: '${{HIDDEN}}'\nenv_file: [more.env]\n"
    );
    house.add("web", GPU, &web(IDLE, &environment));
    house.write("web", ".env", &format!("HIDDEN={CANARY}-dotenv\n"));
    house.write("web", "more.env", &format!("MORE={CANARY}-envfile\n"));
    let port = format!("{environment}ports: ['127.0.0.1:${{BAD}}:80']\n");
    house.add("bad-port", "", &web(IDLE, &port));
    house.write("bad-port", ".env", &format!("HIDDEN=x\nBAD={CANARY}\n"));
    house.write("bad-port", "more.env", "MORE=x\n");
    let command =
        "services:\n  web:\n    image: nanny-test/busybox:1\n    command: [nothing-here]\n";
    house.add("bad-command", GPU, &format!("{command}    environment: {{KEY: {CANARY}-key}}\n"));
    house.add("bad-mount", "", &web(IDLE, &format!("{environment}devices: [/dev/kfd]\n")));
    house.write("bad-mount", ".env", &format!("HIDDEN={CANARY}-dotenv\n"));
    house.write("bad-mount", "more.env", &format!("MORE={CANARY}-envfile\n"));
    house.open_with(|command| {
        command.args(["--log-level", "trace"]).env("CANARY", format!("{CANARY}-inherited"));
    });

    let mut said = String::new();
    let mut ask = |method: &str, path: &str, body: &str| {
        let answer = house.ask(method, path, body);
        said += &format!("{method} {path}: {}\n{}\n\n", answer.head, answer.text);
        answer.status
    };
    let services = ["web", "bad-command", "bad-mount"];
    assert_eq!(ask("POST", "/services/web/start", ""), 200);
    assert_eq!(ask("POST", "/services/bad-command/start", ""), 409);
    assert_eq!(ask("POST", "/services/bad-command/start", r#"{"force": true}"#), 500);
    assert_eq!(ask("POST", "/services/bad-mount/start", ""), 500);
    ask("POST", "/services/bad-port/start", "");
    ask("POST", "/services/web/start", &format!(r#"{{"{CANARY}": 1}}"#).replace(CANARY, "x"));
    for path in ["/", "/health", "/services"] {
        ask("GET", path, "");
    }
    for service in services {
        for route in ["", "/status", "/logs", "/plan", "/plan?force=true"] {
            ask("GET", &format!("/services/{service}{route}"), "");
        }
    }
    // The values do reach the container, or this test would prove nothing.
    let inside = engine::execute(&house.container("web"), "env");
    for value in ["literal", "dotenv", "envfile"] {
        assert!(inside.contains(&format!("{CANARY}-{value}")), "{inside}");
    }
    ask("POST", "/rediscover", "");
    house.write("web", "docker-compose.yml", &web(IDLE, &format!("{environment}labels: {{a: b}}")));
    house.until("web", |now| now["drift"] == true);
    ask("POST", "/services/web/start", r#"{"recreate": true}"#);
    house.write("web", "docker-compose.yml", &web(IDLE, &format!("environment: {CANARY}\n")));
    ask("POST", "/rediscover", "");
    ask("POST", "/services/web/stop", r#"{"remove": true}"#);
    pause();
    for line in said.lines() {
        assert!(!line.contains(CANARY), "an answer shows it: {line}");
    }
    for line in house.log().lines() {
        assert!(!line.contains(CANARY), "the log shows it: {line}");
    }
}

#[test]
fn s5_every_house_has_secrets_to_keep() {
    let Some(house) = House::with("", &web(IDLE, "")) else { return };
    house.started("web");
    let inside = engine::execute(&house.container("web"), "env");
    for value in ["literal", "dotenv", "inherited"] {
        assert!(inside.contains(&format!("{CANARY}-{value}")), "{inside}");
    }
    let label = engine::inspect(&house.container("web"))["Config"]["Labels"]["hush"].clone();
    assert_eq!(label, format!("{CANARY}-label {CANARY}-dotenv"));
    let stranger =
        crate::http::exchange(house.connect(), "GET /health HTTP/1.1", "host: localhost\r\n", "");
    assert!(stranger.unwrap().status >= 400, "the token is asked for");
}
