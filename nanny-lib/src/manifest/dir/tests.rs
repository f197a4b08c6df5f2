use std::fs;
use std::time::Duration;

use futures_util::StreamExt as _;
use tempfile::TempDir;

use super::*;
use crate::backend::RestartPolicy;
use crate::manifest::Severity;

/// A root with these files in it, by path.
fn root(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().expect("a temporary directory");
    for (path, text) in files {
        write(&root, path, text);
    }
    root
}

fn write(root: &TempDir, path: &str, text: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().expect("it is beneath the root")).expect("a directory");
    fs::write(path, text).expect("a file");
}

fn source(root: &TempDir) -> DirectorySource {
    DirectorySource::new(root.path()).home("/home/me").environment([("TAG", "7")])
}

/// What is found, and the messages of the problems without the root.
async fn discover(source: &DirectorySource) -> (Vec<String>, Vec<String>) {
    let discovery = source.discover().await;
    let root = format!("{}/", source.paths.shown.display());
    let names = discovery
        .services
        .iter()
        .filter(|service| service.unusable.is_none())
        .map(|found| found.manifest.name.to_string())
        .collect();
    let problems = discovery.problems.iter().map(|found| found.to_string().replace(&root, ""));
    (names, problems.collect())
}

const COMPOSE: &str = "services:\n  web:\n    image: nginx:${TAG}\n";

#[tokio::test]
async fn services_are_found_and_templates_are_not() {
    let root = root(&[
        ("chat/service.yaml", "description: Talks"),
        ("chat/docker-compose.yml", COMPOSE),
        ("TTS/service.yml", "name: speech\ngpu_required: true"),
        ("TTS/compose.yaml", COMPOSE),
        ("_template/service.yaml", "nonsense: ["),
        (".hidden/service.yaml", "nonsense: ["),
        ("service-nanny/service.yaml", "nonsense: ["),
        ("notes/readme.md", "no service"),
        ("service.yaml", "not in a directory"),
    ]);
    let source = source(&root);
    let discovery = source.discover().await;
    assert_eq!(discovery.problems, []);
    let [speech, chat] = &discovery.services[..] else { panic!("{discovery:?}") };
    assert_eq!(chat.manifest.name.as_str(), "chat");
    assert_eq!(chat.origin, root.path().join("chat"));
    assert_eq!(chat.project.name, "chat");
    assert_eq!(chat.project.parts["web"].spec.image.as_deref(), Some("nginx:7"));
    assert_eq!((speech.manifest.name.as_str(), speech.project.name.as_str()), ("speech", "tts"));
}

#[tokio::test]
async fn h8_one_bad_manifest_does_not_hide_the_others() {
    let root = root(&[
        ("bad/service.yaml", "name: bad\nvram_gb: lots"),
        ("worse/service.yaml", "name: [\n"),
        ("binary/service.yaml", "name: a\n"),
        ("broken/service.yaml", ""),
        ("broken/docker-compose.yml", "services: 3"),
        ("bare/service.yaml", "name: bare"),
        ("good/service.yaml", "name: good"),
        ("good/docker-compose.yml", COMPOSE),
    ]);
    fs::write(root.path().join("binary/service.yaml"), b"name: a\nx: \xff\n").unwrap();
    write(&root, "broken/service.yaml", "name: broken");
    let (names, problems) = discover(&source(&root)).await;
    assert_eq!(names, ["good"]);
    let places: Vec<_> = problems.iter().map(|found| found.split(' ').next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "bad/service.yaml:2:10:",
            "bare/service.yaml:1:1:",
            "binary/service.yaml:2:4:",
            "broken/docker-compose.yml:1:11:",
            "worse/service.yaml:1:7:",
        ],
        "{problems:#?}"
    );
    let found = source(&root).discover().await.services;
    let unusable = found.iter().filter(|service| service.unusable.is_some());
    let unusable: Vec<_> = unusable.map(|service| service.manifest.name.as_str()).collect();
    assert_eq!(unusable, ["bare", "broken"], "what has a name is shown");
    let missing = problems.iter().find(|found| found.starts_with("bare")).unwrap();
    assert!(missing.contains("there is no bare/docker-compose.yml; write one"), "{missing}");
}

#[tokio::test]
async fn a_root_that_is_not_there_is_a_problem() {
    let root = root(&[]);
    let source = DirectorySource::new(root.path().join("nowhere"));
    let discovery = source.discover().await;
    assert!(discovery.services.is_empty());
    assert_eq!(discovery.problems.len(), 1);
    assert!(discovery.problems[0].message.contains("cannot be read"));
}

