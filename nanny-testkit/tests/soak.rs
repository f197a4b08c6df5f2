//! The shortest of soaks: one storm, one calm.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use nanny_testkit::dockerd::Dockerd;

#[test]
fn one_storm_breaks_no_promise() {
    let soak = Path::new(env!("CARGO_BIN_EXE_soak"));
    // A build of the whole workspace puts it there.
    let nanny = soak.with_file_name("nanny");
    let missing = || (!nanny.is_file()).then(|| format!("{} is not there", nanny.display()));
    if let Some(trouble) = Dockerd::unavailable().or_else(missing) {
        let is_set = |name| std::env::var(name).is_ok_and(|value| value == "true" || value == "1");
        assert!(!is_set("CI") && !is_set("NANNY_TEST_DOCKER"), "{trouble}");
        let _ = writeln!(std::io::stderr(), "NOT TESTED: {trouble}");
        return;
    }
    let output = Command::new(soak).args(["--minutes", "0.1", "--seed", "1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with(" minutes, 0 violations\n"), "{said}");
}
