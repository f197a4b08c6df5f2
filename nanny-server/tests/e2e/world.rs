//! Services as people have them: four that need a GPU by ROCm. None is here, so they end where a
//! machine without one ends; and without their devices they run.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::engine;
use crate::house::{House, free_port};

const SERVICES: [&str; 4] = ["stable-diffusion", "tts", "coder", "comfyui"];

/// A house with all four, as they are but for what would clash with others on this machine, and for
/// images, which are `image`'s.
fn house(change: impl Fn(&str) -> String) -> Option<House> {
    let mut house = House::new()?;
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/world");
    for service in SERVICES {
        let read = |file| fs::read_to_string(files.join(service).join(file)).expect("it is there");
        let mut compose = String::new();
        for line in read("docker-compose.yml").lines() {
            let indent = &line[..line.len() - line.trim_start().len()];
            compose += &match line.trim_start() {
                word if word.starts_with("image: ") => {
                    format!("{indent}image: nanny-test/busybox:1")
                }
                word if word.starts_with("container_name: ") => {
                    format!("{line}-{}", house.tag)
                }
                "- \"8000:8000\"" | "- \"127.0.0.1:8188:8188\"" => {
                    format!("{indent}- \"127.0.0.1:{}:8000\"", free_port())
                }
                _ => line.to_owned(),
            };
            compose.push('\n');
        }
        house.add(service, &read("service.yaml"), &change(&compose));
        let workspace = house.directory().join("workspace");
        let variables =
            format!("AI_WORKSPACE={}\nVOICE=low\nRUN=sleep 86400\n", workspace.display());
        house.write(service, ".env", &variables);
        // Whose ports they are is known in the Compose files only.
        let manifest = read("service.yaml").replace("health_endpoint", "was_endpoint");
        house.manifest(service, &manifest);
    }
    fs::create_dir_all(house.directory().join("workspace/hf")).expect("it is ours");
    let home = house.directory().to_owned();
    house.open_with(|command| {
        command.env("HOME", home);
    });
    Some(house)
}

fn container(house: &House, service: &str) -> String {
    match service {
        "comfyui" => format!("comfyui-rocm-{}", house.tag),
        _ => house.container(service),
    }
}

#[test]
fn a_machine_without_their_gpu_is_told_so_and_nothing_is_left_running() {
    let Some(house) = house(str::to_owned) else { return };
    if Path::new("/dev/kfd").exists() {
        engine::not_tested("there is a GPU here");
        return;
    }
    for service in SERVICES {
        let plan = house.get(&format!("/services/{service}/plan"));
        assert_eq!((&plan["verdict"], &plan["reason"]), (&json!("admit"), &Value::Null), "{plan}");
        let steps = plan["steps"].as_array().unwrap();
        let starts = |step: &Value| step.as_str() == Some("start 'web'");
        assert!(steps.iter().any(starts), "{plan}");

        let failed = house.start(service, "").expect(500);
        assert_eq!(failed["code"], "start_failed");
        assert!(failed["detail"].as_str().unwrap().contains("/dev/kfd"), "{failed}");
        let now =
            house.until(service, |now| now["status"] == "failed" && now["holds_gpu"] == false);
        assert!(now["error"].as_str().unwrap().contains("/dev/kfd"), "{now}");
        // What it had brought up for itself is down, too.
        let all = engine::containers(&house.project(service));
        assert!(!all.is_empty() && all.iter().all(|found| found["State"] != "running"), "{all:?}");
        assert_eq!(house.holder(), Value::Null);
        house.stop(service, r#"{"remove": true}"#).expect(200);
        assert!(engine::containers(&house.project(service)).is_empty());
        let network = format!("{}_default", house.project(service));
        assert!(!engine::network_exists(&network), "{network} is left");
    }
}

/// What is left of a file without the devices that are not here, and their group.
fn without_devices(compose: &str) -> String {
    let gone = ["devices:", "group_add:", "- /dev/", "- \"/dev/", "- video"];
    let lines = compose.lines().filter(|line| {
        let line = line.trim_start();
        !gone.iter().any(|word| line.starts_with(word))
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn with_what_a_machine_has_they_run_as_their_files_say() {
    let Some(house) = house(without_devices) else { return };
    let workspace = house.directory().join("workspace");
    let logs = [
        ("stable-diffusion", "loading the model\nweb-1  | workers=one\n"),
        ("tts", "voice low\n"),
        ("coder", "ready\n"),
        ("comfyui", "a  b c d\n"),
    ];
    for (service, said) in logs {
        let body = r#"{"force": true}"#;
        house.start(service, body).expect(200);
        let name = container(&house, service);
        let found = engine::inspect(&name);
        let (config, host) = (&found["Config"], &found["HostConfig"]);
        assert_eq!(host["IpcMode"], "host");
        assert_eq!(host["RestartPolicy"]["Name"], "no", "restarts are the nanny's");
        let variables = config["Env"].as_array().unwrap();
        let has = |line: &str| variables.iter().any(|found| found == line);
        match service {
            "stable-diffusion" => {
                assert_eq!(host["ShmSize"], 8_u64 << 30);
                assert!(has("HIP_DB=0x1") && has("HSA_OVERRIDE_GFX_VERSION=10.3.0"));
                let cache = house.directory().join(".cache/huggingface");
                let bind = format!("{}:/root/.cache/huggingface:rw", cache.display());
                assert!(host["Binds"].as_array().unwrap().contains(&json!(bind)), "{host}");
            }
            "tts" => {
                assert_eq!((&config["Tty"], &config["OpenStdin"]), (&json!(true), &json!(true)));
                assert!(has("COQUI_TOS_AGREED=1") && has("HIP_VISIBLE_DEVICES=0"));
            }
            "coder" => {
                assert_eq!(host["Memory"], 2_u64 << 30);
                assert!(engine::runs(&format!("{}-cache-1", house.project("coder"))));
            }
            _ => {
                assert_eq!(host["LogConfig"]["Config"]["max-size"], "10m");
                let bind = format!("{}/comfyui:/comfyui:rw", workspace.display());
                assert!(host["Binds"].as_array().unwrap().contains(&json!(bind)), "{host}");
            }
        }
        assert_eq!(house.holder(), service);
        house.until(service, |_| {
            let log =
                house.logs(service, "")["logs"].as_str().unwrap_or_default().replace('\r', "");
            log.contains(said)
        });
        if engine::has_compose() {
            let id = engine::id(&name);
            let home = house.home(service);
            let said = engine::compose_as(&home, house.directory(), &["up", "-d"]);
            assert_eq!(engine::id(&name), id, "{said}");
        }
    }
    let running = SERVICES.into_iter().filter(|service| engine::runs(&container(&house, service)));
    assert_eq!(running.collect::<Vec<_>>(), ["comfyui"], "one at a time");
}
