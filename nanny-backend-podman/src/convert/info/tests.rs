use serde_json::{Value, json};

use super::*;

/// As Podman 4.3.1 tells it, as far as we read it.
fn told(change: impl FnOnce(&mut Value)) -> Inspected {
    let mut told = json!({
        "Id": "0a", "Name": "web", "ImageName": "localhost/i:1", "OCIRuntime": "runc",
        "State": {
            "Status": "running", "OOMKilled": false, "ExitCode": 0, "Error": "",
            "StartedAt": "2026-11-25T19:30:43.690209756Z", "FinishedAt": "0001-01-01T00:00:00Z",
            "Health": {"Status": "", "FailingStreak": 0, "Log": null},
        },
        "Config": {"Tty": false, "StopTimeout": 7, "Env": ["A=b"], "Labels": {"l": "v"}},
        "HostConfig": {"RestartPolicy": {"Name": "", "MaximumRetryCount": 0}, "Devices": []},
        "Mounts": [{"Type": "volume", "Name": "v", "Destination": "/v"}],
    });
    change(&mut told);
    serde_json::from_value(told).unwrap()
}

#[test]
fn a_running_container_is_read() {
    let info = told(|_| {}).to_info(None, false);
    assert_eq!((info.name.as_str(), info.image.as_str()), ("web", "localhost/i:1"));
    assert_eq!((info.state, info.health, info.exit), (ContainerState::Running, None, None));
    assert_eq!(info.restart, RestartPolicy::No);
    assert_eq!(info.volumes["/v"], "v");
    assert!(!info.uses_gpu);
    assert_eq!(told(|_| {}).grace(), Duration::from_secs(7));
}

#[test]
fn b11_b15_every_state_is_read_and_unknown_ones_may_hold_things() {
    let state = |word: &str| told(|told| told["State"]["Status"] = json!(word)).state();
    for (words, wanted) in [
        (&["created", "configured", "initialized"][..], ContainerState::Created),
        (&["stopping"], ContainerState::Stopping),
        (&["stopped", "exited"], ContainerState::Exited),
        (&["removing"], ContainerState::Removing),
        (&["paused"], ContainerState::Paused),
        (&["levitating", ""], ContainerState::Unknown),
    ] {
        for word in words {
            assert_eq!(state(word), wanted, "{word}");
        }
    }
    assert!(state("levitating").holds());
}

