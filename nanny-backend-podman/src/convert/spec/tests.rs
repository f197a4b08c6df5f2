use nanny_lib::backend::{
    Addresses, DeviceMapping, GpuDevices, HostPorts, Mount, MountKind, NetworkAttachment,
};
use serde_json::{Value, json};

use super::*;

fn around() -> Surroundings {
    Surroundings { image: "localhost/i:1".to_owned(), ..Surroundings::default() }
}

fn body(spec: &ContainerSpec) -> Value {
    serde_json::from_slice(&to_body(spec, &around()).unwrap()).unwrap()
}

fn refusal(change: impl FnOnce(&mut ContainerSpec)) -> BackendError {
    let mut spec = ContainerSpec::new("web", "i:1");
    change(&mut spec);
    to_body(&spec, &around()).unwrap_err()
}

fn changed(change: impl FnOnce(&mut ContainerSpec)) -> Value {
    let mut spec = ContainerSpec::new("web", "i:1");
    change(&mut spec);
    body(&spec)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_plain_container_asks_for_its_image_alone() {
    let body = body(&ContainerSpec::new("web", "i:1"));
    assert_eq!((&body["name"], &body["image"]), (&json!("web"), &json!("localhost/i:1")));
    for unsaid in ["command", "entrypoint", "init", "healthconfig", "stop_signal", "restart_policy"]
    {
        assert_eq!(body.get(unsaid), None, "{unsaid}");
    }
    for empty in ["user", "hostname", "work_dir", "oci_runtime", "log_configuration"] {
        assert_eq!(body[empty], Value::Null, "{empty}");
    }
    assert_eq!(body["netns"], json!({"nsmode": "bridge"}));
}

#[test]
fn what_the_client_has_wrong_names_for_has_the_right_ones() {
    let body = changed(|spec| {
        spec.security_opt = words(&["no-new-privileges:true", "label=disable", "apparmor=p"]);
        spec.expose = words(&["8000-8001", "8001/udp"]);
        let options = [("max-size", "10m"), ("max-file", "3"), ("tag", "t")];
        spec.logging = Some(Logging {
            driver: Some("json-file".to_owned()),
            options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        });
    });
    assert_eq!(body["no_new_privileges"], true);
    assert_eq!(
        (&body["selinux_opts"], &body["apparmor_profile"]),
        (&json!(["disable"]), &json!("p"))
    );
    assert_eq!(body["expose"], json!({"8000": "tcp", "8001": "tcp,udp"}));
    let log =
        json!({"driver": "k8s-file", "size": 30 << 20, "path": null, "options": {"tag": "t"}});
    assert_eq!(body["log_configuration"], log);
}

#[test]
fn gpus_become_cdi_names_and_are_noted() {
    let gpu = |driver: &str, count, ids: &[&str]| GpuDevices {
        driver: driver.to_owned(),
        count,
        device_ids: words(ids),
        capabilities: words(&["gpu"]),
        ..GpuDevices::default()
    };
    let names = |gpu: GpuDevices| {
        let body = changed(|spec| spec.gpus = vec![gpu]);
        let devices = body["devices"].as_array().unwrap().iter();
        let devices: Vec<_> = devices.map(|d| d["path"].as_str().unwrap().to_owned()).collect();
        assert_eq!(body["annotations"][DEVICES], devices.join(","));
        devices
    };
    assert_eq!(names(gpu("", Some(-1), &[])), ["nvidia.com/gpu=all"]);
    assert_eq!(names(gpu("nvidia", Some(2), &[])), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
    assert_eq!(
        names(gpu("nvidia", None, &["GPU-1", "3"])),
        ["nvidia.com/gpu=GPU-1", "nvidia.com/gpu=3"]
    );
    assert_eq!(names(gpu("amd", None, &["0"])), ["amd.com/gpu=0"]);
    assert_eq!(names(gpu("cdi", None, &["x.com/gpu=all"])), ["x.com/gpu=all"]);

    let kind = |gpu: GpuDevices| refusal(|spec| spec.gpus = vec![gpu]).kind();
    for wrong in [
        gpu("", None, &[]),
        gpu("", Some(0), &[]),
        gpu("", Some(-1), &["0"]),
        gpu("", Some(-2), &[]),
        gpu("cdi", Some(1), &[]),
        gpu("cdi", None, &["0"]),
    ] {
        assert_eq!(kind(wrong.clone()), ErrorKind::Invalid, "{wrong:?}");
    }
    let tpu = GpuDevices { capabilities: words(&["tpu"]), ..gpu("", Some(1), &[]) };
    let options = [("a".to_owned(), "b".to_owned())].into();
    let options = GpuDevices { options, ..gpu("", Some(1), &[]) };
    for unknown in [gpu("tpu", Some(1), &[]), tpu, options] {
        assert_eq!(kind(unknown.clone()), ErrorKind::Unsupported, "{unknown:?}");
    }
}

#[test]
fn mounts_and_devices_arrive_with_their_options() {
    let mut read_only = Mount::new("/ro", MountKind::bind("/host", false));
    read_only.read_only = true;
    let spread = MountKind::Bind {
        source: "/s".to_owned(),
        create_source: true,
        propagation: Some("rshared".to_owned()),
        selinux: Some('Z'),
        consistency: None,
        recursive: nanny_lib::backend::Recursion::Disabled,
    };
    let fresh = MountKind::Volume { name: "v".to_owned(), no_copy: true, subpath: None };
    let body = changed(|spec| {
        spec.mounts = vec![
            read_only,
            Mount::new("/s", spread),
            Mount::new("/v", fresh),
            Mount::new("/a", MountKind::Anonymous),
            Mount::new("/t", MountKind::Tmpfs { size: Some(7), mode: Some(0o1777) }),
        ];
        let tmpfs = [("/u", "size=1m,mode=755"), ("/x", "exec")];
        spec.tmpfs = tmpfs.map(|(target, options)| (target.to_owned(), options.to_owned())).into();
        spec.devices = vec![DeviceMapping::new("/dev/x"), DeviceMapping::new("a.b/c=d")];
        spec.device_cgroup_rules = words(&["c 1:* mr"]);
    });
    let mount = |kind: &str, source: &str, target: &str, options: &[&str]| json!({"type": kind, "source": source, "destination": target, "options": options});
    let mounts = json!([
        mount("bind", "/host", "/ro", &["ro", "rbind"]),
        mount("bind", "/s", "/s", &["rw", "bind", "rshared", "Z"]),
        mount("tmpfs", "tmpfs", "/t", &["rw", "noexec", "size=7", "mode=1777"]),
        mount("tmpfs", "tmpfs", "/u", &["size=1m", "mode=755", "noexec"]),
        mount("tmpfs", "tmpfs", "/x", &["exec"]),
    ]);
    assert_eq!(body["mounts"], mounts);
    let volumes = json!([
        {"Name": "v", "Dest": "/v", "Options": ["rw", "nocopy"], "IsAnonymous": false},
        {"Name": "", "Dest": "/a", "Options": ["rw"], "IsAnonymous": true},
    ]);
    assert_eq!(body["volumes"], volumes);
    let paths = body["devices"].as_array().unwrap().iter().map(|device| device["path"].clone());
    assert_eq!(paths.collect::<Vec<_>>(), ["/dev/x:/dev/x:rwm", "a.b/c=d"]);
    let rule = json!([{"access": "mr", "allow": true, "type": "c", "major": 1, "minor": -1}]);
    assert_eq!(body["device_cgroup_rule"], rule);
}

#[test]
fn the_hosts_address_stands_where_its_word_stood() {
    let mut spec = ContainerSpec::new("web", "i:1");
    spec.extra_hosts = words(&["far:1.2.3.4", "gate:host-gateway"]);
    let hosts = |gateway: [u8; 4]| {
        let around = Surroundings { gateway: Some(gateway.into()), ..around() };
        let body: Value = serde_json::from_slice(&to_body(&spec, &around).unwrap()).unwrap();
        body["hostadd"].clone()
    };
    assert_eq!(hosts([10, 0, 0, 1]), json!(["far:1.2.3.4", "gate:10.0.0.1"]));
    let error = to_body(&spec, &around()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("host-gateway for gate"), "{error}");
}

#[test]
fn networks_keep_their_order_by_their_interfaces() {
    let body = changed(|spec| {
        let mut named = NetworkAttachment::new("n", words(&["alias"]));
        named.interface = Some("eth0".to_owned());
        let mut fixed = NetworkAttachment::new("a", Vec::new());
        let ipv4 = Some("10.0.0.7".to_owned());
        fixed.addresses = Some(Addresses { ipv4, ..Addresses::default() });
        spec.networks = vec![NetworkAttachment::new("z", Vec::new()), named, fixed];
        spec.mac_address = Some("02:00:00:00:00:01".to_owned());
    });
    let wanted = json!({
        "z": {"interface_name": "eth1", "static_mac": "02:00:00:00:00:01"},
        "n": {"interface_name": "eth0", "aliases": ["alias"]},
        "a": {"interface_name": "eth2", "static_ips": ["10.0.0.7"]},
    });
    assert_eq!(body["Networks"], wanted);
    for (mode, namespace) in [
        ("host", json!({"nsmode": "host"})),
        ("none", json!({"nsmode": "none"})),
        ("container:0a", json!({"nsmode": "container", "value": "0a"})),
        ("bridge", json!({"nsmode": "bridge"})),
    ] {
        let body = changed(|spec| spec.network_mode = Some(mode.to_owned()));
        assert_eq!(body["netns"], namespace, "{mode}");
    }
    let service = refusal(|spec| spec.network_mode = Some("service:x".to_owned()));
    assert_eq!(service.kind(), ErrorKind::Invalid);
}

#[test]
fn a_size_of_shared_memory_is_for_a_namespace_of_its_own() {
    let size = |ipc: Option<&str>| {
        changed(|spec| {
            spec.shm_size = Some(7);
            spec.namespaces.ipc = ipc.map(str::to_owned);
        })["shm_size"]
            .clone()
    };
    assert_eq!((size(None), size(Some("private"))), (json!(7), json!(7)));
    for other in ["host", "none", "container:0a"] {
        assert_eq!(size(Some(other)), Value::Null, "{other}");
    }
}

#[test]
fn limits_arrive_in_the_kernels_terms() {
    let body = changed(|spec| {
        spec.limits = Limits {
            nano_cpus: 1_500_000_000,
            cpu_shares: 512,
            cpuset: "0-1".to_owned(),
            memory: 100,
            memory_swap: -1,
            memory_swappiness: Some(0),
            pids: Some(-1),
            oom_kill_disable: true,
            oom_score_adj: -500,
            cgroup_parent: Some("/p".to_owned()),
            ..Limits::default()
        };
    });
    let cpu = json!({"period": 100_000, "quota": 150_000, "shares": 512, "cpus": "0-1"});
    let memory = json!({"limit": 100, "swap": -1, "swappiness": 0, "disableOOMKiller": true});
    let limits = &body["resource_limits"];
    assert_eq!((&limits["cpu"], &limits["memory"]), (&cpu, &memory));
    assert_eq!(limits["pids"]["limit"], -1);
    assert_eq!((&body["oom_score_adj"], &body["cgroup_parent"]), (&json!(-500), &json!("/p")));
}

#[test]
fn processes_are_without_limit_unless_one_is_asked_for() {
    for (asked, sent) in [(None, -1), (Some(0), -1), (Some(-1), -1), (Some(9), 9)] {
        let body = changed(|spec| spec.limits.pids = asked);
        assert_eq!(body["resource_limits"]["pids"]["limit"], sent, "{asked:?}");
    }
}

#[test]
fn limits_that_the_machine_has_are_kept_when_others_are_set() {
    let most = Most { files: Some(500), processes: Some(PODMANS_MOST) };
    assert!(rlimits(&[], most).is_empty());
    let limits = rlimits(&[Ulimit::new("memlock", -1, -1)], most);
    let told: Vec<_> =
        limits.iter().map(|l| (l.type_.as_deref().unwrap(), l.hard.unwrap())).collect();
    assert_eq!(told, [("memlock", u64::MAX), ("nofile", 500)]);
    assert_eq!(rlimits(&[Ulimit::new("nofile", 1, 2)], most).len(), 1);
}

#[test]
fn signals_are_numbers() {
    let convert = Convert { name: "web" };
    let number = |name: &str| signals::number(&convert, name).map_err(|error| error.kind());
    for (name, wanted) in [
        ("SIGTERM", 15),
        ("term", 15),
        ("INT", 2),
        ("SIGQUIT", 3),
        ("SIGWINCH", 28),
        ("9", 9),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("SIGRTMIN", 34),
    ] {
        assert_eq!(number(name), Ok(wanted), "{name}");
    }
    for wrong in ["", "SIGNAL", "0", "65", "SIGRTMIN+99", "RTMIN-1", "RTMAX+", "SIGRTMIN+x"] {
        assert_eq!(number(wrong), Err(ErrorKind::Invalid), "{wrong}");
    }
}

#[test]
fn health_checks_have_the_defaults_of_the_command_line() {
    let check = |test| {
        let mut around = around();
        let own = Some(words(&["CMD", "own"]));
        around.check = Some(CheckSettings { test: own, ..CheckSettings::default() });
        let mut spec = ContainerSpec::new("web", "i:1");
        spec.healthcheck = Some(Healthcheck::new(test));
        let body: Value = serde_json::from_slice(&to_body(&spec, &around).unwrap()).unwrap();
        body["healthconfig"].clone()
    };
    let second = 1_000_000_000_u64;
    let wanted = json!({
        "Test": ["CMD-SHELL", "true"], "Interval": 30 * second, "Timeout": 30 * second,
        "Retries": 3, "StartPeriod": 0,
    });
    assert_eq!(check(HealthcheckTest::Shell("true".to_owned())), wanted);
    assert_eq!(check(HealthcheckTest::Disabled)["Test"], json!(["NONE"]));
    assert_eq!(check(HealthcheckTest::Inherit)["Test"], json!(["CMD", "own"]));
    let inherited = Healthcheck::new(HealthcheckTest::Inherit);
    assert_eq!(refusal(|spec| spec.healthcheck = Some(inherited)).kind(), ErrorKind::Invalid);
}

#[test]
fn what_a_spec_leaves_open_about_health_is_the_images() {
    let own = |retries| CheckSettings {
        test: Some(words(&["CMD", "own"])),
        interval: 1,
        timeout: 2,
        start_period: 3,
        retries,
    };
    let check = |own: CheckSettings, healthcheck: Option<Healthcheck>| {
        let around = Surroundings { check: Some(own), ..around() };
        let mut spec = ContainerSpec::new("web", "i:1");
        spec.healthcheck = healthcheck;
        let body: Value = serde_json::from_slice(&to_body(&spec, &around).unwrap()).unwrap();
        body["healthconfig"].clone()
    };
    let image = json!({
        "Test": ["CMD", "own"], "Interval": 1, "Timeout": 2, "Retries": 4, "StartPeriod": 3,
    });
    assert_eq!(check(own(4), None), image, "the spec is silent");
    assert_eq!(check(own(0), None)["Retries"], 3, "nobody says how often");
    let mut wanted = Healthcheck::new(HealthcheckTest::Shell("true".to_owned()));
    wanted.interval = Some(Duration::from_nanos(9));
    wanted.retries = Some(7);
    let mixed = json!({
        "Test": ["CMD-SHELL", "true"], "Interval": 9, "Timeout": 2, "Retries": 7, "StartPeriod": 3,
    });
    assert_eq!(check(own(4), Some(wanted)), mixed);
}

#[test]
fn what_podman_has_not_is_refused_and_named() {
    let range = HostPorts { first: 8000, last: 8010 };
    let port = PortMapping { host_ports: Some(range), ..PortMapping::new(80) };
    let refused = [
        ("8000-8010", refusal(|spec| spec.ports = vec![port])),
        ("cpu_count", refusal(|spec| spec.limits.cpu_count = 1)),
        (
            "gw_priority",
            refusal(|spec| {
                let attachment = NetworkAttachment::new("n", Vec::new());
                spec.networks = vec![NetworkAttachment { gateway_priority: 1, ..attachment }];
            }),
        ),
        (
            "subpath",
            refusal(|spec| {
                let subpath = Some("x".to_owned());
                let kind = MountKind::Volume { name: "v".to_owned(), no_copy: false, subpath };
                spec.mounts = vec![Mount::new("/v", kind)];
            }),
        ),
        (
            "start_interval",
            refusal(|spec| {
                let mut check = Healthcheck::new(HealthcheckTest::Disabled);
                check.start_interval = Some(Duration::from_secs(1));
                spec.healthcheck = Some(check);
            }),
        ),
        ("odd=1", refusal(|spec| spec.security_opt = words(&["odd=1"]))),
        (
            "labels-regex",
            refusal(|spec| {
                let options = [("labels-regex".to_owned(), "x".to_owned())].into();
                spec.logging = Some(Logging { driver: None, options });
            }),
        ),
    ];
    for (word, error) in refused {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains(word), "{error} does not name {word}");
    }
}

#[test]
fn sizes_of_logs_are_read_as_docker_reads_them() {
    assert_eq!(bytes("10m"), Some(10 << 20));
    assert_eq!((bytes("7"), bytes("1kb"), bytes("2G")), (Some(7), Some(1 << 10), Some(2 << 30)));
    for wrong in ["", "m", "-1", "0", "1.5m", "9999999999g"] {
        assert_eq!(bytes(wrong), None, "{wrong}");
    }
}
