//! Variables and files of variables: where values come from, and that they never come out.

use super::Stage;

const SECRET: &str = "hunter2";

#[test]
fn variables_come_from_the_environment_before_dot_env() {
    let file = "services: {a: {image: '$A-$B-${C:-c}'}}\n";
    let stage = Stage::new(file).file("/srv/My App/.env", "A=1\nB=${A}2\n").variable("A", "0");
    assert_eq!(stage.project().services["a"].image, "0-02-c");
}

#[test]
fn a_variable_that_is_unset_is_warned_of_once() {
    let loaded = Stage::new("services: {a: {image: x, user: '$GONE', command: '$GONE'}}\n").load();
    let warnings = loaded.expect("the file is sound").warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].message, "the variable GONE is not set; taken as empty");
    assert_eq!(warnings[0].path, "services.a.user");
}

#[test]
fn environment_wins_over_env_files_and_later_files_over_earlier() {
    let file = "services:\n  a:\n    image: x\n    env_file: [one.env, {path: /etc/two.env, format: raw}]\n    environment: {A: own, FROM: , E: ''}\n";
    let stage = Stage::new(file)
        .file("/srv/My App/one.env", "A=1\nB=1\nC=$A$D\nE=1\n")
        .file("/etc/two.env", "B='$x'\n")
        .variable("FROM", "outside")
        .variable("D", "d");
    let environment = stage.project().services["a"].environment.clone();
    let all: Vec<_> = environment.iter().collect();
    assert_eq!(
        all,
        [
            ("A", Some("own")),
            ("B", Some("'$x'")),
            ("C", Some("ownd")),
            ("E", Some("")),
            ("FROM", Some("outside"))
        ]
    );
}

#[test]
fn a_missing_env_file_is_a_problem_only_if_required() {
    let file = "services: {a: {image: x, env_file: gone.env}}\n";
    let refused = Stage::new(file).refused().to_string();
    assert!(refused.contains(":1:36: services.a.env_file[0].path: the file /srv/My App/gone.env cannot be read: there is no such file"), "{refused}");
    let optional = "services: {a: {image: x, env_file: [{path: gone.env, required: false}]}}\n";
    assert!(Stage::new(optional).load().is_ok());
}

#[test]
fn problems_of_env_files_stand_in_those_files() {
    let file = "services: {a: {image: x, env_file: one.env}}\n";
    let refused = Stage::new(file).file("/srv/My App/one.env", "A=1\nB!=2\n").refused();
    assert!(
        refused
            .to_string()
            .starts_with("/srv/My App/one.env:2:1: a variable's name cannot hold '!'")
    );
    let refused = Stage::new(file)
        .file("/srv/My App/one.env", "A=1")
        .file("/srv/My App/.env", "B='x")
        .refused();
    assert!(refused.to_string().starts_with("/srv/My App/.env:1:1: the value of B has a quote"));
}

#[test]
fn a_required_variable_is_named_with_its_place() {
    let file = "services: {a: {image: 'x:${TAG:?choose one}', ports: ['${']}}\n";
    let refused = Stage::new(file).refused().to_string();
    let mut lines = refused.lines();
    assert!(lines.next().is_some_and(|line| {
        line.ends_with(":1:23: services.a.image: the variable TAG must be set: choose one")
    }));
    assert!(
        lines.next().is_some_and(|line| line.contains("services.a.ports[0]: a '$' at character 1"))
    );
}

#[test]
fn no_message_shows_the_value_of_a_variable() {
    for line in [
        "ports: ['$S']",
        "volumes: ['$S:/x']",
        "volumes: ['$S:/x:$S']",
        "volumes: ['a:b:c:$S']",
        "networks: ['$S']",
        "depends_on: ['$S']",
        "devices: ['$S:a:b:c']",
        "tty: '$S'",
        "shm_size: '$S'",
        "stop_grace_period: '$S'",
        "restart: '$S'",
        "network_mode: 'service:$S'",
        "links: ['$S']",
        "secrets: ['$S']",
        "configs: [{source: '$S', mode: '$S'}]",
        "extends: '$S'",
        "extends: {file: '$S.yaml', service: x}",
        "ipc: 'service:$S'",
        "gpus: '$S'",
        "gpus: [{count: '$S'}]",
        "group_add: ['$S', '$S']",
        "cgroup: '$S'",
        "container_name: '!$S'",
        "command: \"$S '\"",
        "env_file: '$S'",
        "env_file: 'bad-$S.env'",
        "env_file: [{path: '$S', format: '$S'}]",
        "extra_hosts: ['$S']",
        "deploy: {resources: {limits: {cpus: '$S'}}}",
        "ulimits: {nofile: '$S'}",
        "healthcheck: {retries: '$S'}",
        "healthcheck: {test: ['$S']}",
        "depends_on: {a: {condition: '$S'}}",
        "init: '${S}x'",
        "image: '$S${'",
    ] {
        let file = format!("services:\n  web:\n    build: .\n    {line}\n");
        let stage =
            Stage::new(&file).variable("S", SECRET).file("/srv/My App/bad-hunter2.env", "A!=1\n");
        let refused = stage.refused();
        let shown = format!("{refused} {:?} {:?}", refused.problems, refused.warnings);
        assert!(!shown.contains(SECRET), "{line}: {shown}");
    }
}

#[test]
fn debug_of_a_project_shows_no_environment_values() {
    let file = "services: {a: {image: x, environment: ['TOKEN=$S']}}\n";
    let loaded = Stage::new(file).variable("S", SECRET).load().expect("the file is sound");
    assert_eq!(loaded.project.services["a"].environment.get("TOKEN"), Some(SECRET));
    assert!(!format!("{loaded:?}").contains(SECRET));
}

#[test]
fn a_seccomp_profile_is_read_with_the_other_files() {
    let file = "services: {a: {image: x, security_opt: ['seccomp:p.json', 'seccomp=unconfined', 'label:disable']}}\n";
    let stage = Stage::new(file).file("/srv/My App/p.json", "{\n  \"a\": [1, \"b c\"]\n}\n");
    let loaded = stage.load().expect("the file is sound");
    let options = &loaded.project.services["a"].security_opt;
    assert_eq!(options, &[r#"seccomp={"a":[1,"b c"]}"#, "seccomp=unconfined", "label:disable"]);
    assert!(loaded.files_read.iter().any(|file| file.ends_with("p.json")));

    let missing = Stage::new(file).load().expect("Compose takes it, too");
    assert_eq!(missing.project.services["a"].security_opt[0], "seccomp:p.json");
    assert_eq!(missing.warnings.len(), 1, "{:?}", missing.warnings);
}

#[test]
fn label_files_count_in_the_hash_and_are_not_shown() {
    let with = "services: {a: {image: x, label_file: l.env}}\n";
    let without = "services: {a: {image: x, labels: {b: c}}}\n";
    let config = |file: &str| {
        let stage = Stage::new(file).file("/srv/My App/l.env", "b=c\n");
        stage.project().services["a"].config.clone()
    };
    assert_eq!(config(with).json(), config(without).json());
    assert_ne!(config(with).hash(), config(without).hash());
}
