use std::time::Duration;

use super::*;
use crate::backend::FileInside;
use crate::name::ServiceName;
use crate::project::Namespace;

fn manifest() -> Manifest {
    Manifest::new(ServiceName::new("chat").expect("a good name"))
}

/// A project `ai` of one service `web`, which `change` may change.
fn lower(
    manifest: &Manifest,
    change: impl FnOnce(&mut model::Service),
) -> Result<Project, Vec<Problem>> {
    let mut compose = model::Project::new("ai", "/srv/ai");
    let mut service = model::Service::new("web", "nginx:1");
    change(&mut service);
    compose.services.insert("web".to_owned(), service);
    compose.networks.insert("default".to_owned(), model::Network::new("ai_default"));
    compose.volumes.insert("models".to_owned(), model::Volume::new("ai_models"));
    from_compose(&compose, manifest)
}

fn web(manifest: &Manifest, change: impl FnOnce(&mut model::Service)) -> Part {
    let mut project = lower(manifest, change).expect("it can be lowered");
    *project.parts.remove("web").expect("it has a web")
}

#[test]
fn a_project_is_found_by_the_labels_of_compose() {
    let project = lower(&manifest(), |_| {}).unwrap();
    assert_eq!(project.name, "ai");
    assert_eq!(project.part_label, compose_labels::SERVICE);
    assert_eq!(project.image_label.as_deref(), Some(compose_labels::IMAGE));
    let labels = &project.parts["web"].spec.labels;
    assert!(project.selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
    assert!(!project.excluded.iter().any(|(key, value)| labels.get(key) == Some(value)));
    assert_eq!(labels[&project.part_label], "web");
    assert_eq!(labels[labels::SERVICE], "chat");
    assert_eq!(labels[labels::SPEC_HASH].len(), 64);
}

#[test]
fn a_plain_service_becomes_a_plain_container() {
    let part = web(&manifest(), |_| {});
    assert_eq!(part.spec.name, "ai-web-1");
    let labels = part.spec.labels.clone();
    let plain = ContainerSpec { labels, ..ContainerSpec::new("ai-web-1", "nginx:1") };
    assert_eq!(part, Part::new(plain));
}

#[test]
fn every_setting_arrives() {
    let part = web(&manifest(), |service| {
        service.command = Some(vec!["serve".to_owned()]);
        service.environment.insert("TOKEN", Some("x".to_owned()));
        service.environment.insert("UNSET", None);
        service.ports = vec![model::Port {
            host_ip: Some("127.0.0.1".to_owned()),
            published: Some("8000-8010".to_owned()),
            target: 80,
            protocol: model::Protocol::Udp,
        }];
        service.expose = vec!["9000-9001/tcp".to_owned()];
        service.networks.insert("default".to_owned(), model::Attachment::default());
        service.gpus = vec![model::GpuRequest::of_count(model::GpuRequest::ALL)];
        service.ulimits.insert("memlock".to_owned(), model::Ulimit::both(-1));
        service.extra_hosts.insert("db".to_owned(), vec!["::1".to_owned()]);
        service.network_mode = Some(model::NetworkMode::Host);
        service.shm_size = Some(1 << 30);
    });
    let spec = part.spec;
    assert_eq!(spec.command.unwrap(), ["serve"]);
    assert_eq!(spec.environment.0["TOKEN"].as_deref(), Some("x"));
    assert_eq!(spec.environment.0["UNSET"], None);
    let port = PortMapping {
        container_port: 80,
        protocol: Protocol::Udp,
        host_ip: Some("127.0.0.1".to_owned()),
        host_ports: Some(HostPorts { first: 8000, last: 8010 }),
    };
    assert_eq!(spec.ports, [port]);
    assert_eq!(spec.expose, ["9000-9001/tcp"]);
    let aliases = vec!["ai-web-1".to_owned(), "web".to_owned()];
    assert_eq!(spec.networks, [NetworkAttachment::new("ai_default", aliases)]);
    assert_eq!(spec.gpus[0].count, Some(-1));
    assert_eq!(spec.ulimits, [Ulimit::new("memlock", -1, -1)]);
    assert_eq!(spec.extra_hosts, ["db:::1"]);
    assert_eq!(spec.network_mode.as_deref(), Some("host"));
    assert_eq!(spec.shm_size, Some(1 << 30));
}

#[test]
fn mounts_name_what_the_engine_knows() {
    let part = web(&manifest(), |service| {
        let path = "/data".to_owned();
        let bind = model::MountSource::Bind { path, create_host_path: true, recursive: None };
        let mut bind = model::Mount::new(bind, "/in");
        bind.read_only = true;
        bind.selinux = Some(model::Selinux::Private);
        let volume = model::MountSource::Volume { key: "models".to_owned(), subpath: None };
        service.mounts = vec![bind, model::Mount::new(volume, "/models")];
    });
    let bind = MountKind::Bind {
        source: "/data".to_owned(),
        create_source: true,
        propagation: None,
        selinux: Some('Z'),
        consistency: None,
        recursive: Recursion::Enabled,
    };
    let volume = MountKind::volume("ai_models");
    let expected =
        [Mount { read_only: true, ..Mount::new("/in", bind) }, Mount::new("/models", volume)];
    assert_eq!(part.spec.mounts, expected);
}

#[test]
fn health_checks_keep_their_kind() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for (test, expected) in [
        (words(&[]), HealthcheckTest::Inherit),
        (words(&["NONE"]), HealthcheckTest::Disabled),
        (words(&["CMD", "a", "b c"]), HealthcheckTest::Command(words(&["a", "b c"]))),
        (words(&["CMD-SHELL", "a | b"]), HealthcheckTest::Shell("a | b".to_owned())),
    ] {
        let part = web(&manifest(), |service| {
            let mut check = model::Healthcheck::default();
            check.test = test;
            service.healthcheck = Some(check);
        });
        assert_eq!(part.spec.healthcheck.unwrap().test, expected);
    }
}

