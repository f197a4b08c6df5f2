//! What becomes of each key of a service.

use std::time::Duration;

use super::{Stage, warnings, web, web_file};
use crate::model::{
    Condition, GpuRequest, Mount, MountSource, NetworkMode, Propagation, RestartPolicy, Selinux,
    Ulimit,
};

#[test]
fn commands_are_words_or_lists() {
    let service = web("command: serve --port '80 81'\nentrypoint: [sh, -c, 'a; b']\n");
    assert_eq!(service.command, Some(vec!["serve".into(), "--port".into(), "80 81".into()]));
    assert_eq!(service.entrypoint, Some(vec!["sh".into(), "-c".into(), "a; b".into()]));
    assert_eq!(web("command:\n").command, None);
    assert_eq!(web("command: ''\nentrypoint: []\n").command, Some(Vec::new()));
}

#[test]
fn a_folded_command_is_one_line() {
    let service = web("command: >\n  bash -c \"pip install x &&\n  python -m app\"\n");
    let expected = ["bash", "-c", "pip install x && python -m app"].map(str::to_owned);
    assert_eq!(service.command.as_deref(), Some(&expected[..]));
}

#[test]
fn a_policy_that_pulls_now_and_then_is_warned_of() {
    let warned = warnings(&web_file("pull_policy: daily\n"));
    assert_eq!(warned.len(), 1);
    assert!(warned[0].contains("services.web.pull_policy: is taken for 'missing'"), "{warned:?}");
    assert!(warnings(&web_file("pull_policy: always\n")).is_empty());
}

#[test]
fn a_command_that_compose_cuts_off_is_warned_of() {
    let warned = warnings(&web_file("command: sleep 5; echo hi\n"));
    assert_eq!(warned.len(), 1);
    assert!(warned[0].contains(":4:14: services.web.command: everything from ';' on is dropped"));
}

#[test]
fn environment_is_a_list_or_a_mapping() {
    let list = web("environment:\n  - A=1\n  - B=x=y\n  - A=2\n  - NOWHERE\n").environment;
    assert_eq!((list.get("A"), list.get("B")), (Some("2"), Some("x=y")));
    assert!(list.contains("NOWHERE") && list.get("NOWHERE").is_none());
    let map = web("environment: {A: 0755, B: yes, C: true, D: 1.10, E: '', F: }\n").environment;
    let values: Vec<_> = map.iter().map(|(_, value)| value).collect();
    assert_eq!(values, [Some("493"), Some("yes"), Some("true"), Some("1.1"), Some(""), None]);
}

#[test]
fn ports_and_expose_are_expanded_and_kept() {
    let service = web(
        "ports: ['8080:80', 9000, '80-81:80-81/udp', '8080:80']\nexpose: [3000, '4000-4001']\n",
    );
    let ports: Vec<_> = service.ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["8080:80/tcp", "9000/tcp", "80:80/udp", "81:81/udp"]);
    assert_eq!(service.expose, ["3000", "4000-4001"]);
}

#[test]
fn volumes_are_binds_names_or_anonymous() {
    let mounts = web(
        "volumes:\n  - ./data/../x:/data/\n  - ~/hf:/hf:ro,Z\n  - /dev/shm:/shm:rshared\n  - models:/models:nocopy\n  - /tmp/anon\n",
    )
    .mounts;
    let bind = |path: &str| MountSource::Bind {
        path: path.into(),
        create_host_path: true,
        recursive: None,
    };
    let plain = |source, target| Mount { has_options: true, ..Mount::new(source, target) };
    assert_eq!(mounts[0], plain(bind("/srv/My App/x"), "/data"));
    assert_eq!(mounts[1].source, bind("/home/ann/hf"));
    assert_eq!((mounts[1].read_only, mounts[1].selinux), (true, Some(Selinux::Private)));
    assert_eq!(mounts[2].propagation, Some(Propagation::RecursiveShared));
    assert_eq!(mounts[3].source, MountSource::Volume { key: "models".into(), subpath: None });
    assert!(mounts[3].no_copy);
    assert_eq!(mounts[4], plain(MountSource::Anonymous, "/tmp/anon"));
}

#[test]
fn options_that_are_given_are_told_from_those_that_are_not() {
    let service = web(
        "volumes:\n  - {type: bind, source: ./a, target: /a}\n  - {type: bind, source: ./b, target: /b, bind: {}}\n  - {type: volume, target: /c}\nnetworks: {front: , back: {}}\n",
    );
    let is_made =
        |mount: &Mount| matches!(mount.source, MountSource::Bind { create_host_path: true, .. });
    let mounts: Vec<_> = service.mounts.iter().map(|m| (m.has_options, is_made(m))).collect();
    assert_eq!(mounts, [(false, true), (true, false), (false, false)]);
    assert!(!service.networks["front"].is_explicit && service.networks["back"].is_explicit);
}

