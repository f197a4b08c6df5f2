//! Files that are meant to hurt, read by the binary with little memory to do it in.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::binary::{run, text};

const MANIFEST: &str = "version: 1\n";
const COMPOSE: &str = "services:\n  web:\n    image: busybox\n";

/// Services beside one that is sound.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().expect("a directory"));
        root.service("sound", MANIFEST, COMPOSE);
        root
    }

    fn service(&self, name: &str, manifest: impl AsRef<[u8]>, compose: impl AsRef<[u8]>) {
        self.write(name, "service.yaml", manifest);
        self.write(name, "docker-compose.yml", compose);
    }

    fn write(&self, name: &str, file: &str, bytes: impl AsRef<[u8]>) {
        fs::create_dir_all(self.0.path().join(name)).expect("it is ours");
        fs::write(self.path(name, file), bytes).expect("it is ours");
    }

    fn path(&self, name: &str, file: &str) -> std::path::PathBuf {
        self.0.path().join(name).join(file)
    }

    /// All but the sound service are refused, by an error each that names the service, within
    /// 64 MiB.
    #[track_caller]
    fn only_the_sound_one_is_sound(&self, others: usize) {
        // Data, and not address space: threads reserve a lot of that and use nothing of it.
        let mut command = Command::new("prlimit");
        command
            .arg(format!("--data={}", 64 << 20))
            .arg(env!("CARGO_BIN_EXE_nanny"))
            .arg("check")
            .arg(self.0.path())
            .stdin(Stdio::null());
        let output = run(&mut command);
        let (said, summary) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{said:.2000}{summary:.2000}");
        assert!(said.len() < 1 << 20, "{} bytes of problems", said.len());
        let names = fs::read_dir(self.0.path()).expect("it is ours");
        let names: Vec<_> = names
            .map(|entry| entry.expect("it is ours").file_name().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names.len(), others + 1);
        for name in names {
            let named = said.contains(&format!("/{name}/"));
            assert_eq!(named, name != "sound", "{name}: {said:.2000}");
        }
    }
}

/// Nine levels, each of which names the one before nine times.
fn bomb() -> String {
    let mut text = "x-a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for name in 'b'..='i' {
        let before = char::from(name as u8 - 1);
        text += &format!("x-{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(","));
    }
    text
}

#[test]
fn h1_h2_bombs_go_off_in_64_mib() {
    let root = Root::new();
    root.service("alias", MANIFEST, bomb() + COMPOSE);
    root.service("alias-manifest", bomb(), COMPOSE);
    let anchors = "a: &a x\n".repeat(50_000);
    root.service("anchors", MANIFEST, &anchors);
    let named = format!("x-a: &a {}\nx-b: [{}]\n", "x".repeat(100_000), "*a,".repeat(100_000));
    root.service("long-scalar", MANIFEST, named + COMPOSE);
    let merged = (0..5000).map(|key| format!("k{key}: 1, ")).collect::<String>();
    let merges = format!("x-a: &a {{{merged}}}\nx-b: {{<<: [{}]}}\n", "*a,".repeat(20_000));
    root.service("merge", MANIFEST, merges + COMPOSE);
    root.service("deep", MANIFEST, "[".repeat(500_000));
    root.service("deep-block", "- ".repeat(100_000), COMPOSE);
    let names = (0..150_000).map(|name| format!("$A{name}")).collect::<String>();
    root.service("variables", MANIFEST, format!("{COMPOSE}    user: 'a{names}\n"));
    let key = "k".repeat(900_000);
    let wrong = "    ? x\n    : 1\n".repeat(10);
    root.service(
        "long-key",
        MANIFEST,
        format!("services:\n  {key}:\n    imag: x\n    prts: y\n    vlm: z\n{wrong}"),
    );
    let unknown = (0..60_000).map(|key| format!("key{key}: 1\n")).collect::<String>();
    root.service("unknown", MANIFEST, &unknown);
    root.service("unknown-manifest", "vram_gb: x\n".to_owned() + &unknown[..200_000], COMPOSE);
    let grown = format!("A={}\n", "x".repeat(100_000)) + &"B=$A$A$A$A$A$A$A$A$A$A\n".repeat(10_000);
    root.service("dotenv", MANIFEST, COMPOSE);
    root.write("dotenv", ".env", grown);
    root.only_the_sound_one_is_sound(12);
}

