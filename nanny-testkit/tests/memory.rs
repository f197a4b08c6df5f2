//! The suite against the engine in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nanny_lib::backend::{
    BackendError, ContainerBackend, ContainerSpec, EngineHealth, ErrorKind, LogStream,
    MemoryBackend,
};
use nanny_testkit::conformance::{self, FORGED, Harness, Printed, Program};

const IMAGE: &str = "memory/test:1";
const SOON: Duration = Duration::from_millis(30);
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug)]
struct Memory(MemoryBackend);

#[async_trait]
impl Harness for Memory {
    fn backend(&self) -> Arc<dyn ContainerBackend> {
        Arc::new(self.0.clone())
    }

    fn other_hands(&self) -> Option<Arc<dyn ContainerBackend>> {
        Some(self.backend())
    }

    fn container(&self, name: &str, program: Program) -> Option<ContainerSpec> {
        let engine = &self.0;
        let prints = |lines: Vec<(LogStream, String)>| {
            engine.prints(name, lines);
            engine.exits_after(name, SOON, 0);
        };
        match program {
            Program::Sleeps => {}
            Program::IgnoresStop => engine.stop_takes(name, NEVER),
            Program::Exits(code) => engine.exits_after(name, SOON, code),
            Program::Prints(lines) => prints(lines.into_iter().filter_map(printed).collect()),
            Program::PrintsLong(bytes) => prints(vec![(LogStream::Stdout, "x".repeat(bytes))]),
            Program::PrintsWithoutEnd => prints(vec![(LogStream::Stdout, "no end".to_owned())]),
            Program::ForgesFrames => {
                let forged = String::from_utf8_lossy(FORGED).into_owned();
                prints(vec![(LogStream::Stdout, forged), (LogStream::Stdout, "honest".to_owned())]);
            }
            Program::Missing => {
                let error = BackendError::new(ErrorKind::Invalid, "start", "no such program");
                engine.start_fails(name, error);
            }
            Program::Healthy => engine.set_health(name, EngineHealth::Healthy),
            // Nothing runs here that could do these.
            Program::KeepsPrinting
            | Program::PrintsVariable(_)
            | Program::PrintsFile(_)
            | Program::Resolves(_)
            | Program::Serves(_) => return None,
            _ => return None,
        }
        Some(ContainerSpec::new(name, IMAGE))
    }

    fn missing_image(&self) -> &str {
        "memory/missing:1"
    }

    async fn cleanup(&self, _prefix: &str) {}
}

fn printed(line: Printed) -> Option<(LogStream, String)> {
    match line {
        Printed::Stdout(line) => Some((LogStream::Stdout, line)),
        Printed::Stderr(line) => Some((LogStream::Stderr, line)),
        _ => None,
    }
}

fn main() {
    let engine = MemoryBackend::new().with_images([IMAGE]).with_registry([IMAGE]);
    let harness: Arc<dyn Harness> = Arc::new(Memory(engine));
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, conformance::trials(&harness)).exit();
}