#[test]
fn nothing_is_too_little_to_be_read() {
    let empty: Inspected = serde_json::from_str(r#"{"Strange": [1]}"#).unwrap();
    assert_eq!(empty.to_info(None, false).state, ContainerState::Unknown);
    let null: Vec<Summary> = serde_json::from_str(r#"[{"Id": "0a", "Labels": null}]"#).unwrap();
    assert!(!null[0].is_telling(Timestamp::UNIX_EPOCH));
}

#[test]
fn b18_a_start_that_failed_is_told_until_one_succeeds() {
    let at: Timestamp = "2026-11-25T20:00:00Z".parse().unwrap();
    let failed = || Some(("no such program".to_owned(), at));
    let created = told(|told| {
        told["State"]["Status"] = json!("created");
        told["State"]["StartedAt"] = json!("0001-01-01T00:00:00Z");
    });
    let exit = created.to_info(failed(), false).exit.unwrap();
    assert_eq!((exit.code, exit.error.as_deref()), (None, Some("no such program")));
    assert_eq!((exit.at, created.to_info(None, false).exit), (Some(at), None));

    let exited = |started: &str| {
        told(|told| {
            told["State"]["Status"] = json!("exited");
            told["State"]["StartedAt"] = json!(started);
            told["State"]["FinishedAt"] = json!("2026-11-25T20:30:00Z");
            told["State"]["ExitCode"] = json!(3);
        })
        .to_info(failed(), false)
        .exit
        .unwrap()
    };
    let later = exited("2026-11-25T20:10:00Z");
    assert_eq!((later.code, later.error), (Some(3), None));
    let earlier = exited("2026-11-25T19:50:00Z");
    assert_eq!((earlier.code, earlier.error.is_some()), (Some(3), true));
}

#[test]
fn health_is_read_and_has_a_first_word() {
    let checked = |health: Value| {
        told(|told| {
            told["Config"]["Healthcheck"] = json!({
                "Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 2,
            });
            told["State"]["Health"] = health;
        })
    };
    let health = |word: &str| checked(json!({"Status": word})).to_info(None, false).health;
    assert_eq!(health("healthy"), Some(EngineHealth::Healthy));
    assert_eq!(health("unhealthy"), Some(EngineHealth::Unhealthy));
    assert_eq!(
        (health(""), health("starting")),
        (Some(EngineHealth::Starting), Some(EngineHealth::Starting))
    );
    let stuck = checked(json!({"Status": "healthy"})).to_info(None, true).health;
    assert_eq!(stuck, Some(EngineHealth::Unhealthy));

    let check = checked(json!(null)).check().unwrap();
    let (second, half) = (Duration::from_secs(1), Duration::from_secs(30));
    assert_eq!((check.interval, check.timeout, check.retries), (second, half, 2));
    let start = "2026-11-25T18:59:58Z";
    let at = |end: &str| checked(json!({"Log": [{"Start": start, "End": end}]})).last_checked();
    let then: Timestamp = "2026-11-25T21:00:00+01:00".parse().unwrap();
    assert_eq!(at("2026-11-25T21:00:00+01:00"), Some((then, Duration::from_secs(3602))));
    assert_eq!(at("2026-11-25T19:00:00Z"), None, "it is of an earlier run");

    let off = told(|told| told["Config"]["Healthcheck"] = json!({"Test": ["NONE"]}));
    assert_eq!((off.check(), off.to_info(None, false).health), (None, None));
}

#[test]
fn failures_of_an_earlier_run_do_not_make_this_one_unhealthy() {
    // It has run since 19:30:43.
    let (before, period, after) = ("19:29:00", "19:30:50", "19:31:00");
    let health = |retries: u32, log: &[(&str, i64)]| {
        let checks = log.iter().map(|(at, code)| {
            let at = format!("2026-11-25T{at}Z");
            json!({"Start": at, "End": at, "ExitCode": code})
        });
        let log = checks.collect::<Vec<_>>();
        let told = told(|told| {
            told["Config"]["Healthcheck"] = json!({
                "Test": ["CMD-SHELL", "false"], "Retries": retries,
                "StartPeriod": 10_000_000_000_u64,
            });
            told["State"]["Health"] = json!({"Status": "unhealthy", "Log": log});
        });
        told.to_info(None, false).health.unwrap()
    };
    let (starting, unhealthy) = (EngineHealth::Starting, EngineHealth::Unhealthy);
    assert_eq!(health(2, &[(before, 1), (before, 1), (after, 1)]), starting);
    assert_eq!(health(2, &[(before, 1), (after, 1), (after, 1)]), unhealthy);
    assert_eq!(health(2, &[(period, 1), (after, 1)]), starting, "one is in the start period");
    assert_eq!(
        health(2, &[(before, 1), (after, 0), (after, 1)]),
        unhealthy,
        "the count began anew"
    );
    assert_eq!(health(9, &[(after, 1); 5]), unhealthy, "the log has no more");
    assert_eq!(health(0, &[(before, 1), (after, 1)]), unhealthy);
    assert_eq!(health(2, &[]), unhealthy, "there is no log");
}

#[test]
fn who_has_a_gpu_is_told_by_whatever_says_so() {
    let uses = |change: fn(&mut Value)| told(change).to_info(None, false).uses_gpu;
    assert!(uses(|told| told["Config"]["Annotations"] = json!({DEVICES: "nvidia.com/gpu=all"})));
    let command = |words: &[&str]| {
        told(|told| told["Config"]["CreateCommand"] = json!(words)).to_info(None, false).uses_gpu
    };
    assert!(command(&["podman", "run", "--device", "nvidia.com/gpu=0", "i"]));
    assert!(command(&["podman", "run", "--device=amd.com/gpu=all", "i"]));
    assert!(command(&["podman", "run", "--gpus", "all", "i"]));
    assert!(command(&["podman", "run", "--gpus=all", "i"]));
    assert!(!command(&["podman", "run", "--device", "/dev/fuse", "i", "echo", "a.b/c=d"]));
    let device = |path: &str| {
        told(|told| told["HostConfig"]["Devices"] = json!([{"PathOnHost": path}]))
            .to_info(None, false)
            .uses_gpu
    };
    assert!(device("/dev/nvidia0") && device("/dev/kfd") && !device("/dev/dri/renderD128"));
    let by_runtime = |ids: &str| {
        told(|told| {
            told["OCIRuntime"] = json!("nvidia");
            told["Config"]["Env"] = json!([format!("NVIDIA_VISIBLE_DEVICES={ids}")]);
        })
        .to_info(None, false)
        .uses_gpu
    };
    assert!(by_runtime("all") && !by_runtime("void"));
}

#[test]
fn gpus_that_were_given_one_by_one_are_told() {
    let gpus = |change: &dyn Fn(&mut Value)| {
        let info = told(|told| change(told)).to_info(None, false);
        info.gpus.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let noted = |names: &str| gpus(&|told| told["Config"]["Annotations"] = json!({DEVICES: names}));
    assert_eq!(noted("nvidia.com/gpu=GPU-1,vendor.example/nic=0,amd.com/gpu=1"), ["GPU-1", "1"]);
    assert_eq!(noted("nvidia.com/gpu=all"), [""; 0]);
    let by_runtime = gpus(&|told| {
        told["OCIRuntime"] = json!("nvidia");
        told["Config"]["Env"] = json!(["NVIDIA_VISIBLE_DEVICES=GPU-1, GPU-2"]);
    });
    assert_eq!(by_runtime, ["GPU-1", "GPU-2"]);
    assert_eq!(gpus(&|_| {}), [""; 0]);
}

#[test]
fn images_have_identifiers_that_say_how_they_were_made() {
    let image: ImageInspected = serde_json::from_value(json!({
        "Id": "f409", "Os": "linux", "Architecture": "amd64", "Variant": "",
        "Config": {"Volumes": {"/data": {}}}, "Healthcheck": {"Test": ["CMD", "x"], "Interval": 5},
    }))
    .unwrap();
    let info = image.to_info();
    assert_eq!((info.id.as_str(), info.platform.as_deref()), ("sha256:f409", Some("linux/amd64")));
    assert!(info.volumes.contains("/data"));
    let check = image.check().unwrap();
    assert_eq!(
        (check.test.as_deref().unwrap(), check.interval),
        (&["CMD", "x"].map(str::to_owned)[..], 5)
    );
    let off = json!({"Healthcheck": {"Test": ["NONE"]}});
    assert!(serde_json::from_value::<ImageInspected>(off).unwrap().check().is_none());
}