#[test]
fn h2_projects_that_copy_themselves_go_off_in_64_mib() {
    let root = Root::new();
    root.service("ports", MANIFEST, format!("{COMPOSE}    ports: ['1-65535:1-65535']\n"));
    let keys = (0..500).map(|key| format!("A{key}: x, ")).collect::<String>();
    let heirs = (0..3000).map(|heir| format!("  s{heir}: {{extends: web}}\n")).collect::<String>();
    let star = format!("{COMPOSE}    environment: {{{keys}}}\n{heirs}");
    root.service("extends", MANIFEST, star);
    let row = (1..5000).map(|heir| format!("  s{heir}: {{extends: s{}}}\n", heir - 1));
    let row = row.collect::<String>();
    root.service("row", MANIFEST, format!("{COMPOSE}  s0: {{extends: web}}\n{row}"));
    let twice = "include: [docker-compose.more.yml, docker-compose.more.yml]\nservices: {}\n";
    root.service("include", MANIFEST, twice);
    root.write("include", "docker-compose.more.yml", twice);
    root.only_the_sound_one_is_sound(4);
}

#[test]
fn h1_h2_what_is_no_yaml_or_too_long_is_refused() {
    let root = Root::new();
    for (name, text) in [
        ("nul", &b"a: \0\n"[..]),
        ("documents", b"version: 1\n---\nversion: 2\n"),
        ("tabs", b"a:\n\t- b\n"),
        ("utf-8", b"a: \xff\xfe\n"),
        ("utf-16", b"\xff\xfea\0:\0 \x001\0"),
        ("escape", b"a: \x1b[31m\n"),
    ] {
        root.service(&format!("manifest-{name}"), text, COMPOSE);
        root.service(&format!("compose-{name}"), MANIFEST, text);
    }
    for (name, file) in [
        ("huge-manifest", "service.yaml"),
        ("huge-compose", "docker-compose.yml"),
        ("huge-env", ".env"),
    ] {
        root.service(name, MANIFEST, COMPOSE);
        let file = File::create(root.path(name, file)).expect("it is ours");
        file.set_len(100 << 20).expect("it takes no room");
    }
    root.only_the_sound_one_is_sound(15);
    // Not wrong: what Windows writes.
    let sound = Root::new();
    sound.service("bom", "\u{feff}version: 1\r\n", "\u{feff}services: {web: {image: x}}\r\n");
    let output = run(Command::new(env!("CARGO_BIN_EXE_nanny")).arg("check").arg(sound.0.path()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn h4_what_is_no_file_is_neither_read_nor_waited_for() {
    let root = Root::new();
    let pipe = |path: &Path| {
        let _ = fs::remove_file(path);
        assert!(Command::new("mkfifo").arg(path).status().expect("there is one").success());
    };
    let files = ["service.yaml", "docker-compose.yml", ".env", "more.env"];
    for (index, file) in files.iter().enumerate() {
        for kind in ["pipe", "zero", "tty", "directory", "loop", "socket"] {
            // A folder of that name is somebody else's, as for Compose.
            if (*file, kind) == (".env", "directory") {
                continue;
            }
            let name = format!("{kind}-{index}");
            let manifest = "version: 1\nenv_file: more.env\n";
            root.service(&name, manifest, COMPOSE);
            root.write(&name, "more.env", "");
            let path = root.path(&name, file);
            let _ = fs::remove_file(&path);
            match kind {
                "pipe" => pipe(&path),
                "zero" => symlink("/dev/zero", &path).expect("a link"),
                "tty" => symlink("/dev/ptmx", &path).expect("a link"),
                "directory" => fs::create_dir(&path).expect("a directory"),
                "loop" => symlink(file, &path).expect("a link"),
                _ => drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket")),
            }
        }
    }
    for (name, field) in [
        ("named-device", "compose_file: /dev/zero"),
        ("named-directory", "compose_file: ."),
        ("file", "working_dir: service.yaml"),
        ("away", "working_dir: /proc/self"),
    ] {
        root.service(name, field, COMPOSE);
    }
    root.only_the_sound_one_is_sound(files.len() * 6 - 1 + 4);
}
