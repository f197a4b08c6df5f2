//! What a program gets from where it is started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nanny_lib::backend::{ContainerBackend as _, ContainerState, ErrorKind};
use nanny_lib::project::labels;

use crate::house::{House, shims, spec, until};
use crate::killed::{Owner, WORD};

pub(crate) async fn a_program_inherits_nothing_of_ours() {
    let house = House::new();
    // Not closed when a program is run: as if a shell had left it open.
    let leak = fs::File::open("/dev/zero").unwrap();
    let _leak = rustix::io::dup(&leak).unwrap();
    let script = "ls -l /proc/$$/fd; echo; cat /proc/$$/stat | cut -d' ' -f1,5,6,7; pwd; \
                  ps -o sid= -p $PPID; env; echo done; while :; do sleep 0.1; done";
    let stays = house.created("stays", script).await;
    let comes = house.created("comes", "true").await;
    let mut owner = Owner::begin_with(&house, |owner: &mut Command| {
        owner.env("NANNY_TOKEN", "hunter2").env("NOTIFY_SOCKET", "/run/x").env("PLAIN", "yes");
    });
    house.logged(&stays, |line| line == "done").await;
    owner.kill().unwrap();
    owner.wait().unwrap();
    let log = house.log(&stays).await;
    let blank = log.iter().position(String::is_empty).unwrap();
    let descriptors: Vec<_> =
        log[..blank].iter().filter_map(|line| line.split_once(" -> ")).collect();
    let names: Vec<_> =
        descriptors.iter().filter_map(|(head, _)| head.rsplit(' ').next()).collect();
    // The shell keeps the script on one of its own, at most.
    assert!(names.len() <= 4 && names.starts_with(&["0", "1", "2"]), "{:?}", &log[..blank]);
    assert!(!log[..blank].iter().any(|line| line.contains("/dev/zero")), "{:?}", &log[..blank]);
    assert!(descriptors[0].1.ends_with("/dev/null"), "{descriptors:?}");
    // It leads its group and its session, and has no terminal.
    let ids: Vec<_> = log[blank + 1].split(' ').collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[3] == "0", "{ids:?}");
    assert_eq!(log[blank + 2], "/");
    let environment = &log[blank + 3..];
    assert!(environment.contains(&"PLAIN=yes".to_owned()));
    assert!(environment.contains(&format!("NANNY_PROCESS_ID={stays}")));
    let ours = |line: &&String| line.contains("hunter2") || line.starts_with("NOTIFY_SOCKET");
    assert_eq!(environment.iter().find(ours), None);
    assert_eq!(house.inspect(&stays).await.state, ContainerState::Running);
    drop(comes);
}

pub(crate) async fn only_the_owner_may_read_what_is_kept() {
    let house = House::new();
    let mut wanted = spec("a", "echo hello");
    wanted.environment.0.insert("SECRET".to_owned(), Some("hunter2".to_owned()));
    let id = house.backend.create(&wanted).await.unwrap();
    house.backend.start(&id).await.unwrap();
    house.ended(&id).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let home = house.home(&id);
    assert_eq!(mode(&home), 0o700);
    assert_eq!(mode(home.parent().unwrap()), 0o700);
    for entry in fs::read_dir(&home).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

pub(crate) async fn why_a_start_failed_is_told_and_kept() {
    let house = House::new();
    let mut wanted = spec("a", "true");
    for (change, expected) in [
        ("/no/such/program", "there is no program '/no/such/program', or none that could run it"),
        ("/etc/passwd", "'/etc/passwd' is no program that may be run"),
        ("", "cannot work in '/no/such/place': No such file or directory (os error 2)"),
    ] {
        wanted.name.push('a');
        if change.is_empty() {
            wanted.working_dir = Some("/no/such/place".to_owned());
        } else {
            wanted.command = Some(vec![change.to_owned()]);
        }
        let id = house.backend.create(&wanted).await.unwrap();
        let error = house.backend.start(&id).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Other, expected));
        let info = house.inspect(&id).await;
        assert_eq!(info.state, ContainerState::Exited);
        assert_eq!(info.exit.unwrap().error.as_deref(), Some(expected));
    }
}

pub(crate) async fn a_program_that_knows_nothing_of_shims_is_told_so() {
    let house = House::with(|config| config.program = "/bin/true".into());
    let id = house.created("a", "true").await;
    let error = house.backend.start(&id).await.unwrap_err();
    assert!(error.message().contains("shim::main"), "{error}");
    assert_eq!(house.inspect(&id).await.state, ContainerState::Created);
    // Nor does it start others of its kind without end: this one is asked, and starts `stays`.
    let program = std::env::current_exe().unwrap();
    let house = House::with(|config| {
        let processes = config.directory.clone();
        (config.program, config.arguments) = (program, vec![WORD.into(), processes.into()]);
    });
    let ids = [house.created("stays", "true").await, house.created("comes", "true").await];
    let error = house.backend.start(&ids[1]).await.unwrap_err();
    assert!(error.message().contains("shim::main"), "{error}");
    assert_eq!(house.inspect(&ids[0]).await.state, ContainerState::Created);
}

pub(crate) async fn no_child_of_ours_is_left() {
    let house = House::new();
    let id = house.started("a", "while :; do sleep 0.1; done").await;
    let [shim] = shims(&id)[..] else { panic!("it has one shim") };
    assert!(!children().iter().any(|(pid, _)| *pid == shim), "its shim is our child");
    // Those of other tests come and go.
    let no_zombie = || !children().iter().any(|(_, state)| state.starts_with('Z'));
    until("no zombie is left", async || no_zombie().then_some(())).await;
    house.backend.kill(&id).await.unwrap();
}

/// Our children, and what state they are in.
fn children() -> Vec<(i32, String)> {
    let mut list = Command::new("ps");
    list.args(["-o", "pid=,stat=", "--ppid", &std::process::id().to_string()]);
    let list = list.stdin(Stdio::null()).output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let child = |line: &str| {
        let (pid, state) = line.trim().split_once(' ')?;
        Some((pid.parse().ok()?, state.trim().to_owned()))
    };
    list.lines().filter_map(child).collect()
}

pub(crate) async fn who_says_that_it_needs_a_gpu_is_believed() {
    // And started, whatever drivers are here: it has asked for no GPU by name.
    let house = House::with(|config| config.gpu_signs = vec!["/nonexistent".into()]);
    let mut wanted = spec("a", "sleep 1000");
    wanted.labels.insert(labels::GPU.to_owned(), "required".to_owned());
    let id = house.backend.create(&wanted).await.unwrap();
    house.backend.start(&id).await.unwrap();
    let plain = house.created("b", "true").await;
    assert_eq!(
        (house.inspect(&id).await.uses_gpu, house.inspect(&plain).await.uses_gpu),
        (true, false)
    );
}