#[tokio::test]
async fn h10_two_services_of_one_name_are_a_problem_of_both() {
    let root = root(&[
        ("a/service.yaml", "version: 1\nname: twin"),
        ("a/compose.yaml", COMPOSE),
        ("b/service.yaml", "name: twin"),
        ("b/compose.yaml", COMPOSE),
        ("c/service.yaml", "name: single"),
        ("c/compose.yaml", COMPOSE),
    ]);
    let (names, problems) = discover(&source(&root)).await;
    assert_eq!(names, ["single"]);
    let said = |file: &str, other: &str| {
        format!(
            "{file}: the name 'twin' is also that of {other}/service.yaml; \
             give one of them another 'name'"
        )
    };
    assert_eq!(problems, [said("a/service.yaml:2:7", "b"), said("b/service.yaml:1:7", "a")]);
}

#[tokio::test]
async fn a_name_is_taken_also_by_a_service_whose_compose_file_is_at_fault() {
    let root = root(&[
        ("a/service.yaml", "name: twin"),
        ("a/compose.yaml", COMPOSE),
        ("b/service.yaml", "name: twin"),
    ]);
    let (names, problems) = discover(&source(&root)).await;
    assert!(names.is_empty(), "{names:?}");
    assert_eq!(problems.len(), 3, "{problems:#?}");
}

#[tokio::test]
async fn a_manifest_that_leads_nowhere_is_a_problem() {
    let root = root(&[("chat/readme", "")]);
    std::os::unix::fs::symlink("nowhere", root.path().join("chat/service.yaml")).unwrap();
    let (_, problems) = discover(&source(&root)).await;
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("chat/service.yaml:1:1: cannot be read: No such file"));
}

#[tokio::test]
async fn h10_two_services_of_one_project_are_a_problem_of_both() {
    let compose = format!("name: shared\n{COMPOSE}");
    let root = root(&[
        ("a/service.yaml", "name: a"),
        ("a/compose.yaml", &compose),
        ("b/service.yaml", "name: b"),
        ("b/compose.yaml", &compose),
    ]);
    let (names, problems) = discover(&source(&root)).await;
    assert!(names.is_empty());
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("its project 'shared' is also that of b/service.yaml"));
}

#[tokio::test]
async fn h4_files_that_a_manifest_names_must_lie_inside() {
    let outside = root(&[("docker-compose.yml", COMPOSE)]);
    let file = outside.path().join("docker-compose.yml");
    let absolute = format!("version: 1\ncompose_file: {}", file.display());
    let root = root(&[
        ("up/service.yaml", "compose_file: ../other/compose.yaml"),
        ("absolute/service.yaml", &absolute),
        ("wd/service.yaml", "working_dir: .."),
        ("link/service.yaml", "compose_file: compose.yaml"),
        ("default/service.yaml", "name: default"),
        ("linkdir/service.yaml", "working_dir: away"),
        ("other/compose.yaml", COMPOSE),
    ]);
    let link = |path: &str, target: &Path| {
        std::os::unix::fs::symlink(target, root.path().join(path)).expect("a link");
    };
    link("link/compose.yaml", &file);
    link("default/docker-compose.yml", &file);
    link("linkdir/away", outside.path());
    let (names, problems) = discover(&source(&root)).await;
    assert!(names.is_empty(), "{names:?}");
    assert_eq!(problems.len(), 6, "{problems:#?}");
    assert!(problems.iter().all(|found| found.contains("leads out of the service's directory")));
    assert!(problems[0].starts_with("absolute/service.yaml:2:15: 'compose_file'"), "{problems:#?}");
}

#[tokio::test]
async fn a_linked_service_directory_is_found_under_its_own_name() {
    let elsewhere = root(&[("service.yaml", "version: 1"), ("compose.yaml", COMPOSE)]);
    let root = root(&[]);
    std::os::unix::fs::symlink(elsewhere.path(), root.path().join("chat")).unwrap();
    let discovery = source(&root).discover().await;
    assert_eq!(discovery.problems, []);
    assert_eq!(discovery.services[0].manifest.name.as_str(), "chat");
    assert_eq!(discovery.services[0].project.name, "chat");
}

