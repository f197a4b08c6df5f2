//! Records that do not say what is.

use std::fs;
use std::process::{Child, Command, Stdio};

use nanny_lib::ContainerId;
use nanny_lib::backend::{ContainerBackend as _, ContainerState, Selector};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::house::{House, leaders, send, shims, until};

const SLEEPS: &str = "while :; do sleep 0.1; done";
const SLOT_BYTES: usize = 2048;

/// Rewrites the newest record of `id`.
fn forge(house: &House, id: &ContainerId, change: impl Fn(&mut Value)) {
    let path = house.home(id).join("run");
    let text = fs::read_to_string(&path).unwrap();
    let records = text.lines().filter_map(|line| line.split_once(' '));
    let records = records.filter_map(|(_, json)| serde_json::from_str::<Value>(json).ok());
    let mut record = records.max_by_key(|record| record["number"].as_u64()).unwrap();
    change(&mut record);
    let json = record.to_string();
    let digest = Sha256::digest(json.as_bytes());
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let slot = format!("{:1$}\n", format!("{digest} {json}"), SLOT_BYTES - 1);
    fs::write(path, slot.repeat(2)).unwrap();
}

/// A process that is none of ours.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").stdin(Stdio::null()).stdout(Stdio::null());
        Self(sleep.spawn().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nothing of `id` is left, and nobody has noticed.
async fn vanished(house: &House) -> ContainerId {
    let id = house.started("a", SLEEPS).await;
    crate::house::kill([shims(&id), leaders(&id)].concat()).await;
    let all = || crate::house::processes_with("environ", &format!("NANNY_PROCESS_ID={id}"));
    until("they are gone", async || all().is_empty().then_some(())).await;
    id
}

pub(crate) async fn a_number_that_another_process_has_by_now_is_nobody() {
    let house = House::new();
    let id = vanished(&house).await;
    let mut stranger = Stranger::new();
    forge(&house, &id, |record| {
        for who in ["shim", "main"] {
            record[who]["pid"] = json!(stranger.0.id());
        }
    });
    for _ in 0..2 {
        house.backend.stop(&id, None).await.unwrap();
        house.backend.kill(&id).await.unwrap();
        let info = house.inspect(&id).await;
        assert_eq!(info.state, ContainerState::Exited);
        assert_eq!(info.exit.unwrap().code, None);
    }
    house.backend.remove(&id).await.unwrap();
    assert_eq!(stranger.0.try_wait().unwrap(), None, "a stranger was killed");
}

pub(crate) async fn after_a_reboot_everything_has_ended() {
    let house = House::new();
    let id = vanished(&house).await;
    let mut stranger = Stranger::new();
    let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.0.id())).unwrap();
    let began: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse().unwrap();
    forge(&house, &id, |record| {
        // The same number, at the same time of another day.
        record["world"] = json!("another-day pid:[4026531836]");
        for who in ["shim", "main"] {
            record[who] = json!({"pid": stranger.0.id(), "began": began});
        }
    });
    let listed = house.backend.list(&Selector::All).await.unwrap();
    assert_eq!(listed[0].state, ContainerState::Exited);
    house.backend.kill(&id).await.unwrap();
    assert_eq!(stranger.0.try_wait().unwrap(), None, "a stranger was killed");
    house.backend.start(&id).await.unwrap();
    assert_eq!(house.inspect(&id).await.state, ContainerState::Running);
}

pub(crate) async fn a13_a_damaged_record_loses_no_process() {
    let house = House::new();
    let id = house.started("a", SLEEPS).await;
    // Its number cannot be guessed.
    house.backend.kill(&id).await.unwrap();
    house.backend.start(&id).await.unwrap();
    let other = house.started("b", SLEEPS).await;
    fs::write(house.home(&other).join("run"), "").unwrap();
    house.backend.stop(&other, None).await.unwrap();
    assert_eq!(house.inspect(&other).await.state, ContainerState::Exited);
    house.backend.start(&other).await.unwrap();
    let program = leaders(&id);
    for damage in [&b""[..], b"{}", &[0; 4096], b"\xff\xfe"] {
        fs::write(house.home(&id).join("run"), damage).unwrap();
        let listed = house.backend.list(&Selector::All).await.unwrap();
        assert_eq!(listed.len(), 2);
        assert!(listed.iter().all(|info| info.state == ContainerState::Running), "{listed:?}");
        house.backend.start(&id).await.unwrap();
        assert_eq!(leaders(&id), program);
    }
    // Nor does it if nobody is there who knows better.
    for shim in shims(&id) {
        send(shim, Signal::KILL);
    }
    until("it is gone", async || shims(&id).is_empty().then_some(())).await;
    assert_eq!(house.inspect(&id).await.state, ContainerState::Running);
    house.backend.stop(&id, None).await.unwrap();
    assert_eq!(house.inspect(&id).await.state, ContainerState::Exited);
    assert!(leaders(&id).is_empty());
    assert_eq!(house.inspect(&other).await.state, ContainerState::Running);
}

pub(crate) async fn a13_a_damaged_spec_breaks_no_list() {
    let house = House::new();
    let id = house.started("a", SLEEPS).await;
    house.started("b", SLEEPS).await;
    fs::write(house.home(&id).join("spec"), "{\"half").unwrap();
    fs::create_dir(house.home(&ContainerId::new("0123456789abcdef0123456789abcdef"))).unwrap();
    fs::write(house.directory.path().join("processes").join("stray"), "x").unwrap();
    let again = nanny_backend_process::ProcessBackend::new(
        nanny_backend_process::ProcessConfig::new(house.directory.path().join("processes")),
    );
    let listed = again.list(&Selector::All).await.unwrap();
    let mut names: Vec<_> = listed.iter().map(|info| (&*info.name, info.state)).collect();
    names.sort_by_key(|(name, _)| *name);
    assert_eq!(names, [("a", ContainerState::Running), ("b", ContainerState::Running)]);
    again.stop(&id, None).await.unwrap();
    again.remove(&id).await.unwrap();
    assert!(leaders(&id).is_empty());
}
