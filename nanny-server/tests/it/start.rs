//! The command `nanny serve` at its start: what keeps it from serving, and what it tells and takes
//! from a service manager.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::binary::{Running, nanny, run, text};

/// A house with nothing in it but what a nanny needs.
fn empty_house() -> TempDir {
    let house = tempfile::tempdir().expect("a directory");
    fs::create_dir(house.path().join("services")).expect("it is new");
    house
}

fn serve(house: &Path, arguments: &[&str]) -> Command {
    let mut command = nanny(&["serve", "--log-format", "json"]);
    command.arg("--services").arg(house.join("services"));
    command.arg("--state-dir").arg(house.join("state")).args(arguments);
    command
}

/// The last words of a nanny that must not come to serve: one sentence, with these parts.
#[track_caller]
fn refused(command: &mut Command, parts: &[&str]) {
    let output = run(command);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("nanny: "), "more than one sentence: {said}");
    for part in parts {
        assert!(last.contains(part), "no {part:?} in {last}");
    }
}

const ANY_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn a8_a_busy_port_is_said_so() {
    let house = empty_house();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = serve(house.path(), &["--listen", &address]);
    refused(&mut command, &[&address, "in use", "--listen"]);
    assert!(!house.path().join("state").exists(), "nothing was done before");
}

#[test]
fn a7_a8_a_state_directory_of_no_use_is_named_with_a_way_out() {
    let house = empty_house();
    let state = house.path().join("state").display().to_string();
    let running = Running::start(house.path(), |_| {});
    let first = format!("process {}", running.child.id());
    refused(&mut serve(house.path(), &ANY_PORT), &[&state, "another nanny", &first, "--state-dir"]);
    drop(running);
    // After that one is gone, killed as it was, the next may have it.
    drop(Running::start(house.path(), |_| {}));

    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "precious").unwrap();
    refused(&mut serve(house.path(), &ANY_PORT), &[&state, "not a directory", "--state-dir"]);
    assert_eq!(fs::read(&state).unwrap(), b"precious");

    let mut command = nanny(&["serve", "--state-dir", "/proc/nanny", "--listen", "127.0.0.1:0"]);
    command.arg("--services").arg(house.path().join("services"));
    refused(&mut command, &["/proc/nanny", "--state-dir"]);
}

#[test]
fn a_services_directory_that_is_missing_is_named_with_a_way_out() {
    let house = empty_house();
    let services = house.path().join("services");
    fs::remove_dir(&services).unwrap();
    let services = services.display().to_string();
    refused(&mut serve(house.path(), &ANY_PORT), &[&services, "create it", "--services"]);
    fs::write(&services, "").unwrap();
    refused(&mut serve(house.path(), &ANY_PORT), &[&services, "--services"]);
}

#[test]
fn a8_a_socket_left_over_is_replaced_and_a_live_one_is_not() {
    let house = empty_house();
    let path = house.path().join("nanny.sock");
    let socket = path.display().to_string();
    let with_socket = [&ANY_PORT[..], &["--unix-socket", &socket]].concat();
    drop(UnixListener::bind(&path).unwrap());
    let mut running = Running::of(&mut serve(house.path(), &with_socket));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let elsewhere = empty_house();
    refused(
        &mut serve(elsewhere.path(), &with_socket),
        &[&socket, "listens there", "--unix-socket"],
    );
    running.signal("TERM");
    assert_eq!(running.wait().0, Some(0));
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    refused(&mut serve(house.path(), &with_socket), &[&socket, "another file", "--unix-socket"]);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a5_a_signal_ends_it_before_it_serves_too() {
    let house = empty_house();
    // An engine that takes connections and never answers: it is given seconds, and not waited out.
    let engine = house.path().join("engine.sock");
    let _silent = UnixListener::bind(&engine).unwrap();
    let mut command = serve(house.path(), &ANY_PORT);
    command.env("NANNY_BACKEND", "docker");
    command.env("NANNY_DOCKER_HOST", format!("unix://{}", engine.display()));
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"starting\"") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it started");
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    let mut said = String::new();
    log.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains("before it had started"), "{said}");
}

#[test]
fn localhost_is_an_address_and_any_other_name_is_a_mistake() {
    let house = empty_house();
    let running = Running::of(&mut serve(house.path(), &["--listen", "localhost:0"]));
    assert!(running.address.starts_with("127.0.0.1:"), "{}", running.address);
    assert!(running.get("/health", "").starts_with("HTTP/1.1 200"));
    let output = run(&mut nanny(&["serve", "--listen", "nanny.lan:8080"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("localhost:8080"), "{}", text(&output.stderr));
}

#[test]
fn the_service_manager_is_told_when_it_serves_and_when_it_ends() {
    let house = empty_house();
    let path = house.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let heard = || {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).expect("it says something");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let mut running = Running::start(house.path(), |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
    });
    let address = running.address.clone();
    assert_eq!(heard(), format!("READY=1\nSTATUS=serving on {address}\n"));
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1\n");
    }
    running.signal("TERM");
    assert_eq!(running.wait().0, Some(0));
    let mut last = heard();
    while last == "WATCHDOG=1\n" {
        last = heard();
    }
    assert_eq!(last, "STOPPING=1\nSTATUS=shutting down; services go on running\n");
}

