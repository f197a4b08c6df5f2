//! A disk that is full.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use nanny_lib::backend::{ContainerBackend as _, ContainerState};

use crate::house::{House, not_tested, spec, until};

/// A file system of 256 KiB.
struct Small(PathBuf);

impl Small {
    fn beneath(house: &House) -> Option<Self> {
        let path = house.directory.path().join("processes");
        fs::create_dir(&path).expect("it is new");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "nanny-test"]).arg(&path);
        let mounted = mount.output().expect("there is a mount command");
        if mounted.status.success() {
            return Some(Self(path));
        }
        let why = String::from_utf8_lossy(&mounted.stderr);
        not_tested(&format!("no file system can be mounted: {}", why.trim()));
        None
    }

    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).expect("there is room as yet");
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn clear(&self) {
        fs::remove_file(self.0.join("filler")).expect("it is ours");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: processes may have files open in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

pub(crate) async fn h11_a_full_disk_stops_no_process_and_the_log_says_what_it_lacks() {
    let house = House::new();
    let Some(disk) = Small::beneath(&house) else { return };
    let script = "n=0; while :; do n=$((n+1)); echo line $n of many that are quite long, $LONG; \
                  echo $n >$PROGRESS; sleep 0.002; done";
    let progress = house.directory.path().join("progress");
    let mut wanted = spec("a", script);
    let shown = progress.to_string_lossy().into_owned();
    wanted.environment.0.insert("PROGRESS".to_owned(), Some(shown));
    wanted.environment.0.insert("LONG".to_owned(), Some("and longer still ".repeat(10)));
    let id = house.backend.create(&wanted).await.unwrap();
    let later = house.created("b", "echo hello; while :; do sleep 0.1; done").await;
    house.backend.start(&id).await.unwrap();
    house.logged(&id, |line| line.starts_with("line 3 ")).await;

    disk.fill();
    let done = || fs::read_to_string(&progress).unwrap().trim().parse::<u64>().unwrap_or(0);
    let before = done();
    // It takes no notice, and nor does a start, a stop, or a list.
    until("it goes on", async || (done() > before + 500).then_some(())).await;
    house.backend.start(&later).await.unwrap();
    assert_eq!(house.inspect(&later).await.state, ContainerState::Running);
    house.backend.stop(&later, None).await.unwrap();
    assert_eq!(house.inspect(&later).await.exit.unwrap().code, Some(143));
    house.backend.create(&spec("c", "true")).await.unwrap_err();
    disk.clear();

    house.logged(&id, |line| line.starts_with("[nanny: ")).await;
    house.backend.kill(&id).await.unwrap();
    // Whatever is not there, a note in its place says how many lines that is.
    let mut next = None;
    for line in house.log(&id).await {
        let number: usize = line.split(' ').nth(1).unwrap().parse().unwrap();
        if line.starts_with("[nanny: ") {
            next = next.map(|next: usize| next + number);
            continue;
        }
        assert!(next.is_none_or(|next| next == number), "{line} where {next:?} is next");
        next = Some(number + 1);
    }
    house.backend.create(&spec("c", "true")).await.unwrap();
}
