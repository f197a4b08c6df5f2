use nanny_lib::backend::{
    Addresses, DeviceMapping as Device, GpuDevices, HostPorts, Labels, Mount, MountKind,
    NetworkAttachment, Protocol, Recursion,
};
use serde_json::{Value, json};

use super::*;

const OLD: usize = 41;
const NEW: usize = 51;

fn spec() -> ContainerSpec {
    ContainerSpec::new("web", "image:1")
}

fn body(spec: &ContainerSpec) -> Value {
    body_for(spec, OLD)
}

fn body_for(spec: &ContainerSpec, minor: usize) -> Value {
    serde_json::to_value(to_body(spec, minor).unwrap().create).unwrap()
}

fn refused(spec: &ContainerSpec) -> BackendError {
    to_body(spec, OLD).unwrap_err()
}

fn bind(create: bool) -> MountKind {
    MountKind::bind("/data", create)
}

/// What every request says to the engine about its host.
fn with(mut host: Value) -> Value {
    for (key, value) in [
        ("ExtraHosts", json!([])),
        ("OomKillDisable", json!(false)),
        ("PortBindings", json!({})),
        ("Privileged", json!(false)),
        ("ReadonlyRootfs", json!(false)),
    ] {
        host.as_object_mut().unwrap().entry(key).or_insert(value);
    }
    host
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn a_bare_spec_asks_for_nothing() {
    let body = body(&spec());
    assert_eq!(
        body,
        json!({
            "Image": "image:1", "Tty": false, "OpenStdin": false,
            "AttachStdout": true, "AttachStderr": true, "HostConfig": with(json!({})),
        })
    );
}

#[test]
fn plain_fields_arrive() {
    let mut spec = spec();
    spec.entrypoint = Some(Vec::new());
    spec.command = Some(strings(&["serve", "--all"]));
    spec.environment.0.insert("A".to_owned(), Some("x=y".to_owned()));
    spec.environment.0.insert("GONE".to_owned(), None);
    spec.labels = Labels::from([("k".to_owned(), "v".to_owned())]);
    spec.hostname = Some("h".to_owned());
    spec.user = Some("1:2".to_owned());
    spec.working_dir = Some("/w".to_owned());
    (spec.tty, spec.stdin_open, spec.init) = (true, true, Some(true));
    spec.group_add = strings(&["video"]);
    spec.namespaces.ipc = Some("host".to_owned());
    spec.shm_size = Some(1 << 30);
    spec.runtime = Some("nvidia".to_owned());
    spec.network_mode = Some("host".to_owned());
    spec.extra_hosts = strings(&["host.docker.internal:host-gateway"]);
    spec.ulimits = vec![Ulimit::new("memlock", -1, -1)];
    spec.stop_signal = Some("SIGINT".to_owned());
    spec.stop_grace = Some(Duration::from_millis(1500));
    spec.restart = Some(RestartPolicy::OnFailure { max_retries: Some(3) });
    let body = body(&spec);
    assert_eq!(body["Entrypoint"], json!([]));
    assert_eq!(body["Cmd"], json!(["serve", "--all"]));
    assert_eq!(body["Env"], json!(["A=x=y", "GONE"]));
    assert_eq!(body["Labels"], json!({"k": "v"}));
    assert_eq!((&body["Hostname"], &body["User"]), (&json!("h"), &json!("1:2")));
    assert_eq!((&body["WorkingDir"], &body["Tty"]), (&json!("/w"), &json!(true)));
    assert_eq!((&body["StopSignal"], &body["StopTimeout"]), (&json!("SIGINT"), &json!(1)));
    assert_eq!(
        body["HostConfig"],
        with(json!({
            "Init": true, "GroupAdd": ["video"], "IpcMode": "host", "ShmSize": 1 << 30,
            "Runtime": "nvidia", "NetworkMode": "host",
            "ExtraHosts": ["host.docker.internal:host-gateway"],
            "Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}],
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        }))
    );
}

#[test]
fn a_published_port_is_also_an_exposed_one() {
    let mut spec = spec();
    let mut fixed = PortMapping::new(80);
    fixed.host_ip = Some("127.0.0.1".to_owned());
    fixed.host_ports = Some(HostPorts { first: 8080, last: 8080 });
    let mut range = PortMapping::new(53);
    range.protocol = Protocol::Udp;
    range.host_ports = Some(HostPorts { first: 5300, last: 5310 });
    spec.ports = vec![fixed, range, PortMapping::new(80)];
    spec.expose = strings(&["9000", "9001-9002/udp"]);
    let body = body(&spec);
    assert_eq!(
        body["ExposedPorts"],
        json!({"80/tcp": {}, "53/udp": {}, "9000": {}, "9001-9002/udp": {}})
    );
    assert_eq!(
        body["HostConfig"]["PortBindings"],
        json!({
            "80/tcp": [
                {"HostIp": "127.0.0.1", "HostPort": "8080"},
                {"HostIp": "", "HostPort": ""},
            ],
            "53/udp": [{"HostIp": "", "HostPort": "5300-5310"}],
        })
    );
}

#[test]
fn mounts_take_the_short_form_where_it_says_all_there_is_to_say() {
    let mut spec = spec();
    let mut read_only = Mount::new("/a", bind(true));
    read_only.read_only = true;
    let relabelled = MountKind::Bind {
        source: "/s".to_owned(),
        create_source: true,
        propagation: None,
        selinux: Some('z'),
        consistency: None,
        recursive: Recursion::Enabled,
    };
    spec.mounts = vec![
        read_only,
        Mount::new("/b", relabelled),
        Mount::new("/c", MountKind::volume("v")),
        Mount::new("/d", bind(false)),
    ];
    let host = &body(&spec)["HostConfig"];
    assert_eq!(host["Binds"], json!(["/data:/a:ro", "/s:/b:rw,z", "v:/c:rw"]));
    let long = json!([{"Target": "/d", "Source": "/data", "Type": "bind", "ReadOnly": false}]);
    assert_eq!(host["Mounts"], long);
}

#[test]
fn options_of_mounts_arrive_and_empty_ones_only_if_they_were_given() {
    let bind = |propagation: Option<&str>, recursive| MountKind::Bind {
        source: "/s".to_owned(),
        create_source: propagation.is_some(),
        propagation: propagation.map(str::to_owned),
        selinux: None,
        consistency: None,
        recursive,
    };
    let volume = |no_copy, subpath: Option<&str>| MountKind::Volume {
        name: "v".to_owned(),
        no_copy,
        subpath: subpath.map(str::to_owned),
    };
    let (bare, given) = (Recursion::Enabled, true);
    for (kind, has_options, field, options) in [
        (bind(None, bare), !given, "BindOptions", json!(null)),
        (bind(None, bare), given, "BindOptions", json!({})),
        (
            bind(Some("rslave"), bare),
            given,
            "BindOptions",
            json!({"Propagation": "rslave", "CreateMountpoint": true}),
        ),
        (bind(None, Recursion::Disabled), given, "BindOptions", json!({"NonRecursive": true})),
        (
            bind(None, Recursion::Writable),
            given,
            "BindOptions",
            json!({"ReadOnlyNonRecursive": true}),
        ),
        (
            bind(None, Recursion::ReadOnly),
            given,
            "BindOptions",
            json!({"ReadOnlyForceRecursive": true}),
        ),
        (volume(true, None), given, "VolumeOptions", json!({"NoCopy": true})),
        (
            volume(false, Some("x")),
            given,
            "VolumeOptions",
            json!({"NoCopy": false, "Subpath": "x"}),
        ),
        (MountKind::Anonymous, !given, "VolumeOptions", json!(null)),
        (MountKind::Anonymous, given, "VolumeOptions", json!({})),
        (MountKind::Tmpfs { size: None, mode: None }, !given, "TmpfsOptions", json!(null)),
        (
            MountKind::Tmpfs { size: Some(64), mode: Some(0o700) },
            given,
            "TmpfsOptions",
            json!({"SizeBytes": 64, "Mode": 448}),
        ),
    ] {
        let mut spec = spec();
        spec.mounts = vec![Mount { has_options, ..Mount::new("/t", kind.clone()) }];
        let mount = &body_for(&spec, NEW)["HostConfig"]["Mounts"][0];
        assert_eq!((&mount["Target"], &mount[field]), (&json!("/t"), &options), "{kind:?}");
    }
}

#[test]
fn labels_of_a_volume_need_the_long_form() {
    let mut spec = spec();
    for kind in [MountKind::volume("v"), MountKind::Anonymous] {
        let mut mount = Mount { has_options: true, ..Mount::new("/t", kind) };
        mount.volume_labels = Labels::from([("k".to_owned(), "v".to_owned())]);
        spec.mounts.push(mount);
    }
    let mounts = &body(&spec)["HostConfig"]["Mounts"];
    let labels = |at: usize| &mounts[at]["VolumeOptions"]["Labels"];
    assert_eq!((labels(0), labels(1)), (&json!({"k": "v"}), &json!({"k": "v"})));
}

#[test]
fn the_rest_of_the_host_arrives() {
    let map = |key: &str, value: &str| Labels::from([(key.to_owned(), value.to_owned())]);
    let mut spec = spec();
    spec.domainname = Some("lan".to_owned());
    spec.tmpfs = map("/run", "size=64m");
    spec.storage_options = map("size", "10G");
    (spec.read_only, spec.privileged) = (true, true);
    spec.device_cgroup_rules = strings(&["c 1:3 mr"]);
    spec.sysctls = map("net.core.somaxconn", "1024");
    spec.namespaces = Namespaces {
        ipc: Some("shareable".to_owned()),
        pid: Some("host".to_owned()),
        uts: Some("host".to_owned()),
        userns: Some("host".to_owned()),
        cgroup: Some("private".to_owned()),
    };
    spec.logging =
        Some(Logging { driver: Some("local".to_owned()), options: map("max-size", "1m") });
    spec.links = strings(&["db:db"]);
    spec.dns = Dns {
        servers: strings(&["9.9.9.9"]),
        options: strings(&["use-vc"]),
        search: strings(&["lan"]),
    };
    spec.limits = Limits {
        nano_cpus: 500_000_000,
        cpu_shares: 73,
        cpu_period: 1,
        cpu_quota: 2,
        cpu_realtime_period: 3,
        cpu_realtime_runtime: 4,
        cpu_count: 5,
        cpu_percent: 6,
        cpuset: "0".to_owned(),
        memory: 7,
        memory_swap: -1,
        memory_reservation: 8,
        memory_swappiness: Some(0),
        pids: Some(-1),
        oom_kill_disable: true,
        oom_score_adj: -500,
        cgroup_parent: Some("m".to_owned()),
    };
    let body = body(&spec);
    assert_eq!(body["Domainname"], json!("lan"));
    assert_eq!(
        body["HostConfig"],
        with(json!({
            "Tmpfs": {"/run": "size=64m"}, "StorageOpt": {"size": "10G"},
            "ReadonlyRootfs": true, "Privileged": true, "DeviceCgroupRules": ["c 1:3 mr"],
            "Sysctls": {"net.core.somaxconn": "1024"}, "IpcMode": "shareable", "PidMode": "host",
            "UTSMode": "host", "UsernsMode": "host", "CgroupnsMode": "private",
            "LogConfig": {"Type": "local", "Config": {"max-size": "1m"}}, "Links": ["db:db"],
            "Dns": ["9.9.9.9"], "DnsOptions": ["use-vc"], "DnsSearch": ["lan"],
            "NanoCpus": 500_000_000, "CpuShares": 73, "CpuPeriod": 1, "CpuQuota": 2,
            "CpuRealtimePeriod": 3, "CpuRealtimeRuntime": 4, "CpuCount": 5, "CpuPercent": 6,
            "CpusetCpus": "0", "Memory": 7, "MemorySwap": -1, "MemoryReservation": 8,
            "MemorySwappiness": 0, "PidsLimit": -1, "OomKillDisable": true, "OomScoreAdj": -500,
            "CgroupParent": "m",
        }))
    );
}

/// What makes a spec need API 1.x, and by which word a refusal names it.
type Novelty = (usize, &'static str, fn(&mut ContainerSpec));

const NOVELTIES: [Novelty; 8] = [
    (41, "platform", |spec| spec.platform = Some("linux/arm64".to_owned())),
    (43, "annotations", |spec| spec.annotations = Labels::from([("k".to_owned(), String::new())])),
    (44, "healthcheck.start_interval", |spec| {
        let mut check = Healthcheck::new(HealthcheckTest::Inherit);
        check.start_interval = Some(Duration::from_secs(1));
        spec.healthcheck = Some(check);
    }),
    (44, "mac_address", |spec| {
        attachment(spec).mac_address = Some("02:42:ac:11:65:43".to_owned());
    }),
    (44, "recursive", |spec| {
        let recursive = Recursion::ReadOnly;
        let kind = MountKind::Bind {
            source: "/s".to_owned(),
            create_source: false,
            propagation: None,
            selinux: None,
            consistency: None,
            recursive,
        };
        spec.mounts = vec![Mount::new("/t", kind)];
    }),
    (45, "subpath", |spec| {
        let subpath = Some("x".to_owned());
        let kind = MountKind::Volume { name: "v".to_owned(), no_copy: false, subpath };
        spec.mounts = vec![Mount::new("/t", kind)];
    }),
    (48, "gw_priority", |spec| attachment(spec).gateway_priority = 1),
    (49, "interface_name", |spec| attachment(spec).interface = Some("eth7".to_owned())),
];

fn attachment(spec: &mut ContainerSpec) -> &mut NetworkAttachment {
    spec.networks = vec![NetworkAttachment::new("n", Vec::new())];
    &mut spec.networks[0]
}

#[test]
fn a_field_that_the_engine_is_too_old_for_is_refused_with_the_version_it_needs() {
    for (minor, field, change) in NOVELTIES {
        let mut spec = spec();
        change(&mut spec);
        let error = to_body(&spec, minor - 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{field}");
        assert!(error.message().contains(field), "{error}");
        assert!(error.message().contains(&format!("1.{minor}")), "{error}");
        to_body(&spec, minor).unwrap();
    }
}

#[test]
fn gpus_and_devices_become_requests() {
    let mut spec = spec();
    let all = GpuDevices {
        driver: "nvidia".to_owned(),
        count: Some(-1),
        capabilities: strings(&["gpu", "compute"]),
        ..GpuDevices::default()
    };
    let one = GpuDevices {
        device_ids: strings(&["GPU-1"]),
        capabilities: strings(&["gpu"]),
        ..GpuDevices::default()
    };
    let named = GpuDevices {
        driver: "cdi".to_owned(),
        device_ids: strings(&["nvidia.com/gpu=0"]),
        ..GpuDevices::default()
    };
    spec.gpus = vec![all, one, named];
    spec.devices = vec![Device::new("/dev/dri")];
    let host = &body(&spec)["HostConfig"];
    assert_eq!(
        host["DeviceRequests"],
        json!([
            {"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu", "compute"]]},
            {"DeviceIDs": ["GPU-1"], "Capabilities": [["gpu"]]},
            {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]},
        ])
    );
    let node = json!([
        {"PathOnHost": "/dev/dri", "PathInContainer": "/dev/dri", "CgroupPermissions": "rwm"}
    ]);
    assert_eq!(host["Devices"], node);
}

