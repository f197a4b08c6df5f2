//! `nanny check`, on directories as they are served.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn check(directory: &Path) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_nanny"))
        .arg("check")
        .arg(directory)
        .output()
        .expect("the binary was built");
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code(), said)
}

fn service(root: &Path, name: &str, manifest: &str, compose: &str) {
    let home = root.join(name);
    fs::create_dir(&home).expect("it is new");
    fs::write(home.join("service.yaml"), manifest).expect("it is ours");
    fs::write(home.join("docker-compose.yml"), compose).expect("it is ours");
}

#[test]
fn the_examples_are_sound() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/services");
    let (code, said) = check(&examples);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("4 services, 0 errors"), "{said}");
}

#[test]
fn every_mistake_is_shown_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let good = "services:\n  web:\n    image: busybox\n";
    service(root, "good", "name: good\n", good);
    service(root, "manifest", "name: manifest\nports: {a: b}\nhealth_timeout: soon\n", good);
    service(
        root,
        "compose",
        "name: compose\n",
        "services:\n  web:\n    image: busybox\n    ports: [a:b]\n",
    );
    service(root, "syntax", "name: syntax\n", "services:\n  web: [\n");
    service(root, "typo", "name: typo\n", "services:\n  web:\n    imgae: busybox\n");
    let (code, said) = check(root);
    assert_eq!(code, Some(1), "{said}");
    for place in [
        "manifest/service.yaml:2:8: ",
        "manifest/service.yaml:3:17: ",
        "compose/docker-compose.yml:4:",
        "syntax/docker-compose.yml:",
        "typo/docker-compose.yml:3:5: ",
    ] {
        assert!(said.contains(place), "{place} is not in\n{said}");
    }
    assert!(!said.contains("good/"), "{said}");
}
