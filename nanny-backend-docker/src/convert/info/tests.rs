use super::*;

fn recorded(name: &str) -> String {
    let path = format!("{}/tests/data/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn info(name: &str) -> ContainerInfo {
    serde_json::from_str::<Inspected>(&recorded(name)).unwrap().to_info(false)
}

fn inspected(json: &str) -> Inspected {
    serde_json::from_str(json).unwrap()
}

fn uses_gpu(json: &str) -> bool {
    inspected(json).to_info(false).uses_gpu
}

#[test]
fn a_running_container_is_read() {
    let info = info("inspect-running");
    assert_eq!((info.name.as_str(), info.image.as_str()), ("recorded-a", "nanny-test/busybox:1"));
    assert_eq!(info.labels.get("quo\"te").map(String::as_str), Some("größe"));
    assert_eq!(info.state, ContainerState::Running);
    assert_eq!(info.health, Some(EngineHealth::Healthy));
    assert_eq!(info.exit, None);
    assert!(info.started_at.is_some());
    assert_eq!(info.restart, RestartPolicy::OnFailure { max_retries: Some(4) });
    assert!(!info.uses_gpu);
}

#[test]
fn an_exit_is_read() {
    let info = info("inspect-exited");
    assert_eq!(info.state, ContainerState::Exited);
    let exit = info.exit.unwrap();
    assert_eq!((exit.code, exit.error, exit.out_of_memory), (Some(3), None, false));
    // Not after the start: the engine noted the end of this short life before its beginning.
    assert!(exit.at.is_some() && info.started_at.is_some());
}

#[test]
fn a_start_that_failed_keeps_its_error() {
    let info = info("inspect-failed-gpu");
    assert_eq!(info.state, ContainerState::Created);
    assert!(info.uses_gpu);
    assert!(info.exit.unwrap().error.unwrap().contains("could not select device driver"));
    assert_eq!(info.started_at, None);
}

#[test]
fn a_crash_loop_is_read() {
    let info = info("inspect-restarting");
    assert_eq!(info.state, ContainerState::Restarting);
    assert_eq!(info.restart, RestartPolicy::Always);
    assert_eq!(info.exit.unwrap().code, Some(1));
}

#[test]
fn a_list_is_read() {
    let list: Vec<Summary> = serde_json::from_str(&recorded("list")).unwrap();
    assert_eq!(list.len(), 4);
    assert!(list.iter().all(|summary| summary.id.len() == 64 && summary.labels.is_some()));
}

#[test]
fn a_reading_leaves_the_page_cache_out() {
    let reading: Reading = serde_json::from_str(&recorded("stats")).unwrap();
    assert!(reading.cpu() > Duration::ZERO);
    let json =
        r#"{"memory_stats":{"usage":100,"stats":{"total_inactive_file":30,"inactive_file":20}}}"#;
    assert_eq!(serde_json::from_str::<Reading>(json).unwrap().memory_bytes(), 70);
    let json = r#"{"memory_stats":{"usage":100,"stats":{"inactive_file":20}}}"#;
    assert_eq!(serde_json::from_str::<Reading>(json).unwrap().memory_bytes(), 80);
}

#[test]
fn what_an_engine_of_tomorrow_says_is_unknown_and_no_error() {
    let info = inspected(r#"{"Id":"1","State":{"Status":"levitating","New":{}},"New":[]}"#);
    assert_eq!(info.to_info(false).state, ContainerState::Unknown);
    let list = r#"[{"Id":"1","State":"levitating","Labels":null,"Names":null,"New":7}]"#;
    let list: Vec<Summary> = serde_json::from_str(list).unwrap();
    assert!(!list[0].is_telling());
}

#[test]
fn a_stop_of_ours_shows() {
    let running = inspected(r#"{"Id":"1","State":{"Status":"running"}}"#);
    assert_eq!(running.to_info(true).state, ContainerState::Stopping);
    let exited = inspected(r#"{"Id":"1","State":{"Status":"exited"}}"#);
    assert_eq!(exited.to_info(true).state, ContainerState::Exited);
}

#[test]
fn c13_gpus_are_known_by_request_runtime_and_device() {
    for json in [
        r#"{"HostConfig":{"DeviceRequests":[{"Driver":"","Count":-1,"Capabilities":[["gpu"]]}]}}"#,
        r#"{"HostConfig":{"DeviceRequests":[{"Driver":"cdi","DeviceIDs":["nvidia.com/gpu=0"]}]}}"#,
        r#"{"HostConfig":{"Runtime":"nvidia"},"Config":{"Env":["NVIDIA_VISIBLE_DEVICES=0"]}}"#,
        r#"{"HostConfig":{"Devices":[{"PathOnHost":"/dev/kfd"}]}}"#,
        r#"{"HostConfig":{"Devices":[{"PathOnHost":"/dev/nvidia0"}]}}"#,
        r#"{"HostConfig":{"Devices":[{"PathOnHost":"nvidia.com/gpu=all"}]}}"#,
    ] {
        assert!(uses_gpu(json), "{json}");
    }
    for json in [
        r#"{"HostConfig":{"Devices":[{"PathOnHost":"/dev/dri"}],"DeviceRequests":null}}"#,
        r#"{"HostConfig":{"Runtime":"nvidia"},"Config":{"Env":["NVIDIA_VISIBLE_DEVICES=void"]}}"#,
        r#"{"HostConfig":{"Runtime":"runc"},"Config":{"Env":["NVIDIA_VISIBLE_DEVICES=all"]}}"#,
    ] {
        assert!(!uses_gpu(json), "{json}");
    }
}

#[test]
fn gpus_that_were_given_one_by_one_are_told() {
    let told = |request: &str| {
        let json = format!(r#"{{"HostConfig":{{"DeviceRequests":[{request}]}}}}"#);
        let info = inspected(&json).to_info(false);
        info.gpus.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let by_id = r#"{"Driver":"","DeviceIDs":["GPU-1","1"],"Capabilities":[["gpu"]]}"#;
    assert_eq!(told(by_id), ["GPU-1", "1"]);
    let names = r#"["nvidia.com/gpu=GPU-1","nvidia.com/gpu=all","vendor.example/nic=0"]"#;
    assert_eq!(told(&format!(r#"{{"Driver":"cdi","DeviceIDs":{names}}}"#)), ["GPU-1"]);
    let none = [""; 0];
    assert_eq!(told(r#"{"Driver":"","Count":-1,"Capabilities":[["gpu"]]}"#), none);
    assert_eq!(told(r#"{"Driver":"","DeviceIDs":["0"],"Capabilities":[["tpu"]]}"#), none);
    let by_runtime = |ids: &str| {
        let host = r#""HostConfig":{"Runtime":"nvidia"}"#;
        let json = format!(r#"{{{host},"Config":{{"Env":["NVIDIA_VISIBLE_DEVICES={ids}"]}}}}"#);
        inspected(&json).to_info(false).gpus.len()
    };
    assert_eq!(["GPU-1,GPU-2", "all", "void", ""].map(by_runtime), [2, 0, 0, 0]);
}

#[test]
fn only_a_summary_without_seconds_tells_that_nothing_happened() {
    let summary = |state: &str, status: &str| Summary {
        state: Some(state.to_owned()),
        status: Some(status.to_owned()),
        ..Summary::default()
    };
    assert!(summary("running", "Up 2 hours (healthy)").is_telling());
    assert!(summary("exited", "Exited (0) 3 days ago").is_telling());
    assert!(!summary("running", "Up 2 seconds").is_telling());
    assert!(!summary("running", "Up Less than a second").is_telling());
    assert!(!summary("created", "Created").is_telling());
    assert!(!summary("restarting", "Restarting (1) 2 minutes ago").is_telling());
}