#[test]
fn a_gpu_service_is_restarted_by_the_nanny_unless_told_otherwise() {
    let always = |service: &mut model::Service| {
        service.restart = Some(model::RestartPolicy::OnFailure { max: Some(3) });
    };
    let asked = RestartPolicy::OnFailure { max_retries: Some(3) };
    let cpu = web(&manifest(), always);
    assert_eq!((cpu.spec.restart, cpu.restart), (Some(asked), asked));
    assert!(!cpu.spec.labels.contains_key(labels::RESTART));

    let mut gpu = manifest().with_gpu(8);
    let ours = web(&gpu, always);
    assert_eq!((ours.spec.restart, ours.restart), (Some(RestartPolicy::No), asked));
    assert_eq!(ours.spec.labels[labels::RESTART], "on-failure:3");

    gpu.restart = RestartMode::Keep;
    let kept = web(&gpu, always);
    assert_eq!((kept.spec.restart, kept.restart), (Some(asked), asked));
}

#[test]
fn the_manifest_says_how_long_a_stop_may_take_where_the_file_does_not() {
    let mut manifest = manifest();
    manifest.stop_timeout = Some(Duration::from_secs(60));
    assert_eq!(web(&manifest, |_| {}).spec.stop_grace, Some(Duration::from_secs(60)));
    let part = web(&manifest, |service| {
        service.stop_grace_period = Some(Duration::from_secs(5));
    });
    assert_eq!(part.spec.stop_grace, Some(Duration::from_secs(5)));
}

#[test]
fn the_spec_hash_changes_with_the_spec_and_not_by_itself() {
    let hash = |part: &Part| part.spec.labels[labels::SPEC_HASH].clone();
    let first = web(&manifest(), |_| {});
    assert_eq!(hash(&first), hash(&web(&manifest(), |_| {})));
    let changed = web(&manifest(), |service| service.environment.insert("A", None));
    assert_ne!(hash(&first), hash(&changed));
}

/// A container must not seem changed because a later version knows more fields.
#[test]
fn the_spec_hash_of_a_plain_container_is_what_it_always_was() {
    let plain = ContainerSpec::new("ai-web-1", "nginx:1");
    let mut mounted = ContainerSpec::new("ai-web-1", "nginx:1");
    mounted.mounts = vec![
        Mount::new("/a", MountKind::bind("/data", true)),
        Mount::new("/b", MountKind::volume("v")),
        Mount::new("/c", MountKind::Anonymous),
        Mount::new("/d", MountKind::Tmpfs { size: Some(1), mode: None }),
    ];
    mounted.networks = vec![NetworkAttachment::new("n", vec!["web".to_owned()])];
    for (spec, hash) in [
        (plain, "c623483c9882bf9fe8ae4439cc34959e63da2aade9f6f6c7c21d6af3906e61e4"),
        (mounted, "dce80199889e4e4e5d799dc922140587935ad34f7f12be0524da6c470dbd8b07"),
    ] {
        assert_eq!(spec_hash(&spec), hash);
    }
}

#[test]
fn networks_and_volumes_are_told_by_their_labels() {
    let project = lower(&manifest(), |_| {}).unwrap();
    let [network] = &project.networks[..] else { panic!("{:?}", project.networks) };
    assert_eq!((network.spec.name.as_str(), network.external), ("ai_default", false));
    assert_eq!(network.identity[compose_labels::NETWORK], "default");
    let [volume] = &project.volumes[..] else { panic!("{:?}", project.volumes) };
    assert_eq!(volume.spec.name, "ai_models");
    assert_eq!(volume.spec.labels[compose_labels::VOLUME], "models");
}