#[test]
fn devices_with_cdi_names_are_requested_between_the_reserved_ones_and_the_gpus() {
    let service = web(
        "gpus: all\ndevices: [/dev/null, vendor.example/class=a, vendor.example/class=b]\ndeploy: {resources: {reservations: {devices: [{count: 1, capabilities: [gpu]}]}}}\n",
    );
    assert_eq!(service.devices.len(), 1);
    assert_eq!((service.gpus[0].count, service.gpus[2].count), (Some(1), Some(GpuRequest::ALL)));
    assert_eq!(service.gpus[1].driver.as_deref(), Some("cdi"));
    assert_eq!(service.gpus[1].device_ids, ["vendor.example/class=a", "vendor.example/class=b"]);
}

#[test]
fn of_two_mounts_with_one_target_the_later_counts() {
    let mounts = web("volumes: ['./a:/x', './b:/y', 'models:/x/']\n").mounts;
    let targets: Vec<_> = mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/x", "/y"]);
    assert_eq!(mounts[0].source, MountSource::Volume { key: "models".into(), subpath: None });
}

#[test]
fn gpus_are_requested_in_two_ways() {
    let service = web(
        "deploy:\n  resources:\n    reservations:\n      devices:\n        - {driver: nvidia, count: all, capabilities: [gpu]}\n        - {device_ids: ['0', '3'], capabilities: [gpu, compute], options: {a: 1}}\n        - {capabilities: [gpu]}\n",
    );
    let requests = service.gpus;
    assert_eq!(requests[0].driver.as_deref(), Some("nvidia"));
    assert!(requests[0].wants_all() && requests[2].wants_all());
    assert_eq!(
        (requests[1].count, requests[1].device_ids.as_slice()),
        (None, &["0".into(), "3".into()][..])
    );
    assert_eq!(requests[1].options["a"], "1");
    let all = web("gpus: all\n").gpus;
    assert_eq!(all[0].count, Some(GpuRequest::ALL));
    assert_eq!(web("gpus: [{count: 2}]\n").gpus[0].count, Some(2));
}

#[test]
fn devices_groups_and_capabilities_are_taken_over() {
    let service = web(
        "devices: [/dev/kfd, '/dev/dri:/dev/gpu:rw', {source: /dev/a, target: /dev/a}]\ngroup_add: [video, 992]\ncap_add: [SYS_PTRACE]\ncap_drop: [ALL]\nsecurity_opt: ['seccomp:unconfined']\nipc: host\nshm_size: 8gb\n",
    );
    assert_eq!(service.devices[0].target, "/dev/kfd");
    assert_eq!(service.devices[0].permissions, "rwm");
    assert_eq!(service.devices[1].permissions, "rw");
    assert_eq!(service.devices[2].target, "/dev/a");
    assert_eq!(service.group_add, ["video", "992"]);
    assert_eq!((service.cap_add.len(), service.cap_drop.len()), (1, 1));
    assert_eq!(service.security_opt, ["seccomp:unconfined"]);
    assert_eq!(service.namespaces.ipc.as_deref(), Some("host"));
    assert_eq!(service.shm_size, Some(8 << 30));
}

#[test]
fn a_healthcheck_is_a_list_a_line_or_off() {
    let check = web(
        "healthcheck:\n  test: curl -f localhost\n  interval: 1m30s\n  timeout: 10s\n  retries: '5'\n  start_period: 2m\n  start_interval: 500ms\n",
    );
    let check = check.healthcheck.expect("it is there");
    assert_eq!(check.test, ["CMD-SHELL", "curl -f localhost"]);
    assert_eq!(check.interval, Some(Duration::from_secs(90)));
    assert_eq!((check.retries, check.start_interval), (Some(5), Some(Duration::from_millis(500))));
    let list = web("healthcheck: {test: [CMD, true-ish, '1']}\n").healthcheck.expect("it is there");
    assert_eq!(list.test, ["CMD", "true-ish", "1"]);
    for off in ["{disable: true}", "{test: [NONE]}", "{disable: 'true'}"] {
        assert!(
            web(&format!("healthcheck: {off}\n")).healthcheck.is_some_and(|check| check.is_off())
        );
    }
}