#[test]
fn a_gpu_request_for_nothing_is_refused() {
    let device_ids = strings(&["0"]);
    let both = GpuDevices { count: Some(1), device_ids, ..GpuDevices::default() };
    let zero = GpuDevices { count: Some(0), ..GpuDevices::default() };
    for gpu in [GpuDevices::default(), both, zero] {
        let mut spec = spec();
        spec.gpus = vec![gpu];
        assert_eq!(refused(&spec).kind(), ErrorKind::Invalid);
    }
}

#[test]
fn capabilities_have_one_spelling_and_security_options_the_one_they_came_in() {
    let mut spec = spec();
    spec.cap_add = strings(&["sys_nice", "CAP_IPC_LOCK", "SYS_NICE"]);
    spec.cap_drop = strings(&["all"]);
    spec.security_opt = strings(&["seccomp:unconfined", "label:type:x", "no-new-privileges:true"]);
    let host = &body(&spec)["HostConfig"];
    assert_eq!(host["CapAdd"], json!(["CAP_IPC_LOCK", "CAP_SYS_NICE"]));
    assert_eq!(host["CapDrop"], json!(["ALL"]));
    let options = ["seccomp:unconfined", "label:type:x", "no-new-privileges:true"];
    assert_eq!(host["SecurityOpt"], json!(options));

    spec.security_opt = strings(&["systempaths=unconfined"]);
    let host = &body(&spec)["HostConfig"];
    assert_eq!((&host["MaskedPaths"], &host["ReadonlyPaths"]), (&json!([]), &json!([])));
}

