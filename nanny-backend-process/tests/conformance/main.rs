//! The suite against real processes; this program is their shim.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use nanny_backend_process::{ProcessBackend, ProcessConfig, shim};
use nanny_lib::backend::{ContainerBackend, ContainerSpec};
use nanny_testkit::conformance::{self, Harness, Printed, Program};

#[derive(Debug)]
struct Plain {
    directory: PathBuf,
    backend: Arc<dyn ContainerBackend>,
}

fn backend(directory: &PathBuf) -> Arc<dyn ContainerBackend> {
    Arc::new(ProcessBackend::new(ProcessConfig::new(directory)))
}

#[async_trait]
impl Harness for Plain {
    fn backend(&self) -> Arc<dyn ContainerBackend> {
        Arc::clone(&self.backend)
    }

    fn other_hands(&self) -> Option<Arc<dyn ContainerBackend>> {
        Some(backend(&self.directory))
    }

    fn container(&self, name: &str, program: Program) -> Option<ContainerSpec> {
        let script = match program {
            // Not a shell with a trap: what it is still starting would not hear of a stop.
            Program::Sleeps => return Some(command(name, &["sleep", "3600"])),
            Program::IgnoresStop => "trap '' TERM; while :; do sleep 1; done".to_owned(),
            Program::Exits(code) => format!("exit {code}"),
            Program::Prints(lines) => lines.into_iter().map(print).collect(),
            Program::KeepsPrinting => {
                // With some work in it: the kernel counts processor time in hundredths of seconds.
                "n=0; while :; do echo line $n; n=$((n+1)); sleep 0.1; \
                 i=0; while [ $i -lt 4000 ]; do i=$((i+1)); done; done"
                    .to_owned()
            }
            Program::PrintsLong(bytes) => format!("head -c {bytes} /dev/zero | tr '\\0' x; echo"),
            Program::PrintsWithoutEnd => "printf 'no end'".to_owned(),
            Program::PrintsVariable(name) => format!("printf '%s\\n' \"${name}\""),
            Program::Missing => return Some(command(name, &["/no/such/program"])),
            // A process has no terminal, no files of its own, no name and no health check; and
            // none of its ports has to be published.
            _ => return None,
        };
        Some(command(name, &["sh", "-c", &script]))
    }

    fn missing_image(&self) -> &str {
        "there are no images"
    }

    async fn cleanup(&self, _prefix: &str) {}
}

fn command(name: &str, words: &[&str]) -> ContainerSpec {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    ContainerSpec { name: name.to_owned(), command: Some(command), ..ContainerSpec::default() }
}

fn print(line: Printed) -> String {
    match line {
        Printed::Stdout(line) => format!("echo '{line}'\n"),
        Printed::Stderr(line) => format!("echo '{line}' >&2\n"),
        _ => String::new(),
    }
}

fn main() -> ExitCode {
    if shim::is_asked() {
        return shim::main();
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let directory = tempfile::tempdir().expect("there is a place for temporary files");
    // Not its own yet, and to be made on the way.
    let processes = directory.path().join("state").join("processes");
    let harness = Plain { backend: backend(&processes), directory: processes };
    let harness: Arc<dyn Harness> = Arc::new(harness);
    libtest_mimic::run(&arguments, conformance::trials(&harness)).exit_code()
}