#[test]
fn restart_policies_are_understood() {
    for (text, expected) in [
        ("no", Some(RestartPolicy::No)),
        ("'no'", Some(RestartPolicy::No)),
        ("always", Some(RestartPolicy::Always)),
        ("unless-stopped", Some(RestartPolicy::UnlessStopped)),
        ("on-failure", Some(RestartPolicy::OnFailure { max: None })),
        ("on-failure:3", Some(RestartPolicy::OnFailure { max: Some(3) })),
        ("''", None),
    ] {
        assert_eq!(web(&format!("restart: {text}\n")).restart, expected, "{text}");
    }
}

#[test]
fn dependencies_are_a_list_or_a_mapping() {
    let stage = |depends_on: &str| {
        let file = format!(
            "services:\n  a: {{image: x, depends_on: {depends_on}}}\n  b: {{image: x}}\n  c: {{image: x, profiles: [p]}}\n"
        );
        Stage::new(&file).project().services["a"].depends_on.clone()
    };
    assert!(stage("[b]")["b"].required);
    let healthy = stage("{b: {condition: service_healthy, restart: true, required: false}}")["b"];
    assert_eq!(healthy.condition, Condition::Healthy);
    assert!(healthy.restart && !healthy.required);
    let optional = stage(
        "{b: {condition: service_started}, c: {condition: service_started, required: false}}",
    );
    assert_eq!(optional.len(), 2);
}

#[test]
fn networks_are_a_list_a_mapping_or_the_default() {
    assert_eq!(web("").networks_in_order(), ["default"]);
    assert_eq!(web("networks: [front, back]\n").networks_in_order(), ["back", "front"]);
    let service = web("networks:\n  back:\n  front: {priority: 5, aliases: [www]}\n");
    assert_eq!(service.networks_in_order(), ["front", "back"]);
    assert_eq!(service.networks["front"].aliases, ["www"]);
    let host = web("network_mode: host\n");
    assert_eq!((host.network_mode, host.networks.len()), (Some(NetworkMode::Host), 0));
}

#[test]
fn hosts_labels_and_limits_are_taken_over() {
    let service = web(
        "extra_hosts:\n  - host.docker.internal:host-gateway\n  - six=[::1]\nlabels: [a=1, b]\nulimits: {memlock: -1, nofile: {soft: 1024, hard: 2048}}\n",
    );
    assert_eq!(service.extra_hosts["host.docker.internal"], ["host-gateway"]);
    assert_eq!(service.extra_hosts["six"], ["::1"]);
    assert_eq!((service.labels["a"].as_str(), service.labels["b"].as_str()), ("1", ""));
    assert_eq!(service.ulimits["memlock"], Ulimit::both(-1));
    assert_eq!(service.ulimits["nofile"], Ulimit { soft: 1024, hard: 2048 });
    assert_eq!(web("extra_hosts: {a: 1.2.3.4}\n").extra_hosts["a"], ["1.2.3.4"]);
}

#[test]
fn the_plain_fields_are_taken_over() {
    let service = web(
        "container_name: front\nhostname: h\nuser: '1000:1000'\nworking_dir: /app\ntty: true\nstdin_open: 'true'\ninit: 'yes'\nstop_signal: SIGKILL\nstop_grace_period: 1m\nruntime: nvidia\n",
    );
    assert_eq!(service.container_name.as_deref(), Some("front"));
    assert_eq!(service.hostname.as_deref(), Some("h"));
    assert_eq!(service.user.as_deref(), Some("1000:1000"));
    assert_eq!(service.working_dir.as_deref(), Some("/app"));
    assert!(service.tty && service.stdin_open);
    assert_eq!(service.init, Some(true));
    assert_eq!(service.stop_signal.as_deref(), Some("SIGKILL"));
    assert_eq!(service.stop_grace_period, Some(Duration::from_secs(60)));
    assert_eq!(service.runtime.as_deref(), Some("nvidia"));
}

#[test]
fn a_build_says_what_it_needs_and_what_nobody_can_do() {
    let file = "services:\n  a: {build: .}\n  b: {build: {context: .}, image: named}\n";
    let project = Stage::new(file).project();
    assert_eq!(project.services["a"].image, "myapp-a");
    assert!(project.services["a"].build.is_some());
    assert_eq!(project.services["b"].image, "named");
    assert!(project.services["b"].build.is_some());
    let odd = "services: {a: {build: {context: ., ssh: [default], cache_to: [x]}}}\n";
    let build = Stage::new(odd).project().services["a"].build.clone().expect("it is there");
    assert_eq!(build.unsupported, ["cache_to", "ssh"]);
}
