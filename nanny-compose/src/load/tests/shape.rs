//! The project as a whole: its name, its profiles, its networks and volumes.

use std::path::{Path, PathBuf};

use super::super::default_files;
use super::{FILE, Stage, problems, warnings};
use crate::model::MountSource;

const ONE: &str = "services: {web: {image: nginx}}\n";

#[test]
fn the_name_is_the_requests_the_files_or_the_directorys() {
    assert_eq!(Stage::new(ONE).project().name, "myapp");
    let named = format!("name: ${{N:-chat}}\n{ONE}");
    assert_eq!(Stage::new(&named).project().name, "chat");
    assert_eq!(Stage::new(&named).variable("N", "talk").project().name, "talk");
    let mut stage = Stage::new(&named);
    stage.request.project_name = Some("mine".to_owned());
    assert_eq!(stage.project().name, "mine");
}

#[test]
fn an_ambient_project_name_is_ignored_and_ours_is_a_variable() {
    let file = "services: {web: {image: 'x:${COMPOSE_PROJECT_NAME}'}}\n";
    let project = Stage::new(file).variable("COMPOSE_PROJECT_NAME", "other").project();
    assert_eq!(project.name, "myapp");
    assert_eq!(project.services["web"].image, "x:myapp");
}

#[test]
fn the_project_name_in_dot_env_counts() {
    let file = format!("name: chat\n{ONE}");
    let dot_env = |text: &str| Stage::new(&file).file("/srv/My App/.env", text);
    assert_eq!(dot_env("COMPOSE_PROJECT_NAME=mine\n").project().name, "mine");
    assert_eq!(dot_env("COMPOSE_PROJECT_NAME=\n").project().name, "chat");
    assert!(dot_env("COMPOSE_PROJECT_NAME=No\n").load().is_err());
}

#[test]
fn a_name_is_normalised_and_one_that_is_asked_for_is_not() {
    assert_eq!(Stage::new(&format!("name: My App\n{ONE}")).project().name, "myapp");
    let mut stage = Stage::new(ONE);
    stage.request.project_name = Some("No".to_owned());
    assert!(stage.refused().to_string().contains("the project name 'No' must hold only"));
}

