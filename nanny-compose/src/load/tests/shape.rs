//! The project as a whole: its name, its profiles, its networks and volumes.

use std::path::PathBuf;

use super::{FILE, Stage, problems, warnings};

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
    let loaded = dot_env("COMPOSE_FILE=a.yaml:b.yaml\n").load().expect("the file is sound");
    assert!(loaded.warnings[0].message.starts_with("COMPOSE_FILE in .env has no effect"));
}

#[test]
fn a_name_that_compose_would_not_take_is_refused() {
    assert!(
        problems(&format!("name: My App\n{ONE}"))[0]
            .starts_with(":1:7: name: the project name 'My App'")
    );
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
    for path in ["/srv/My App/.env", FILE, "/srv/My App/a.env", "/srv/My App/compose.override.yml"]
    {
        assert!(loaded.files_read.contains(&PathBuf::from(path)), "{path}");
    }
    assert_eq!(loaded.project.config_files, [PathBuf::from(FILE)]);
    assert_eq!(loaded.project.working_dir, PathBuf::from("/srv/My App"));
}

#[test]
fn an_override_beside_the_file_is_warned_of() {
    let stage = Stage::new(ONE).file("/srv/My App/docker-compose.override.yaml", "");
    let loaded = stage.load().expect("the file is sound");
    assert!(
        loaded.warnings[0]
            .message
            .starts_with("docker-compose.override.yaml beside it is not read")
    );
}

#[test]
fn an_old_version_is_ignored_with_a_warning() {
    assert_eq!(
        warnings(&format!("version: '3.8'\n{ONE}")),
        [":1:1: version: obsolete and ignored; remove it"]
    );
}
