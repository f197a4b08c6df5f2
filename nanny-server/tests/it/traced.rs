//! What the binary asks of the system while it is attacked, as `strace` sees it.

use std::fs;
use std::process::{Command, Stdio};

use crate::binary::{Running, nanny, not_tested};

/// Files that any process reads without being told to.
const OF_THE_SYSTEM: [&str; 6] = ["/proc/", "/sys/", "/etc/", "/lib", "/usr/", "/dev/null"];

#[test]
fn g12_h6_h14_requests_and_files_open_nothing_else_and_run_no_program() {
    let has_strace = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    if !has_strace.is_ok_and(|status| status.success()) {
        return not_tested("there is no strace (apt-get install strace)");
    }
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("services/web");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("service.yaml"), "name: web\nenv_file: own.env\n").unwrap();
    let dotenv = "A=$(touch /tmp/owned)\nB=`id`\nC='; id\nid'\nD=%s%n\nE=\"${A} && id\"\n";
    fs::write(home.join(".env"), dotenv).unwrap();
    fs::write(home.join("own.env"), dotenv).unwrap();
    let compose = "services:\n  web:\n    image: 'x:${A}'\n    environment: {A: '$A', E: $E}\n    build: \
                   https://evil.test/x.git\ninclude: [https://evil.test/x.git, oci://evil.test/x]\n";
    fs::write(home.join("docker-compose.yml"), compose).unwrap();

    let calls = directory.path().join("calls");
    let mut command = Command::new("strace");
    let binary = nanny(&[]);
    for (name, value) in binary.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // Cargo's, where the loader would look first.
    command.env_remove("LD_LIBRARY_PATH");
    // With -D the child is the nanny, and strace hangs on to it.
    command.args(["-D", "-f", "-qq", "-s", "300", "-e", "trace=open,openat,execve,connect", "-o"]);
    command.arg(&calls).arg(binary.get_program());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--services"]);
    command.arg(directory.path().join("services"));
    command.arg("--state-dir").arg(directory.path().join("state"));
    let mut running = Running::of(&mut command);
    for name in
        ["..", "..%2f..%2fetc%2fshadow", "%2fetc%2fshadow", "web%00", "web;id", "$(id)", "%60id%60"]
    {
        for route in ["", "/status", "/logs"] {
            running.get(&format!("/services/{name}{route}"), "");
        }
        running.ask("POST", &format!("/services/{name}/start"), "");
    }
    assert!(running.ask("POST", "/rediscover", "").starts_with("HTTP/1.1 200"));
    running.signal("TERM");
    running.wait();

    let calls = fs::read_to_string(&calls).unwrap();
    let made = |call: &str| {
        let call = format!("{call}(");
        calls.lines().filter(move |line| line.contains(&call)).collect::<Vec<_>>()
    };
    assert_eq!(made("execve").len(), 1, "it ran a program: {:#?}", made("execve"));
    let connects: Vec<_> =
        made("connect").into_iter().filter(|line| !line.contains("AF_UNIX")).collect();
    assert!(connects.is_empty(), "{connects:#?}");
    let opened: Vec<_> = made("openat").into_iter().chain(made("open")).collect();
    assert!(opened.iter().any(|line| line.contains("/web/.env")), "it saw nothing");
    let ours = directory.path().to_string_lossy().into_owned();
    for line in opened {
        let path = line.split('"').nth(1).unwrap_or_default();
        let of_the_system = OF_THE_SYSTEM.iter().any(|place| path.starts_with(place));
        let allowed =
            path.starts_with(&ours) || of_the_system || path.ends_with("/.docker/config.json");
        assert!(allowed && !path.contains("shadow") && !path.contains(".."), "{line}");
    }
}