#[tokio::test]
async fn h4_a_pipe_is_refused_and_not_waited_for() {
    let root = root(&[("chat/readme", "")]);
    let pipe = root.path().join("chat/service.yaml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let (names, problems) = discover(&source(&root)).await;
    assert!(names.is_empty());
    assert_eq!(problems, ["chat/service.yaml:1:1: cannot be read: it is no regular file"]);
}

#[tokio::test]
async fn h1_a_manifest_that_is_too_long_is_refused() {
    let text = format!("description: {}", "x".repeat(300 << 10));
    let root = root(&[("chat/service.yaml", &text)]);
    let (_, problems) = discover(&source(&root)).await;
    let expected = "chat/service.yaml:1:1: the file is longer than 256 KiB; make it smaller";
    assert_eq!(problems, [expected]);
}

#[tokio::test]
async fn the_working_directory_names_the_project_and_holds_its_files() {
    let root = root(&[
        ("chat/service.yaml", "working_dir: deploy\nenv_file: extra.env\ncompose_file: run.yml"),
        ("chat/deploy/run.yml", "services: {web: {image: 'nginx:${EXTRA}-${BOTH}-${TAG}'}}"),
        ("chat/deploy/extra.env", "EXTRA=1\nBOTH=extra\nTAG=never"),
        ("chat/deploy/.env", "BOTH=dot"),
    ]);
    let discovery = source(&root).discover().await;
    assert_eq!(discovery.problems, []);
    let project = &discovery.services[0].project;
    assert_eq!(project.name, "deploy");
    assert_eq!(project.parts["web"].spec.image.as_deref(), Some("nginx:1-extra-7"));
}

#[tokio::test]
async fn a_command_needs_no_compose_file() {
    let manifest = "backend: process\ncommand: [python, serve.py]\nenv: {PORT: 8000}";
    let root = root(&[("chat/service.yaml", manifest), ("chat/compose.yaml", COMPOSE)]);
    let discovery = source(&root).discover().await;
    let spec = &discovery.services[0].project.parts["main"].spec;
    assert!(spec.labels.contains_key(crate::project::labels::SPEC_HASH));
    assert_eq!((spec.image.as_deref(), spec.command.as_ref().unwrap().len()), (None, 2));
    assert_eq!(spec.working_dir.as_deref(), root.path().join("chat").to_str());
}

#[tokio::test]
async fn a_command_goes_before_a_compose_file_that_nobody_asks_for() {
    let image = |discovery: &Discovery| {
        let mut parts = discovery.services[0].project.parts.values();
        parts.next().expect("it has one").spec.image.is_some()
    };
    let alone = root(&[("chat/service.yaml", "command: python serve.py")]);
    let discovery = source(&alone).discover().await;
    assert_eq!((discovery.problems.len(), image(&discovery)), (0, false));

    write(&alone, "chat/compose.yaml", COMPOSE);
    for (asks, has_image) in [
        ("", false),
        ("backend: process", false),
        ("backend: x", true),
        ("compose_file: compose.yaml", true),
    ] {
        write(&alone, "chat/service.yaml", &format!("command: python serve.py\n{asks}"));
        let discovery = source(&alone).discover().await;
        assert_eq!(image(&discovery), has_image, "{asks}");
        let said: Vec<_> = discovery.problems.iter().map(|p| (p.line, p.severity)).collect();
        assert_eq!(said, [(1, Severity::Hint)], "{asks}: {:?}", discovery.problems);
    }
}

#[tokio::test]
async fn a_command_has_what_its_manifest_gives_it() {
    let manifest = "command: [serve]\nrestart: on-failure:2\nenv: {PORT: 8000, HOME: }\nenv_file: more.env\ngpu_required: true\n\
                    gpus: {devices: [GPU-1]}\nresources: {cpu_limit: 0.5, memory_limit: 1G}";
    let root = root(&[("chat/service.yaml", manifest), ("chat/more.env", "PORT=1\nMODEL=small\n")]);
    let discovery = source(&root).discover().await;
    assert_eq!(discovery.problems, []);
    let part = &discovery.services[0].project.parts["main"];
    let spec = &part.spec;
    assert_eq!(part.restart, RestartPolicy::OnFailure { max_retries: Some(2) });
    assert_eq!(spec.restart, None, "no engine is told");
    let value = |name: &str| spec.environment.0[name].as_deref();
    assert_eq!((value("PORT"), value("MODEL"), value("HOME")), (Some("8000"), Some("small"), None));
    assert_eq!(spec.gpus[0].device_ids, ["GPU-1"]);
    assert!(spec.labels.contains_key(crate::project::labels::GPU));
    assert_eq!((spec.limits.nano_cpus, spec.limits.memory), (500_000_000, 1 << 30));
}

#[tokio::test]
async fn our_own_project_is_protected() {
    let root = root(&[("nanny/service.yaml", "version: 1"), ("nanny/compose.yaml", COMPOSE)]);
    let discovery = source(&root).protect_project("nanny").discover().await;
    assert!(discovery.services[0].manifest.off_limits.is_some());
}

#[tokio::test]
async fn hints_do_not_keep_a_service_from_being_found() {
    let root = root(&[("chat/service.yaml", "desciption: x"), ("chat/compose.yaml", COMPOSE)]);
    let discovery = source(&root).discover().await;
    assert_eq!(discovery.services.len(), 1);
    assert_eq!(discovery.problems.len(), 1);
    assert_eq!(discovery.problems[0].severity, Severity::Hint);
}

#[test]
fn h13_variables_of_ours_never_reach_a_compose_file() {
    let ambient = ["NANNY_TOKEN", "COMPOSE_PROJECT_NAME", "HF_TOKEN"];
    let inherited = inherited(ambient.map(|name| (name.into(), "hunter2".into())));
    assert_eq!(inherited.into_keys().collect::<Vec<_>>(), ["HF_TOKEN"]);
}

#[test]
fn debug_shows_no_values_of_variables() {
    let source = DirectorySource::new("services").environment([("TOKEN", "hunter2")]);
    assert!(!format!("{source:?}").contains("hunter2"));
}

/// Waits for the stream to say something. Long enough for a busy machine, and shorter than the
/// next poll, which would hide that nothing was noticed.
async fn expect_change(changes: &mut BoxStream<'static, Changed>) {
    let said = tokio::time::timeout(Duration::from_secs(25), changes.next()).await;
    assert_eq!(said.expect("a change within the time limit"), Some(Changed));
}

#[tokio::test]
async fn edits_of_every_file_that_was_read_are_noticed() {
    let shared = root(&[("common.env", "A=1")]);
    let compose = format!(
        "services: {{web: {{image: nginx, env_file: [{}]}}}}",
        shared.path().join("common.env").display()
    );
    let root = root(&[("chat/service.yaml", "version: 1"), ("chat/compose.yaml", &compose)]);
    let source = source(&root);
    assert_eq!(source.discover().await.services.len(), 1);
    let mut changes = source.watch();

    write(&root, "chat/.env", "TAG=1");
    expect_change(&mut changes).await;
    write(&root, "chat/service.yaml", "version: 2");
    expect_change(&mut changes).await;
    write(&shared, "common.env", "A=2");
    expect_change(&mut changes).await;
    // As an editor saves: a new file that takes the old one's name.
    write(&root, "chat/.compose.yaml.swp", COMPOSE);
    let chat = root.path().join("chat");
    fs::rename(chat.join(".compose.yaml.swp"), chat.join("compose.yaml")).unwrap();
    expect_change(&mut changes).await;
}

#[tokio::test]
async fn new_directories_are_noticed_and_then_watched() {
    let root = root(&[]);
    let mut changes = source(&root).watch();
    fs::create_dir(root.path().join("chat")).unwrap();
    expect_change(&mut changes).await;
    write(&root, "chat/service.yaml", "version: 1");
    expect_change(&mut changes).await;
    // Another directory under the same name is watched as well.
    fs::remove_dir_all(root.path().join("chat")).unwrap();
    fs::create_dir(root.path().join("chat")).unwrap();
    expect_change(&mut changes).await;
    write(&root, "chat/service.yaml", "version: 2");
    expect_change(&mut changes).await;
}

#[tokio::test]
async fn a_file_found_by_a_later_discovery_is_watched_from_then_on() {
    let shared = root(&[("common.env", "A=1")]);
    let root = root(&[]);
    let source = source(&root);
    let mut changes = source.watch();
    let compose = format!(
        "services: {{web: {{image: nginx, env_file: [{}]}}}}",
        shared.path().join("common.env").display()
    );
    write(&root, "chat/compose.yaml", &compose);
    write(&root, "chat/service.yaml", "version: 1");
    expect_change(&mut changes).await;
    assert_eq!(source.discover().await.services.len(), 1);
    // The stream works while it is asked; edit until it has taken the news.
    let edits = async {
        loop {
            write(&shared, "common.env", "A=2");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = expect_change(&mut changes) => {}
        () = edits => {}
    }
}

#[tokio::test]
async fn h12_two_thousand_services_are_found_and_watched() {
    // In memory where there is such a place: making 4,000 files on a busy disk takes seconds.
    let root = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| root(&[]));
    for index in 0..2000 {
        write(&root, &format!("service{index}/service.yaml"), "gpu_required: true\nvram_gb: 8");
        write(&root, &format!("service{index}/docker-compose.yml"), COMPOSE);
    }
    let source = source(&root);
    assert_eq!(source.discover().await.services.len(), 2000);
    let mut changes = source.watch();
    write(&root, "service1999/service.yaml", "vram_gb: 4");
    expect_change(&mut changes).await;
}
