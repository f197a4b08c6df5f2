//! A disk that is full, or cannot be written to, under the state directory.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::engine;
use crate::house::{GPU, House, IDLE, until, web};

/// A file system of 64 KiB.
struct Small(PathBuf);

impl Small {
    /// On a directory that it makes; `None` for who may not mount, which is said.
    fn on(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).expect("it is new");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "nanny-test"])
            .arg(&path)
            .output()
            .expect("there is a mount command");
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr);
            engine::not_tested(&format!("no file system can be mounted: {}", why.trim()));
            return None;
        }
        Some(Self(path))
    }

    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).expect("there is room as yet");
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("filler")).expect("it is ours");
    }

    /// Nobody can write to it until it is `thawed`, although a file is open in it.
    fn freeze(&self) {
        for options in [&["--bind"][..], &["-o", "remount,bind,ro"]] {
            let onto = if options[0] == "--bind" { Some(&self.0) } else { None };
            let frozen = Command::new("mount").args(options).args(onto).arg(&self.0).status();
            assert!(frozen.expect("there is a mount command").success());
        }
    }

    fn thaw(&self) {
        let thawed = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(thawed.expect("there is a umount command").success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: the nanny has its lock open in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What the journal says should be, by service.
fn journal(path: &Path) -> Value {
    let text = fs::read(path.join("journal.json")).expect("there is one");
    serde_json::from_slice::<Value>(&text).expect("it is whole")["services"].clone()
}

fn two() -> Option<House> {
    let mut house = House::new()?;
    house.add("a", GPU, &web(IDLE, ""));
    house.add("b", GPU, &web(IDLE, ""));
    Some(house)
}

#[test]
fn h11_on_a_full_disk_it_goes_on_and_catches_up_when_there_is_room() {
    let Some(mut house) = two() else { return };
    let Some(disk) = Small::on(house.state()) else { return };
    let (a, b) = (house.project("a"), house.project("b"));
    house.open();
    house.started("a");
    let degraded = || house.get("/health")["degraded"].clone();
    let says = |what: &str| {
        let says = || degraded()[0].as_str().filter(|text| text.contains(what)).map(drop);
        until(says, || format!("it never says '{what}': {}", degraded()));
    };
    let is_well = || {
        until(|| (degraded() == json!([])).then_some(()), || format!("it stays {}", degraded()));
    };
    // It is written after the answer, as soon as there is time.
    let comes_to = |wanted: Value| {
        until(
            || (journal(&disk.0) == wanted).then_some(()),
            || format!("{} never comes to {wanted}", journal(&disk.0)),
        );
    };
    is_well();
    comes_to(json!({&a: "running"}));

    disk.fill();
    assert_eq!(house.start("b", r#"{"force": true}"#).expect(200)["stopped"], json!(["a"]));
    says("No space left");
    assert_eq!(journal(&disk.0), json!({&a: "running"}), "the old one is whole");
    assert_eq!((house.holder(), engine::projects_up(&house.tag)), (json!("b"), vec![b.clone()]));
    assert_eq!(house.get("/health")["status"], "healthy");
    assert_eq!(house.log().matches("the journal cannot be written").count(), 1);
    disk.clear();
    is_well();
    comes_to(json!({&b: "running"}));

    disk.freeze();
    house.stop("b", "").expect(200);
    says("Read-only");
    house.started("a");
    disk.thaw();
    is_well();
    comes_to(json!({&a: "running"}));

    // A full disk is no reason not to start, either: what runs is adopted.
    disk.fill();
    house.end_with("KILL");
    house.open();
    assert_eq!((house.holder(), &house.status("a")["status"]), (json!("a"), &json!("running")));
    house.stop("a", "").expect(200);
    disk.clear();
    comes_to(json!({}));
}

#[test]
fn h11_a_state_directory_that_is_removed_comes_back() {
    let Some(mut house) = two() else { return };
    house.open();
    house.started("a");
    // The nanny may be writing there just then.
    until(|| fs::remove_dir_all(house.state()).ok(), || "it cannot be removed".to_owned());
    house.start("b", r#"{"force": true}"#).expect(200);
    let b = house.project("b");
    until(
        || house.state().join("journal.json").exists().then_some(()),
        || "it is never written".to_owned(),
    );
    until(
        || (journal(&house.state()) == json!({&b: "running"})).then_some(()),
        || journal(&house.state()).to_string(),
    );
    engine::docker(&["kill", &house.container("b")]);
    house.becomes("b", "stopped");
    house.started("b");
    house.end_with("KILL");
    house.open();
    assert_eq!(house.holder(), "b");
}

#[test]
fn a13_a14_a_journal_of_another_time_is_no_trouble() {
    let Some(mut house) = two() else { return };
    house.open();
    house.started("a");
    house.notes("a", "running");
    let a = house.project("a");
    let file = house.state().join("journal.json");
    let mut later: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    later["version"] = json!(99);
    let mut unknown = later.clone();
    unknown["version"] = json!(1);
    unknown["something"] = json!({"new": [1, 2]});
    for (text, kept) in [
        (later.to_string(), false),
        (unknown.to_string(), true),
        (later.to_string().replace("{", "["), false),
        (String::new(), false),
    ] {
        house.end_with("KILL");
        fs::write(&file, &text).unwrap();
        let _ = fs::remove_file(file.with_extension("json.bad"));
        house.open();
        assert_eq!((house.holder(), &house.status("a")["status"]), (json!("a"), &json!("running")));
        assert_eq!(file.with_extension("json.bad").exists(), !kept, "{text}");
        house.stop("a", "").expect(200);
        house.started("a");
        until(|| file.exists().then_some(()), || "it is never written".to_owned());
        until(
            || (journal(&house.state()) == json!({&a: "running"})).then_some(()),
            || text.clone(),
        );
    }
}
