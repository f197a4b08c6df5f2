//! What a test's container does, in the words of a shell.

use std::time::Duration;

use nanny_lib::backend::{ContainerSpec, Healthcheck, HealthcheckTest};

use super::{Printed, Program};

/// A container called `name` that runs `program`, for engines that run images: of `image`, which has
/// busybox's programs.
#[must_use]
pub fn in_a_shell(name: &str, image: &str, program: Program) -> ContainerSpec {
    let mut spec = ContainerSpec::new(name, image);
    let script = match program {
        Program::Sleeps => sleeps(),
        Program::IgnoresStop => "trap '' TERM; while :; do sleep 1; done".to_owned(),
        Program::Exits(code) => format!("exit {code}"),
        Program::Prints(lines) => lines.into_iter().map(print).collect(),
        Program::KeepsPrinting => {
            "n=0; while :; do echo line $n; n=$((n+1)); usleep 100000; done".to_owned()
        }
        Program::PrintsLong(bytes) => {
            format!("head -c {bytes} /dev/zero | tr '\\0' x; echo")
        }
        Program::PrintsWithoutEnd => "printf 'no end'".to_owned(),
        Program::ForgesFrames => {
            r"printf '\001\000\000\000\177\177\177\177forged\nhonest\n'".to_owned()
        }
        Program::PrintsVariable(name) => format!("printf '%s\\n' \"${name}\""),
        Program::PrintsFile(path) => format!("cat '{path}'; echo"),
        Program::Resolves(name) => format!(
            "n=0; until nslookup {name}; do n=$((n+1)); [ $n -lt 60 ] || exit 1; sleep 0.3; done"
        ),
        Program::Serves(port) => {
            // As process 1 it would ignore the request to end.
            format!("mkdir -p /www; httpd -f -p {port} -h /www & trap 'exit 0' TERM; wait")
        }
        Program::Missing => {
            spec.entrypoint = Some(vec!["/no/such/program".to_owned()]);
            String::new()
        }
        Program::Healthy => {
            let mut check = Healthcheck::new(HealthcheckTest::Shell("true".to_owned()));
            check.interval = Some(Duration::from_secs(1));
            spec.healthcheck = Some(check);
            sleeps()
        }
    };
    spec.command = Some(vec!["sh".to_owned(), "-c".to_owned(), script]);
    spec
}

fn sleeps() -> String {
    "trap 'exit 0' TERM; sleep 3600 & wait".to_owned()
}

fn print(line: Printed) -> String {
    match line {
        Printed::Stdout(line) => format!("echo '{line}'\n"),
        Printed::Stderr(line) => format!("echo '{line}' >&2\n"),
    }
}
