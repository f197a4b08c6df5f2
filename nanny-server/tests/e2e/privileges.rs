//! Whom the nanny must be to do its work.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::engine;
use crate::house::{GPU, House, IDLE, web};

const NOBODY: u32 = 65_534;

#[test]
fn j4_it_needs_no_root_but_the_group_of_the_engines_socket() {
    let Some(mut house) = House::new() else { return };
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return engine::not_tested("only root can become somebody else");
    }
    house.add("web", GPU, &web(IDLE, ""));
    // Where anybody can get at it: a copy of the program, and a place for its state.
    let home = house.directory().to_owned();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    house.program = home.join("nanny");
    // By another process: whatever is begun here meanwhile would hold it open for writing.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_nanny")).arg(&house.program).status();
    assert!(copied.unwrap().success());
    fs::create_dir(home.join("state")).unwrap();
    chown(home.join("state"), Some(NOBODY), None).unwrap();
    let group = fs::metadata(engine::socket()).unwrap().gid();
    house.open_with(|command| {
        command.uid(NOBODY).gid(group);
    });
    house.started("web");
    assert!(engine::runs(&house.container("web")));
    house.notes("web", "running");
    assert_eq!(fs::metadata(home.join("state/journal.json")).unwrap().uid(), NOBODY);
    house.stop("web", r#"{"remove": true}"#).expect(200);
    assert_eq!(house.end_with("TERM"), Some(0));
}
