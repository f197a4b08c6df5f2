//! What is refused, and in which words.

use proptest::prelude::*;

use super::{FILE, Stage, problems, web_problems};

#[test]
fn keys_that_are_not_supported_are_named_with_their_place() {
    assert_eq!(
        web_problems("blkio_config: {weight: 5}\n"),
        [
            ":4:5: services.web.blkio_config: not supported; remove it, or run this project with docker compose"
        ]
    );
    let found =
        problems("models: {m: {model: x}}\nservices: {a: {image: x, provider: {type: y}}}\n");
    assert!(found[0].starts_with(":1:1: models: not supported"));
    assert!(found[1].starts_with(":2:26: services.a.provider: not supported"));
}

#[test]
fn keys_that_do_not_exist_come_with_a_suggestion() {
    assert_eq!(
        web_problems("imag: x\nhealthcheck: {intervall: 5s}\nflavour: 1\n"),
        [
            ":4:5: services.web.imag: not a Compose key; did you mean 'image'?",
            ":5:19: services.web.healthcheck.intervall: not a Compose key; did you mean 'interval'?",
            ":6:5: services.web.flavour: not a Compose key; remove it, or name it 'x-…' to keep it as a note",
        ]
    );
}

#[test]
fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
    let found = web_problems("ports: [http]\ntty: maybe\nuser: 1000\nvolumes: [':/x:']\nfoo: 1\n");
    let places: Vec<_> = found.iter().map(|line| line.split(": ").next().unwrap_or("")).collect();
    assert_eq!(places, [":4:13", ":5:10", ":6:11", ":7:15", ":8:5"], "{found:?}");
}

#[test]
fn wrong_types_say_what_is_wanted() {
    for (line, expected) in [
        ("hostname: 5", "services.web.hostname: must be a string, not a number; put it in quotes"),
        ("ports: 80", "services.web.ports: must be a list, not '80'"),
        (
            "environment: A=1",
            "services.web.environment: must be a mapping or a list of KEY=value, not a string",
        ),
        ("environment: {A: [1]}", "services.web.environment.A: must be a single value, not a list"),
        (
            "environment: {A: 2024-01-31}",
            "services.web.environment.A: a date must be put in quotes",
        ),
        (
            "environment: {5: x}",
            "services.web.environment.5: a key must be a string; put it in quotes",
        ),
        ("shm_size: big", "services.web.shm_size: must be a size such as 512m"),
        (
            "stop_grace_period: 10 s",
            "services.web.stop_grace_period: must be a duration such as 30s",
        ),
        ("init: maybe", "services.web.init: must be true or false, not 'maybe'"),
        ("restart: sometimes", "services.web.restart: must be no, always, unless-stopped"),
        (
            "command: {a: b}",
            "services.web.command: must be a string or a list of strings, not a mapping",
        ),
        ("command: \"'\"", "services.web.command: the command has a quote that is not closed"),
        (
            "healthcheck: {test: [curl]}",
            "services.web.healthcheck.test: a list must begin with NONE",
        ),
        (
            "healthcheck: {retries: -1}",
            "services.web.healthcheck.retries: must be a whole number of at least 0",
        ),
        ("gpus: some", "services.web.gpus: must be 'all' or a list"),
        (
            "gpus: [{count: 1, device_ids: ['0']}]",
            "services.web.gpus[0]: has both 'count' and 'device_ids'",
        ),
        (
            "deploy: {resources: {reservations: {devices: [{count: 1}]}}}",
            "'capabilities' is missing",
        ),
        ("depends_on: {web: {}}", "services.web.depends_on.web: 'condition' is missing"),
        ("network_mode: service:db", "services.web.depends_on.db: there is no service 'db'"),
        ("ports: [{published: 80}]", "services.web.ports[0]: 'target' is missing"),
        ("volumes: [{type: bind, target: /x}]", "services.web.volumes[0]: a bind mount needs"),
        ("volumes: [{type: bind, source: /x}]", "services.web.volumes[0]: 'target' is missing"),
        (
            "volumes: [{type: image, source: x, target: /x}]",
            "a mount of type image is not supported",
        ),
        ("volumes: ['C:\\x:/x']", "a path of Windows is not supported"),
        ("group_add: [A, A]", "services.web.group_add[1]: 'A' is listed twice"),
        ("container_name: x", "services.web.container_name: 'x' must be two or more"),
        ("ulimits: {nofile: {soft: 1}}", "services.web.ulimits.nofile: 'hard' is missing"),
        ("scale: 2", "services.web.scale: more than one container"),
        ("pull_policy: often", "services.web.pull_policy: 'often' must be always, missing"),
        ("cpus: 1\ndeploy: {resources: {limits: {cpus: 2}}}", "differs from 'deploy."),
        ("ports:", "services.web.ports: nothing stands here"),
        ("secrets: [gone]", "services.web.secrets[0]: the secret 'gone' is not defined"),
        ("tmpfs: [/a]\nvolumes: [/a]", "something is mounted at this path already"),
        ("extra_hosts: [nowhere]", "services.web.extra_hosts[0]: 'nowhere' has no address"),
        (
            "devices: ['a:b:c:d']",
            "services.web.devices[0]: 'a:b:c:d' is not a device: too many colons",
        ),
        ("environment: ['A =x']", "services.web.environment[0]: there is a space before the '='"),
    ] {
        let found = web_problems(&format!("{line}\n"));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{line}: {found:?}");
    }
}

