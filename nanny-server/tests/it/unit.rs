//! The systemd units that are shipped.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::binary::text;

fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd")
}

/// Asks `systemd-analyze`. Where there is none a test cannot run, and says so.
fn analyze(arguments: &[&str], directory: &Path) -> Option<Output> {
    let asked = Command::new("systemd-analyze").args(arguments).current_dir(directory).output();
    match asked {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let trouble = "there is no systemd-analyze (Debian: apt-get install systemd)";
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{trouble}");
            let _ = writeln!(std::io::stderr(), "NOT TESTED: {trouble}");
            None
        }
        Err(error) => panic!("systemd-analyze: {error}"),
    }
}

#[test]
fn j2_the_unit_is_exposed_no_more_than_it_must_be() {
    // In tenths: 2.0 of 10.
    let arguments = ["security", "--offline=yes", "--threshold=20", "--no-pager", "nanny.service"];
    let Some(output) = analyze(&arguments, &units()) else { return };
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("Overall exposure level"), "{output:?}");
}

#[test]
fn j2_systemd_finds_nothing_wrong_with_the_units() {
    let directory = tempfile::tempdir().unwrap();
    for unit in ["nanny.service", "nanny.socket"] {
        let shipped = fs::read_to_string(units().join(unit)).unwrap();
        // Looked up on the machine that looks, where it is not installed.
        let unit_of_here = shipped.replace("/usr/local/bin/nanny", env!("CARGO_BIN_EXE_nanny"));
        fs::write(directory.path().join(unit), unit_of_here).unwrap();
    }
    let more = directory.path().join("nanny.service.d");
    fs::create_dir(&more).unwrap();
    for further in ["measured-gpus.conf", "plain-processes.conf"] {
        fs::copy(units().join(further), more.join(further)).unwrap();
    }
    let verify = ["verify", "--man=no", "./nanny.service", "./nanny.socket"];
    let Some(output) = analyze(&verify, directory.path()) else { return };
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
    // And it would find something: a directive that is none.
    let path = directory.path().join("nanny.service");
    let odd = fs::read_to_string(&path).unwrap().replace("KillMode=", "KilMode=");
    fs::write(path, odd).unwrap();
    let output = analyze(&verify, directory.path()).expect("it was there just now");
    assert!(text(&output.stderr).contains("KilMode"), "{}", text(&output.stderr));
    fs::write(more.join("plain-processes.conf"), "[Service]\nDelgate=yes\n").unwrap();
    let output = analyze(&verify, directory.path()).expect("it was there just now");
    assert!(text(&output.stderr).contains("Delgate"), "{}", text(&output.stderr));
}

#[test]
fn the_unit_ends_the_nanny_and_nothing_else() {
    let unit = fs::read_to_string(units().join("nanny.service")).unwrap();
    for line in ["Type=notify", "KillMode=process", "OOMPolicy=continue", "LimitCORE=0"] {
        assert!(unit.lines().any(|other| other == line), "{line} is missing");
    }
}