#[test]
fn dependencies_on_inactive_services_are_left_out() {
    let part = web(&manifest(), |service| {
        let on = |condition| model::Dependency { condition, restart: false, required: false };
        service.depends_on.insert("debug".to_owned(), on(model::Condition::Started));
        service.depends_on.insert("web".to_owned(), on(model::Condition::Healthy));
    });
    let healthy = Dependency { required: false, ..Dependency::new("web", Condition::Healthy) };
    assert_eq!(part.depends_on, [healthy]);
}

#[test]
fn what_no_backend_can_be_told_is_an_error_and_named() {
    let problems = lower(&manifest(), |service| {
        service.ports = vec![model::Port {
            host_ip: None,
            published: Some("http".to_owned()),
            target: 80,
            protocol: model::Protocol::Tcp,
        }];
        service.security_opt = vec!["seccomp:gone.json".to_owned()];
        let mut nameless = model::Mount::new(model::MountSource::Anonymous, "/x");
        nameless.no_copy = true;
        service.mounts = vec![nameless];
        let mut check = model::Healthcheck::default();
        check.start_interval = Some(Duration::from_secs(1));
        service.healthcheck = Some(check);
    });
    let messages: Vec<_> = problems.unwrap_err().iter().map(ToString::to_string).collect();
    for (message, expected) in messages.iter().zip([
        "ports: 80 is published at no port number",
        "volumes: 'nocopy' is not supported for a volume without a name; name it",
        "security_opt: the seccomp profile 'gone.json' cannot be read",
        "healthcheck.start_interval: means nothing without a start_period",
    ]) {
        assert_eq!(*message, format!("/srv/ai:1:1: services.web.{expected}"));
    }
    assert_eq!(messages.len(), 4);
}

#[test]
fn secrets_and_configs_that_are_files_are_mounted_where_nothing_else_is() {
    let file = |name: &str, target: &str| {
        model::FileMount::new(name, model::Content::File(format!("/srv/{name}")), target)
    };
    let part = web(&manifest(), |service| {
        service.mounts = vec![model::Mount::new(model::MountSource::Anonymous, "/taken")];
        service.secrets = vec![file("key", "/run/secrets/key"), file("lost", "/taken")];
        service.configs = vec![file("conf", "/conf")];
    });
    let mounted = |path: &str, target: &str, has_options| Mount {
        read_only: true,
        has_options,
        ..Mount::new(target, MountKind::bind(path, false))
    };
    let expected = [
        Mount::new("/taken", MountKind::Anonymous),
        mounted("/srv/key", "/run/secrets/key", true),
        mounted("/srv/conf", "/conf", false),
    ];
    assert_eq!(part.spec.mounts, expected);
}

#[test]
fn a_selinux_letter_goes_where_the_engine_cannot_be_told_of_both() {
    let bind = |propagation| {
        let path = "/data".to_owned();
        let source = model::MountSource::Bind { path, create_host_path: true, recursive: None };
        let selinux = Some(model::Selinux::Shared);
        model::Mount { selinux, propagation, ..model::Mount::new(source, "/in") }
    };
    let part = web(&manifest(), |service| {
        service.mounts = vec![bind(None), bind(Some(model::Propagation::Shared))];
    });
    let letter = |mount: &Mount| match mount.kind {
        MountKind::Bind { selinux, .. } => selinux,
        _ => None,
    };
    let letters: Vec<_> = part.spec.mounts.iter().map(letter).collect();
    assert_eq!(letters, [Some('z'), None]);
}

#[test]
fn an_attachment_asks_for_addresses_only_if_it_is_written_out() {
    let part = web(&manifest(), |service| {
        service.networks.insert("default".to_owned(), model::Attachment::default());
        let mut attachment = model::Attachment::default();
        attachment.is_explicit = true;
        attachment.priority = 5;
        attachment.interface_name = Some("eth7".to_owned());
        service.networks.insert("other".to_owned(), attachment);
    });
    let [other, default] = &part.spec.networks[..] else { panic!("{:?}", part.spec.networks) };
    assert_eq!((&other.network[..], &default.network[..]), ("ai_other", "ai_default"));
    assert_eq!(other.addresses, Some(Addresses::default()));
    assert_eq!((other.interface.as_deref(), &default.addresses), (Some("eth7"), &None));
}

#[test]
fn limits_are_cut_as_compose_cuts_them() {
    let part = web(&manifest(), |service| {
        service.resources.cpus = 0.1;
        service.resources.cpu_percent = 12.5;
        service.resources.pids_limit = Some(-1);
        service.namespaces.cgroup_parent = Some("ai".to_owned());
    });
    let expected = Limits {
        nano_cpus: 100_000_000,
        cpu_percent: 1250,
        pids: Some(-1),
        cgroup_parent: Some("ai".to_owned()),
        ..Limits::default()
    };
    assert_eq!(part.spec.limits, expected);
}

