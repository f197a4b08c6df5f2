//! `nanny compose config`, beside the Compose CLI where there is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary::{not_tested, run, text};

const PLAIN: &str = "services:\n  web:\n    image: busybox\n";

/// A folder called `work` with these files.
struct Folder {
    above: tempfile::TempDir,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self { above: tempfile::tempdir().expect("there is room for a folder") };
        for (path, text) in files {
            let path = folder.root().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("there is room");
            fs::write(path, text).expect("there is room for a file");
        }
        folder
    }

    fn root(&self) -> PathBuf {
        self.above.path().canonicalize().expect("it is there").join("work")
    }

    /// What the command prints, and says, and its exit code, in a bare environment.
    fn config(&self, arguments: &[&str]) -> (String, String, Option<i32>) {
        self.config_with(".", &[], arguments)
    }

    fn config_with(
        &self,
        below: &str,
        variables: &[(&str, &str)],
        arguments: &[&str],
    ) -> (String, String, Option<i32>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nanny"));
        command.args(["compose", "config"]).args(arguments);
        self.at(&mut command, below, variables);
        let output = run(&mut command);
        (text(&output.stdout), text(&output.stderr), output.status.code())
    }

    fn at(&self, command: &mut Command, below: &str, variables: &[(&str, &str)]) {
        command.current_dir(self.root().join(below)).env_clear().env("HOME", "/home/me");
        command.envs(variables.iter().copied());
    }
}