/// A command that finds `sockets` open, as a service manager hands them over: from descriptor 3 on.
fn handed_over(house: &Path, sockets: [OwnedFd; 2], arguments: &[&str]) -> Command {
    let handed = serve(house, arguments);
    let mut command = Command::new("sh");
    let script = r#"LISTEN_PID=$$ LISTEN_FDS=2 exec "$0" "$@" 3<&0 4<&1 </dev/null >/dev/null"#;
    command.args(["-c", script]).arg(handed.get_program()).args(handed.get_args());
    for (name, value) in handed.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let [first, second] = sockets.map(Stdio::from);
    command.stdin(first).stdout(second).stderr(Stdio::piped());
    command
}

#[test]
fn sockets_that_were_handed_over_are_served_and_outlive_the_nanny() {
    let house = empty_house();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let path = house.path().join("nanny.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let request = format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    for _ in 0..2 {
        // Before anybody is there to accept.
        let mut early = TcpStream::connect(&address).unwrap();
        early.write_all(request.as_bytes()).unwrap();
        let mut local = UnixStream::connect(&path).unwrap();
        local.write_all(request.as_bytes()).unwrap();
        let sockets = [tcp.try_clone().unwrap().into(), unix.try_clone().unwrap().into()];
        // What the flags say is not asked: that port is taken.
        let mut command = handed_over(house.path(), sockets, &["--listen", &address]);
        let mut running = Running::of(&mut command);
        assert_eq!(running.address, address);
        for answer in [&mut early as &mut dyn io::Read, &mut local] {
            let mut said = String::new();
            answer.read_to_string(&mut said).unwrap();
            assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        }
        running.signal("TERM");
        assert_eq!(running.wait().0, Some(0));
        assert!(path.exists(), "the socket is its manager's");
    }
}

#[test]
fn sockets_that_were_handed_over_are_no_way_around_the_token() {
    let house = empty_house();
    let socket = |address: &str| OwnedFd::from(TcpListener::bind(address).unwrap());
    let sockets = || [socket("127.0.0.1:0"), socket("0.0.0.0:0")];
    refused(&mut handed_over(house.path(), sockets(), &[]), &["0.0.0.0:", "without a token"]);
    let mut with_token = handed_over(house.path(), sockets(), &[]);
    refused(with_token.env("NANNY_TOKEN", "secret"), &["different ports"]);
    let file = File::create(house.path().join("file")).unwrap();
    let sockets = [socket("127.0.0.1:0"), file.into()];
    refused(&mut handed_over(house.path(), sockets, &[]), &["handed over", "of no use"]);
    let (one, other) = UnixStream::pair().unwrap();
    let sockets = [one.into(), other.into()];
    refused(&mut handed_over(house.path(), sockets, &[]), &["handed over", "does not listen"]);
}

#[test]
fn g16_a_socket_that_was_handed_over_open_to_every_user_asks_for_the_token() {
    let house = empty_house();
    let path = house.path().join("nanny.sock");
    let unix = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let name = format!("nanny-{}", std::process::id());
    let nameless = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let handed = |unix: &UnixListener| {
        let sockets = [tcp.try_clone().unwrap().into(), unix.try_clone().unwrap().into()];
        handed_over(house.path(), sockets, &[])
    };
    let named = path.display().to_string();
    for (socket, name) in [(&unix, named.as_str()), (&nameless, "without a file")] {
        refused(&mut handed(socket), &[name, "without a token", "SocketMode=0660", "--token-file"]);
    }

    let running = Running::of(handed(&unix).env("NANNY_TOKEN", "secret"));
    let address = &running.address;
    for (token, status) in [("", 401), ("authorization: Bearer secret\r\n", 200)] {
        let mut stream = UnixStream::connect(&path).unwrap();
        let head = format!("GET /services HTTP/1.1\r\nhost: {address}\r\n{token}");
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).unwrap();
        let answer = io::read_to_string(stream).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{token}: {answer}");
    }
}

#[test]
fn a_token_that_is_no_text_is_not_taken_for_none() {
    let house = empty_house();
    let mut command = serve(house.path(), &ANY_PORT);
    command.env("NANNY_TOKEN", OsStr::from_bytes(b"secret\xff"));
    refused(&mut command, &["NANNY_TOKEN must hold one word of visible ASCII"]);
}

#[test]
fn h11_a_log_that_cannot_be_written_ends_nobody() {
    let house = empty_house();
    let door = house.path().join("door");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = serve(house.path(), &ANY_PORT);
    command.arg("--unix-socket").arg(&door).stderr(full);
    let mut child = command.spawn().unwrap();
    let mut ask = || {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "{ended:?}");
        let mut stream = UnixStream::connect(&door).ok()?;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok().map(|_| answer)
    };
    let mut answer = None;
    for _ in 0..600 {
        answer = ask();
        if answer.is_some() {
            break;
        }
        #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
        std::thread::sleep(Duration::from_millis(50));
    }
    // One more, after what the first had to log.
    let answers = [answer, ask()].map(|answer| answer.unwrap_or_default());
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 ")), "{answers:?}");
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &id]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