#[test]
fn secrets_in_the_file_or_a_variable_are_put_in_and_those_in_files_are_mounted() {
    let text = |text: &str| model::Content::Text(text.to_owned());
    let part = web(&manifest(), |service| {
        let mut key = model::FileMount::new("key", text("hunter2"), "/run/secrets/key");
        (key.uid, key.mode) = (Some("7".to_owned()), Some(0o400));
        let file = model::Content::File("/srv/ai/token".to_owned());
        service.secrets = vec![key, model::FileMount::new("token", file, "/run/secrets/token")];
        service.configs = vec![
            model::FileMount::new("app", text("a=1"), "/app.conf"),
            model::FileMount::new("empty", text(""), "/empty"),
        ];
    });
    let mut key = FileInside::new("/run/secrets/key", "hunter2");
    (key.mode, key.owner) = (0o400, Some((7, 0)));
    assert_eq!(part.files, [key, FileInside::new("/app.conf", "a=1")]);
    let mounted: Vec<_> = part.spec.mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(mounted, ["/run/secrets/token"]);
    let told = format!("{part:?} {}", serde_json::to_string(&part).unwrap());
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn what_cannot_be_put_in_is_an_error_and_named() {
    let text = || model::Content::Text("hunter2".to_owned());
    let problems = lower(&manifest(), |service| {
        service.read_only = true;
        let mut key = model::FileMount::new("key", text(), "/run/secrets/key");
        key.uid = Some("somebody".to_owned());
        service.secrets = vec![key];
    });
    let problems: Vec<_> = problems.unwrap_err().into_iter().map(|found| found.message).collect();
    assert!(problems[0].starts_with("services.web.secrets.key: "), "{problems:?}");
    assert!(problems[1].contains("uid must be a number"), "{problems:?}");
    // It may come from a variable.
    assert!(!problems.concat().contains("somebody"));
    assert!(!problems.concat().contains("hunter2"));
}

#[test]
fn a_build_names_its_image_and_labels_it_as_compose_does() {
    let part = web(&manifest(), |service| {
        service.image = "ai-web".to_owned();
        service.platform = Some("linux/amd64".to_owned());
        let mut build = model::Build::default();
        build.context = "/srv/ai/web".to_owned();
        build.dockerfile = "Dockerfile.gpu".to_owned();
        build.tags = vec!["web:old".to_owned()];
        build.labels.insert("mine".to_owned(), "yes".to_owned());
        service.build = Some(build);
    });
    let build = part.build.unwrap();
    assert!(build.is_unnamed, "there is no such image in any registry");
    assert_eq!(build.tags, ["ai-web", "web:old"]);
    assert_eq!(build.platform.as_deref(), Some("linux/amd64"));
    let labels: Vec<_> = build.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        labels,
        [
            "com.docker.compose.project=ai",
            "com.docker.compose.service=web",
            "com.docker.compose.version=2.40.3",
            "mine=yes"
        ]
    );
    assert_eq!(build.unsupported, [""; 0]);
    let part = web(&manifest(), |service| {
        let mut build = model::Build::default();
        build.context = "https://example.com/repo.git".to_owned();
        service.build = Some(build);
    });
    let build = part.build.unwrap();
    assert!(!build.is_unnamed && build.unsupported.len() == 1, "{build:?}");
}

#[test]
fn shared_namespaces_wait_for_the_other_s_container() {
    let part = web(&manifest(), |service| {
        service.network_mode = Some(model::NetworkMode::Service("vpn".to_owned()));
        service.namespaces.ipc = Some("service:vpn".to_owned());
        service.namespaces.pid = Some("host".to_owned());
    });
    let shared: Vec<_> = part.joins.iter().map(|join| (join.namespace, &*join.part)).collect();
    assert_eq!(shared, [(Namespace::Network, "vpn"), (Namespace::Ipc, "vpn")]);
    assert_eq!(part.late_hash.unwrap().label, compose_labels::CONFIG_HASH);
    assert_eq!(web(&manifest(), |_| {}).late_hash, None);
}

#[test]
fn what_is_not_wanted_stays_known() {
    let part = web(&manifest(), |service| service.is_wanted = false);
    assert!(!part.is_wanted);
}

#[test]
fn networks_and_volumes_of_other_projects_can_be_told() {
    let project = lower(&manifest(), |_| {}).unwrap();
    for expected in [&project.networks[0].expected, &project.volumes[0].expected] {
        assert_eq!(expected[compose_labels::PROJECT], "ai");
        assert_eq!(expected[compose_labels::CONFIG_HASH].len(), 64);
    }
}