#[test]
fn what_is_not_defined_is_refused_where_it_is_named() {
    let found =
        web_problems("volumes: ['data:/x', 'a/b:/y']\nnetworks: [gone]\ndepends_on: [db]\n");
    assert_eq!(
        found[0],
        ":4:15: services.web.volumes[0]: the volume 'data' is not defined; define it under the top-level 'volumes'"
    );
    assert!(found[1].contains(
        "the volume 'a/b' is not defined; for a path beside the file, begin it with './'"
    ));
    assert!(
        found[2]
            .starts_with(":5:16: services.web.networks.gone: the network 'gone' is not defined")
    );
    assert_eq!(
        found[3],
        ":6:18: services.web.depends_on.db: there is no service 'db'; define it, or remove this dependency"
    );
}

#[test]
fn a_dependency_on_an_inactive_service_is_refused() {
    let found =
        problems("services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, profiles: [p]}\n");
    assert!(found[0].contains("services.a.depends_on.b: the service 'b' is not active"));
}

#[test]
fn circles_of_dependencies_are_refused() {
    let found = problems(
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [c]}\n  c: {image: x, depends_on: [a]}\n",
    );
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("services wait for each other: a -> b -> c -> a"), "{found:?}");
    assert!(web_problems("depends_on: [web]\n")[0].contains("web -> web"));
}

#[test]
fn two_containers_cannot_have_one_name() {
    let file =
        "services:\n  a: {image: x, container_name: same}\n  b: {image: x, container_name: same}\n";
    assert!(
        problems(file)[0]
            .contains(":3:33: services.b.container_name: the container of service 'a'")
    );
    let clash = "services:\n  a: {image: x}\n  b: {image: x, container_name: myapp-a-1}\n";
    assert!(problems(clash)[0].contains("services.b.container_name"));
}

#[test]
fn network_mode_and_networks_exclude_each_other() {
    assert!(
        web_problems("network_mode: host\nnetworks: [front]\n")[0]
            .contains("cannot be together with 'network_mode'")
    );
}

#[test]
fn a_service_needs_an_image() {
    assert_eq!(
        problems("services:\n  a:\n    tty: true\n"),
        [":2:3: services.a: has neither 'image' nor 'build'; say what to run"]
    );
    assert_eq!(
        problems("services:\n  a:\n"),
        [":2:3: services.a: nothing stands here; give it a value, or remove the key"]
    );
}

#[test]
fn a_file_must_hold_something() {
    assert!(problems("")[0].contains("there is nothing here; add 'services'"));
    assert!(problems("- a\n")[0].contains("must be a mapping"));
    assert!(problems("services:\n")[0].contains("services: nothing stands here"));
    assert!(problems("services:\n  a b: {image: x}\n")[0].contains("a name may hold only"));
}

#[test]
fn external_resources_are_not_configured() {
    let found =
        problems("services: {a: {image: x}}\nvolumes: {v: {external: true, driver: local}}\n");
    assert!(found[0].contains("volumes.v.driver: says how to make a volume that is 'external'"));
}

#[test]
fn unsound_yaml_is_one_problem_with_its_place() {
    assert_eq!(
        problems("services:\n  a: {image: x}\n  a: {image: y}\n"),
        [":3:3: services: 'a' is already set at 2:3; keep one of the two"]
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let mut stage = Stage::new("");
    stage.files.clear();
    let refused = stage.refused();
    assert_eq!(refused.to_string(), format!("{FILE}: cannot be read: there is no such file"));
    assert!(refused.files_read.contains(&FILE.into()));
    let mut stage = Stage::new("");
    stage.files.insert(FILE.into(), b"a: 1\nb: \xff\n".to_vec());
    assert!(stage.refused().to_string().contains("line 2 is not UTF-8"));
    let mut stage = Stage::new("services: {}");
    stage.request.limits.max_bytes = 4;
    assert_eq!(stage.refused().problems.len(), 1);
    stage.request.compose_files = vec!["compose.yaml".into()];
    assert!(stage.refused().to_string().contains("must be absolute"));
}

proptest! {
    #[test]
    fn loading_never_panics(text in "[-a-c:\\[\\]{}$ \n'\"0-9./~]{0,60}") {
        let _ = Stage::new(&text).load();
        let _ = Stage::new(&format!("services:\n  web:\n    image: x\n    ports: [{text}]\n")).load();
    }

    #[test]
    fn any_word_as_any_field_is_answered(
        field in prop::sample::select(crate::spec::all().into_iter().map(|row| row.path).collect::<Vec<_>>()),
        word in "[-a-z0-9:./$~,=\\[\\]]{0,12}",
    ) {
        if let Some(key) = field.strip_prefix("services.*.").filter(|key| !key.contains('.')) {
            let _ = Stage::new(&super::web_file(&format!("{key}: {word}\n"))).load();
        }
    }
}