#[test]
fn an_old_engine_gets_its_first_network_with_the_create_and_the_others_after_it() {
    let mut spec = spec();
    spec.networks = vec![
        NetworkAttachment::new("n1", strings(&["a1"])),
        NetworkAttachment::new("n2", strings(&["a2"])),
    ];
    let old = to_body(&spec, OLD).unwrap();
    let create = serde_json::to_value(&old.create).unwrap();
    assert_eq!(create["HostConfig"]["NetworkMode"], json!("n1"));
    let endpoints = &create["NetworkingConfig"]["EndpointsConfig"];
    assert_eq!(endpoints, &json!({"n1": {"Aliases": ["a1"]}}));
    assert_eq!(old.connect.len(), 1);
    assert_eq!(old.connect[0].0, "n2");

    let new = to_body(&spec, NEW).unwrap();
    assert!(new.connect.is_empty());
    assert_eq!(new.create.body.networking_config.unwrap().endpoints_config.unwrap().len(), 2);

    spec.network_mode = Some("host".to_owned());
    assert_eq!(refused(&spec).kind(), ErrorKind::Invalid);
}

#[test]
fn an_attachment_arrives_with_all_it_asks_for() {
    let mut spec = spec();
    spec.links = strings(&["db-1:db"]);
    let mut attachment = NetworkAttachment::new("n", strings(&["a"]));
    attachment.addresses = Some(Addresses {
        ipv4: Some("172.28.5.7".to_owned()),
        ipv6: Some("2001:db8::7".to_owned()),
        link_local: strings(&["169.254.1.1"]),
    });
    attachment.mac_address = Some("02:42:ac:11:65:43".to_owned());
    attachment.interface = Some("eth7".to_owned());
    attachment.gateway_priority = 3;
    attachment.driver_options = Labels::from([("k".to_owned(), "v".to_owned())]);
    let mut unsaid = NetworkAttachment::new("o", Vec::new());
    unsaid.addresses = Some(Addresses::default());
    spec.networks = vec![attachment, unsaid];
    assert_eq!(
        body_for(&spec, NEW)["NetworkingConfig"]["EndpointsConfig"],
        json!({
            "n": {
                "Aliases": ["a"], "Links": ["db-1:db"], "MacAddress": "02:42:ac:11:65:43",
                "IPAMConfig": {
                    "IPv4Address": "172.28.5.7", "IPv6Address": "2001:db8::7",
                    "LinkLocalIPs": ["169.254.1.1"],
                },
                "IPAddress": "172.28.5.7", "IPv6Gateway": "2001:db8::7", "GwPriority": 3,
                "DriverOpts": {"k": "v", "com.docker.network.endpoint.ifname": "eth7"},
            },
            "o": {"Links": ["db-1:db"], "IPAMConfig": {}},
        })
    );
}