#[test]
fn a_project_is_printed_for_people_for_programs_and_as_hashes() {
    let compose = "services:\n  web:\n    image: busybox:${TAG:-1}\n    volumes: [data:/data]\n\
                   volumes: {data: }\n";
    let folder = Folder::new(&[("compose.yaml", compose)]);
    let (yaml, said, code) = folder.config(&[]);
    assert_eq!((said.as_str(), code), ("", Some(0)));
    assert!(yaml.starts_with("name: work\nservices:\n  web:\n"), "{yaml}");
    assert!(yaml.contains("    image: \"busybox:1\"\n"), "{yaml}");
    let (json, _, _) = folder.config(&["--json"]);
    assert!(json.starts_with(r#"{"name":"work","#) && json.ends_with("}\n"), "{json}");
    let (hashes, _, _) = folder.config(&["--hash"]);
    let lines = hashes.lines().map(|line| line.rsplit_once(' ').expect("a hash comes last"));
    let (names, hashes_alone): (Vec<_>, Vec<_>) = lines.unzip();
    assert_eq!(names, ["network default", "service web", "volume data"]);
    assert!(hashes_alone.iter().all(|hash| hash.len() == 64), "{hashes}");
    // What is printed for people is a Compose file that means the same.
    fs::write(folder.root().join("again.yaml"), yaml).expect("there is room for a file");
    assert_eq!(folder.config(&["-f", "again.yaml", "--hash"]).0, hashes);
}

#[test]
fn a_bad_file_is_told_with_its_lines() {
    let compose = "services:\n  web:\n    imgae: busybox\n    ports: [a:b]\n";
    let folder = Folder::new(&[("compose.yaml", compose)]);
    let (printed, said, code) = folder.config(&[]);
    assert_eq!((printed.as_str(), code), ("", Some(1)));
    let file = folder.root().join("compose.yaml");
    assert!(said.starts_with(&format!("{}:3:5: services.web.imgae: ", file.display())), "{said}");
    assert!(said.contains(":4:13: "), "{said}");
    let (_, said, code) = folder.config(&["-f", "missing.yaml"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("work/missing.yaml:1:1: "), "{said}");
}

#[test]
fn what_is_odd_is_told_and_does_no_harm() {
    let folder = Folder::new(&[("compose.yaml", &format!("version: '3'\n{PLAIN}"))]);
    let (printed, said, code) = folder.config(&[]);
    assert_eq!(code, Some(0));
    assert!(printed.starts_with("name: work\n"), "{printed}");
    assert!(said.contains("compose.yaml:1:1: warning: version: "), "{said}");
}

#[test]
fn variables_of_ours_are_not_for_compose_files() {
    let compose = "services:\n  web:\n    image: ${NANNY_TOKEN:-none}${OTHER:-none}\n";
    let folder = Folder::new(&[("compose.yaml", compose)]);
    let variables = [("NANNY_TOKEN", "secret"), ("OTHER", "-other")];
    let (json, _, _) = folder.config_with(".", &variables, &["--json"]);
    assert!(json.contains(r#""image":"none-other""#), "{json}");
}

/// The situations that differ in where the files come from.
/// A directory, variables, and arguments.
type Situation<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);

#[test]
fn files_are_found_as_compose_finds_them() {
    let with = |key: &str| format!("services:\n  web:\n    {key}\n");
    let files = [
        ("docker-compose.yml", PLAIN),
        ("docker-compose.override.yml", &with("tty: true")),
        ("more.yaml", &with("hostname: ${HOST:-more}")),
        ("other.env", "HOST=other"),
        ("below/deeper/none", ""),
        ("elsewhere/.env", "COMPOSE_FILE=one.yaml:two.yaml\nHOST=dotted\nCOMPOSE_PROFILES=p\n"),
        ("elsewhere/one.yaml", &with("image: ${HOST}\n    volumes: [./x:/x, ~/y:/y]")),
        ("elsewhere/two.yaml", "services: {extra: {image: i, profiles: [p]}}"),
    ];
    let folder = Folder::new(&files);
    let situations: &[Situation<'_>] = &[
        (".", &[], &[]),
        ("below/deeper", &[], &[]),
        (".", &[], &["-f", "docker-compose.yml"]),
        (".", &[], &["-f", "docker-compose.yml", "-f", "more.yaml"]),
        (".", &[("COMPOSE_FILE", "docker-compose.yml:more.yaml")], &[]),
        (
            ".",
            &[("COMPOSE_FILE", "docker-compose.yml,more.yaml"), ("COMPOSE_PATH_SEPARATOR", ",")],
            &[],
        ),
        (".", &[("COMPOSE_FILE", "missing.yaml")], &["-f", "docker-compose.yml"]),
        (".", &[("COMPOSE_PROJECT_NAME", "ambient")], &[]),
        (".", &[("COMPOSE_PROJECT_NAME", "ambient")], &["-p", "given"]),
        (".", &[], &["--env-file", "other.env", "-f", "docker-compose.yml", "-f", "more.yaml"]),
        (
            ".",
            &[("COMPOSE_ENV_FILES", "other.env")],
            &["-f", "docker-compose.yml", "-f", "more.yaml"],
        ),
        (".", &[], &["--project-directory", "elsewhere", "-f", "elsewhere/one.yaml"]),
        (".", &[], &["--project-directory", "elsewhere", "-f", "docker-compose.yml"]),
        ("elsewhere", &[], &[]),
        ("elsewhere", &[], &["--profile", "q"]),
        ("elsewhere", &[("COMPOSE_PROFILES", "")], &[]),
    ];
    let Some(plugin) = plugin() else {
        return not_tested("there is no Compose CLI: scripts/engines compose");
    };
    for (below, variables, arguments) in situations {
        let (ours, said, code) =
            folder.config_with(below, variables, &[&["--json"], *arguments].concat());
        let situation = format!("{below} {variables:?} {arguments:?}");
        assert_eq!(code, Some(0), "{situation}: {said}");
        let mut compose = Command::new(&plugin);
        compose.args(*arguments).args(["config", "--format", "json"]);
        folder.at(&mut compose, below, variables);
        let theirs = run(&mut compose);
        assert!(theirs.status.success(), "{situation}: {}", text(&theirs.stderr));
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(json(&ours), json(&text(&theirs.stdout)), "{situation}");
    }
}

/// The plugin itself: through `docker` it would see variables that `docker` adds.
fn plugin() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker"));
    let systems = ["/usr/local/lib/docker", "/usr/libexec/docker", "/usr/lib/docker"];
    let places = home.into_iter().chain(systems.map(PathBuf::from));
    places.map(|place| place.join("cli-plugins/docker-compose")).find(|plugin| plugin.exists())
}

#[test]
fn no_file_at_all_is_told() {
    let folder = Folder::new(&[("none", "")]);
    let (printed, said, code) = folder.config(&[]);
    assert_eq!((printed.as_str(), code), ("", Some(1)));
    assert!(said.contains("there is no Compose file"), "{said}");
}