#[test]
fn profiles_activate_services() {
    let file = "services:\n  a: {image: x}\n  b: {image: x, profiles: [gpu]}\n  c: {image: x, profiles: [cpu, dev]}\n";
    let active = |stage: Stage| stage.project().services.keys().cloned().collect::<Vec<_>>();
    assert_eq!(active(Stage::new(file)), ["a"]);
    assert_eq!(active(Stage::new(file).profiles(&["gpu"])), ["a", "b"]);
    assert_eq!(active(Stage::new(file).profiles(&["*"])), ["a", "b", "c"]);
    assert_eq!(active(Stage::new(file).variable("COMPOSE_PROFILES", "dev, x")), ["a", "c"]);
    let project = Stage::new(file).project();
    assert_eq!(project.inactive.into_iter().collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn an_inactive_service_may_lean_on_what_is_not_there() {
    let file = "services:\n  a: {image: x}\n  b: {profiles: [p], volumes: ['gone:/x'], networks: [gone], depends_on: [gone], env_file: gone.env}\n";
    assert_eq!(Stage::new(file).project().services.len(), 1);
    assert_eq!(problems(&file.replace("profiles: [p]", "profiles: []")).len(), 5);
}

#[test]
fn networks_and_volumes_in_use_are_named() {
    let project = Stage::new(
        "services:\n  a: {image: x, networks: [lan, own], volumes: ['data:/d', 'ext:/e']}\n\
         networks:\n  lan: {name: home, driver: macvlan, internal: true, attachable: 'true', enable_ipv6: true, labels: {a: 1}}\n  own:\n  unused:\n\
         volumes:\n  data: {driver: local, driver_opts: {type: nfs, n: 5}}\n  ext: {external: true}\n  unused:\n",
    )
    .project();
    assert_eq!(project.networks.keys().collect::<Vec<_>>(), ["lan", "own"]);
    assert_eq!(project.networks["lan"].name, "home");
    assert!(project.networks["lan"].internal && project.networks["lan"].attachable);
    assert_eq!(project.networks["lan"].enable_ipv6, Some(true));
    assert_eq!(project.networks["own"].name, "myapp_own");
    assert_eq!(project.volumes.keys().collect::<Vec<_>>(), ["data", "ext"]);
    assert_eq!(project.volumes["data"].driver_opts["n"], "5");
    assert_eq!(
        (project.volumes["ext"].name.as_str(), project.volumes["ext"].external),
        ("ext", true)
    );
}

#[test]
fn the_default_network_can_be_customised() {
    let file = format!("{ONE}networks: {{default: {{name: shared, external: true}}}}\n");
    let project = Stage::new(&file).project();
    assert_eq!(project.networks["default"].name, "shared");
    assert!(project.networks["default"].external);
}

#[test]
fn merges_and_extensions_are_understood() {
    let project = Stage::new(
        "x-base: &base\n  image: x\n  environment: &env {A: 1}\n\
         services:\n  a:\n    <<: *base\n    x-note: fine\n    environment: {<<: *env, B: 2}\n",
    )
    .project();
    assert_eq!(project.services["a"].image, "x");
    assert_eq!(project.services["a"].environment.len(), 2);
}

#[test]
fn files_that_were_read_or_looked_for_are_listed() {
    let loaded =
        Stage::new("services: {web: {image: x, env_file: [{path: a.env, required: false}]}}\n")
            .load()
            .expect("the file is sound");
    for path in ["/srv/My App/.env", FILE, "/srv/My App/a.env"] {
        assert!(loaded.files_read.contains(&PathBuf::from(path)), "{path}");
    }
    assert_eq!(loaded.project.config_files, [PathBuf::from(FILE)]);
    assert_eq!(loaded.project.working_dir, PathBuf::from("/srv/My App"));
}

#[test]
fn the_default_files_are_composes() {
    let stage = |names: &[&str]| {
        let stage = names
            .iter()
            .fold(Stage::new(ONE), |stage, name| stage.file(&format!("/srv/My App/{name}"), ""));
        let files = default_files(Path::new("/srv/My App"), &stage).into_iter();
        files.map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(stage(&[]), ["compose.yaml"]);
    assert_eq!(
        stage(&["docker-compose.yml", "docker-compose.override.yaml"]),
        ["compose.yaml", "docker-compose.override.yaml"]
    );
    assert!(default_files(Path::new("/srv"), &Stage::new(ONE)).is_empty());
    let named = Stage::new(ONE).file("/srv/My App/.env", "COMPOSE_FILE=a.yaml:/srv/b.yaml\n");
    assert_eq!(
        default_files(Path::new("/srv/My App"), &named),
        [PathBuf::from("/srv/My App/a.yaml"), PathBuf::from("/srv/b.yaml")]
    );
}

#[test]
fn a_later_file_changes_an_earlier_one() {
    let over = "services:\n  web:\n    environment: {B: 2}\n    ports: !override ['81:81']\n    command: !reset\n";
    let mut stage = Stage::new(
        "services: {web: {image: nginx, command: x, environment: [A=1], ports: ['80:80']}}\n",
    )
    .file("/srv/My App/more.yaml", over);
    stage.request.compose_files.push("/srv/My App/more.yaml".into());
    let project = stage.project();
    let web = &project.services["web"];
    assert_eq!((web.environment.get("A"), web.environment.get("B")), (Some("1"), Some("2")));
    assert_eq!(web.ports.len(), 1);
    assert_eq!(web.command, None);
    assert_eq!(project.config_files.len(), 2);
}

#[test]
fn a_problem_stands_in_the_file_that_has_it() {
    let mut stage =
        Stage::new("services: {web: {image: x, extends: {file: base.yaml, service: b}}}\n")
            .file("/srv/My App/base.yaml", "services:\n  b:\n    prots: []\n");
    let refused = stage.refused().to_string();
    assert!(refused.starts_with("/srv/My App/base.yaml:3:5: services.b.prots: not a"), "{refused}");
    stage.request.compose_files.push("/srv/My App/more.yaml".into());
    stage = stage.file("/srv/My App/base.yaml", "services: {b: {}}\n");
    stage = stage.file("/srv/My App/more.yaml", "services: {web: {tty: maybe}}\n");
    let refused = stage.refused().to_string();
    assert!(refused.starts_with("/srv/My App/more.yaml:1:23: services.web.tty: must"), "{refused}");
}

#[test]
fn what_is_extended_or_included_finds_its_files_beside_itself() {
    let stage = Stage::new(
        "include: [sub/inc.yaml]\nservices: {web: {extends: {file: sub/base.yaml, service: b}}}\n",
    )
    .file("/srv/My App/sub/base.yaml", "services: {b: {image: x, volumes: ['./d:/d']}}\n")
    .file("/srv/My App/sub/inc.yaml", "services: {c: {image: 'y:$TAG', volumes: ['./e:/e']}}\n")
    .file("/srv/My App/sub/.env", "TAG=1\n");
    let project = stage.project();
    let source = |name: &str| match &project.services[name].mounts[0].source {
        MountSource::Bind { path, .. } => path.clone(),
        other => panic!("{other:?} is no bind"),
    };
    assert_eq!(source("web"), "/srv/My App/sub/d");
    assert_eq!(source("c"), "/srv/My App/sub/e");
    assert_eq!(project.services["c"].image, "y:1");
}

#[test]
fn circles_of_files_and_services_are_refused() {
    let found = problems("services:\n  a: {extends: b}\n  b: {extends: a}\n");
    assert!(found[0].contains("this extends itself in a circle"), "{found:?}");
    let stage = Stage::new("include: [b.yaml]\nservices: {}\n")
        .file("/srv/My App/b.yaml", "include: [compose.yaml]\n");
    assert!(stage.refused().to_string().contains("being included already"));
}

#[test]
fn an_old_version_is_ignored_with_a_warning() {
    assert_eq!(
        warnings(&format!("version: '3.8'\n{ONE}")),
        [":1:1: version: obsolete and ignored; remove it"]
    );
}

#[test]
fn a_file_cannot_copy_itself_full() {
    let row: String = (1..5000).map(|i| format!("  s{i}: {{extends: s{}}}\n", i - 1)).collect();
    let row = format!("services:\n  s0: {{image: x}}\n{row}");
    assert!(problems(&row)[0].contains("more than 64 services extend each other"));
    let many: Vec<_> = (0..2000).map(|i| format!("A{i}: x")).collect();
    let star: String = (1..2000).map(|i| format!("  s{i}: {{extends: s0}}\n")).collect();
    let star =
        format!("services:\n  s0: {{image: x, environment: {{{}}}}}\n{star}", many.join(", "));
    assert!(problems(&star).iter().any(|problem| problem.contains("copy too much")));
}

#[test]
fn includes_that_double_each_time_come_to_an_end() {
    let mut stage = Stage::new("include: [f0.yaml, f0.yaml]\nservices: {}\n");
    for i in 0..30 {
        let text = format!("include: [f{0}.yaml, f{0}.yaml]\nservices: {{}}\n", i + 1);
        stage = stage.file(&format!("/srv/My App/f{i}.yaml"), &text);
    }
    stage = stage.file("/srv/My App/f30.yaml", "services: {}\n");
    assert!(stage.refused().to_string().contains("more than 500 projects are included"));
}
