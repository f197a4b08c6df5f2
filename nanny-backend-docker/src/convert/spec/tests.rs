use nanny_lib::backend::{
    DeviceMapping as Device, HostPorts, Labels, PortMapping, Protocol, Ulimit,
};
use serde_json::{Value, json};

use super::*;

const OLD: usize = 41;
const NEW: usize = 44;

fn spec() -> ContainerSpec {
    ContainerSpec::new("web", "image:1")
}

fn body(spec: &ContainerSpec) -> Value {
    serde_json::to_value(to_body(spec, OLD).unwrap().create).unwrap()
}

fn refused(spec: &ContainerSpec) -> BackendError {
    to_body(spec, OLD).unwrap_err()
}

fn bind(create_source: bool) -> MountKind {
    MountKind::Bind { source: "/data".to_owned(), create_source, propagation: None, selinux: None }
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
            "HostConfig": {"RestartPolicy": {"Name": "no"}},
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
    spec.ipc = Some("host".to_owned());
    spec.shm_size = Some(1 << 30);
    spec.runtime = Some("nvidia".to_owned());
    spec.network_mode = Some("host".to_owned());
    spec.extra_hosts = strings(&["host.docker.internal:host-gateway"]);
    spec.ulimits = vec![Ulimit::new("memlock", -1, -1)];
    spec.stop_signal = Some("SIGINT".to_owned());
    spec.stop_grace = Some(Duration::from_millis(1500));
    spec.restart = RestartPolicy::OnFailure { max_retries: Some(3) };
    let body = body(&spec);
    assert_eq!(body["Entrypoint"], json!([]));
    assert_eq!(body["Cmd"], json!(["serve", "--all"]));
    assert_eq!(body["Env"], json!(["A=x=y", "GONE"]));
    assert_eq!(body["Labels"], json!({"k": "v"}));
    assert_eq!((&body["Hostname"], &body["User"]), (&json!("h"), &json!("1:2")));
    assert_eq!((&body["WorkingDir"], &body["Tty"]), (&json!("/w"), &json!(true)));
    assert_eq!((&body["StopSignal"], &body["StopTimeout"]), (&json!("SIGINT"), &json!(2)));
    assert_eq!(
        body["HostConfig"],
        json!({
            "Init": true, "GroupAdd": ["video"], "IpcMode": "host", "ShmSize": 1 << 30,
            "Runtime": "nvidia", "NetworkMode": "host",
            "ExtraHosts": ["host.docker.internal:host-gateway"],
            "Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}],
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        })
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
    spec.expose = strings(&["9000", "9001/udp"]);
    let body = body(&spec);
    assert_eq!(
        body["ExposedPorts"],
        json!({"80/tcp": {}, "53/udp": {}, "9000/tcp": {}, "9001/udp": {}})
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
fn mounts_are_binds_where_the_engine_makes_what_is_missing() {
    let mut spec = spec();
    let mut read_only = Mount::new("/a", bind(true));
    read_only.read_only = true;
    let shared = MountKind::Bind {
        source: "/s".to_owned(),
        create_source: true,
        propagation: Some("rshared".to_owned()),
        selinux: Some('z'),
    };
    let volume = |no_copy| MountKind::Volume { name: "v".to_owned(), no_copy };
    spec.mounts = vec![
        read_only,
        Mount::new("/b", shared),
        Mount::new("/c", volume(false)),
        Mount::new("/d", volume(true)),
        Mount::new("/e", bind(false)),
        Mount::new("/f", MountKind::Anonymous),
        Mount::new("/g", MountKind::Tmpfs { size: Some(64) }),
    ];
    let host = &body(&spec)["HostConfig"];
    let binds = ["/data:/a:ro", "/s:/b:rw,z,rshared", "v:/c:rw", "v:/d:rw,nocopy"];
    assert_eq!(host["Binds"], json!(binds));
    assert_eq!(
        host["Mounts"],
        json!([
            {"Target": "/e", "Source": "/data", "Type": "bind", "ReadOnly": false},
            {"Target": "/f", "Type": "volume", "ReadOnly": false},
            {"Target": "/g", "Type": "tmpfs", "ReadOnly": false, "TmpfsOptions": {"SizeBytes": 64}},
        ])
    );
}

#[test]
fn gpus_and_devices_become_requests() {
    let mut spec = spec();
    let mut all = GpuDevices::default();
    all.count = Some(-1);
    all.driver = "nvidia".to_owned();
    all.capabilities = strings(&["gpu", "compute"]);
    let mut one = GpuDevices::default();
    one.device_ids = strings(&["GPU-1"]);
    one.capabilities = strings(&["gpu"]);
    spec.gpus = vec![all, one];
    spec.devices = vec![Device::new("/dev/dri"), Device::new("nvidia.com/gpu=0")];
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
    let mut both = GpuDevices::default();
    both.count = Some(1);
    both.device_ids = strings(&["0"]);
    let mut zero = GpuDevices::default();
    zero.count = Some(0);
    for gpu in [GpuDevices::default(), both, zero] {
        let mut spec = spec();
        spec.gpus = vec![gpu];
        assert_eq!(refused(&spec).kind(), ErrorKind::Invalid);
    }
}

#[test]
fn capabilities_and_security_options_have_one_spelling() {
    let mut spec = spec();
    spec.cap_add = strings(&["sys_nice", "CAP_IPC_LOCK", "SYS_NICE"]);
    spec.cap_drop = strings(&["all"]);
    spec.security_opt = strings(&["seccomp:unconfined", "label:type:x", "no-new-privileges:true"]);
    let host = &body(&spec)["HostConfig"];
    assert_eq!(host["CapAdd"], json!(["CAP_IPC_LOCK", "CAP_SYS_NICE"]));
    assert_eq!(host["CapDrop"], json!(["ALL"]));
    let options = ["seccomp=unconfined", "label=type:x", "no-new-privileges=true"];
    assert_eq!(host["SecurityOpt"], json!(options));

    spec.security_opt = strings(&["systempaths=unconfined"]);
    let host = &body(&spec)["HostConfig"];
    assert_eq!((&host["MaskedPaths"], &host["ReadonlyPaths"]), (&json!([]), &json!([])));

    spec.security_opt = strings(&["seccomp:/etc/profile.json"]);
    assert_eq!(refused(&spec).kind(), ErrorKind::Unsupported);
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
    assert_eq!(new.create.networking_config.unwrap().endpoints_config.unwrap().len(), 2);

    spec.network_mode = Some("host".to_owned());
    assert_eq!(refused(&spec).kind(), ErrorKind::Invalid);
}

#[test]
fn health_checks_arrive_and_a_start_interval_needs_a_new_engine() {
    let mut spec = spec();
    let mut check = Healthcheck::new(HealthcheckTest::Shell("curl -f localhost".to_owned()));
    check.interval = Some(Duration::from_secs(5));
    check.timeout = Some(Duration::from_millis(1500));
    check.retries = Some(3);
    check.start_period = Some(Duration::from_secs(60));
    spec.healthcheck = Some(check.clone());
    assert_eq!(
        body(&spec)["Healthcheck"],
        json!({
            "Test": ["CMD-SHELL", "curl -f localhost"], "Interval": 5_000_000_000_i64,
            "Timeout": 1_500_000_000, "Retries": 3, "StartPeriod": 60_000_000_000_i64,
        })
    );
    spec.healthcheck = Some(Healthcheck::new(HealthcheckTest::Disabled));
    assert_eq!(body(&spec)["Healthcheck"]["Test"], json!(["NONE"]));

    check.start_interval = Some(Duration::from_secs(1));
    spec.healthcheck = Some(check);
    let error = refused(&spec);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("start_interval"));
    to_body(&spec, NEW).unwrap();
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
}