#[test]
fn a_hardware_address_is_the_containers_on_old_engines_and_the_networks_on_new_ones() {
    let mut spec = spec();
    spec.mac_address = Some("02:42:ac:11:65:43".to_owned());
    spec.networks = ["n", "o"].map(|name| NetworkAttachment::new(name, Vec::new())).to_vec();
    let old = body_for(&spec, OLD);
    assert_eq!(old["MacAddress"], json!("02:42:ac:11:65:43"));
    assert_eq!(old["NetworkingConfig"]["EndpointsConfig"], json!({"n": {}}));
    let new = body_for(&spec, NEW);
    assert_eq!(new["MacAddress"], json!(null));
    let endpoints = json!({"n": {"MacAddress": "02:42:ac:11:65:43"}, "o": {}});
    assert_eq!(new["NetworkingConfig"]["EndpointsConfig"], endpoints);

    spec.networks[0].mac_address = Some("02:42:ac:11:65:44".to_owned());
    assert_eq!(to_body(&spec, NEW).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn health_checks_arrive() {
    let mut spec = spec();
    let mut check = Healthcheck::new(HealthcheckTest::Shell("curl -f localhost".to_owned()));
    check.interval = Some(Duration::from_secs(5));
    check.timeout = Some(Duration::from_millis(1500));
    check.retries = Some(3);
    check.start_period = Some(Duration::from_secs(60));
    spec.healthcheck = Some(check);
    assert_eq!(
        body(&spec)["Healthcheck"],
        json!({
            "Test": ["CMD-SHELL", "curl -f localhost"], "Interval": 5_000_000_000_i64,
            "Timeout": 1_500_000_000, "Retries": 3, "StartPeriod": 60_000_000_000_i64,
        })
    );
    spec.healthcheck = Some(Healthcheck::new(HealthcheckTest::Disabled));
    assert_eq!(body(&spec)["Healthcheck"]["Test"], json!(["NONE"]));
}

#[test]
fn what_cannot_be_said_to_the_engine_is_refused_by_name() {
    let mut nameless = spec();
    nameless.name = String::new();
    assert_eq!(refused(&nameless).kind(), ErrorKind::Invalid);
    let mut imageless = spec();
    imageless.image = None;
    assert_eq!(refused(&imageless).kind(), ErrorKind::Invalid);
    let mut variable = spec();
    variable.environment.0.insert("A=B".to_owned(), Some("secret".to_owned()));
    let error = refused(&variable);
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(!error.to_string().contains("secret"));
    let mut colon = spec();
    colon.mounts = vec![Mount::new("/a:b", bind(true))];
    assert_eq!(refused(&colon).kind(), ErrorKind::Unsupported);
    let mut port = spec();
    port.expose = strings(&["http"]);
    assert_eq!(refused(&port).kind(), ErrorKind::Invalid);
    let mut service = spec();
    service.network_mode = Some("service:db".to_owned());
    assert_eq!(refused(&service).kind(), ErrorKind::Invalid);
    let mut relabelled = spec();
    relabelled.mounts = vec![Mount::new(
        "/t",
        MountKind::Bind {
            source: "/s".to_owned(),
            create_source: false,
            propagation: None,
            selinux: Some('z'),
            consistency: None,
            recursive: Recursion::Enabled,
        },
    )];
    assert_eq!(refused(&relabelled).kind(), ErrorKind::Unsupported);
    let mut cgroup = spec();
    cgroup.namespaces.cgroup = Some("shared".to_owned());
    assert_eq!(refused(&cgroup).kind(), ErrorKind::Invalid);
}
