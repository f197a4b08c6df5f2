//! The suite against a real engine: the Podman that its own programs would talk to.
//!
//! Needs the image `nanny-test/busybox:1`, which `scripts/engines` makes. Without an engine it
//! says so and passes, unless `CI=true` or `NANNY_TEST_PODMAN=1` ask for more.

mod cli;
mod dialect;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nanny_backend_podman::{PodmanBackend, PodmanConfig};
use nanny_lib::backend::{ContainerBackend, ContainerSpec, Healthcheck, HealthcheckTest, Selector};
use nanny_testkit::conformance::{self, Harness, Printed, Program};

const IMAGE: &str = "nanny-test/busybox:1";

#[derive(Debug)]
struct Real {
    config: PodmanConfig,
    backend: Arc<dyn ContainerBackend>,
}

#[async_trait]
impl Harness for Real {
    fn backend(&self) -> Arc<dyn ContainerBackend> {
        Arc::clone(&self.backend)
    }

    fn other_hands(&self) -> Option<Arc<dyn ContainerBackend>> {
        let other = PodmanBackend::new(self.config.clone()).ok()?;
        Some(Arc::new(other))
    }

    fn container(&self, name: &str, program: Program) -> Option<ContainerSpec> {
        let mut spec = ContainerSpec::new(name, IMAGE);
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
                "for n in 1 2 3 4 5 6 7 8 9; do nslookup {name} && exit 0; sleep 0.2; done; exit 1"
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
            _ => return None,
        };
        spec.command = Some(vec!["sh".to_owned(), "-c".to_owned(), script]);
        Some(spec)
    }

    fn missing_image(&self) -> &str {
        "127.0.0.1:1/nanny/missing:1"
    }

    async fn cleanup(&self, prefix: &str) {
        // The trait removes no images, and no volumes: data is nobody's to throw away but its owner's.
        cli::remove_images_and_volumes(&self.config, prefix).await;
    }
}

fn sleeps() -> String {
    "trap 'exit 0' TERM; sleep 3600 & wait".to_owned()
}

fn print(line: Printed) -> String {
    match line {
        Printed::Stdout(line) => format!("echo '{line}'\n"),
        Printed::Stderr(line) => format!("echo '{line}' >&2\n"),
        _ => String::new(),
    }
}

/// Whether the engine answers and has the image, or why not.
async fn reachable(backend: &dyn ContainerBackend) -> Result<(), String> {
    backend.list(&Selector::All).await.map_err(|error| error.to_string())?;
    let images = backend.images().ok_or("no images")?;
    match images.inspect(IMAGE).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(format!("the engine has no image {IMAGE}")),
        Err(error) => Err(error.to_string()),
    }
}

#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let config = PodmanConfig::from_env();
    let backend = PodmanBackend::new(config.clone()).expect("the address is one of an engine");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    if let Err(reason) = runtime.block_on(reachable(&backend)) {
        let set = |name: &str, value: &str| env::var(name).is_ok_and(|is| is == value);
        let must_run = set("CI", "true") || set("NANNY_TEST_PODMAN", "1");
        eprintln!("\n*** THE PODMAN CONFORMANCE SUITE DID NOT RUN: {reason} ***\n");
        return if must_run { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let dialect = dialect::trials(&config, &backend);
    let harness: Arc<dyn Harness> = Arc::new(Real { config, backend: Arc::new(backend) });
    let trials = conformance::trials(&harness).into_iter().chain(dialect).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
