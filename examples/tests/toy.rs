//! The conformance suite against the backend of `toy_backend.rs`: all that it takes to run it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use nanny_examples::toy_backend::{Program as Toy, Run, ToyBackend};
use nanny_lib::backend::{ContainerBackend, ContainerSpec};
use nanny_testkit::conformance::{self, FORGED, Harness, Printed, Program};

#[derive(Debug)]
struct Tasks(ToyBackend);

#[async_trait]
impl Harness for Tasks {
    fn backend(&self) -> Arc<dyn ContainerBackend> {
        Arc::new(self.0.clone())
    }

    fn other_hands(&self) -> Option<Arc<dyn ContainerBackend>> {
        Some(self.backend())
    }

    fn container(&self, name: &str, program: Program) -> Option<ContainerSpec> {
        let command = match program {
            Program::Sleeps => vec!["sleep".to_owned()],
            Program::IgnoresStop => vec!["ignore stop".to_owned()],
            Program::Exits(code) => vec!["exit".to_owned(), code.to_string()],
            Program::Prints(lines) => {
                let lines = lines.into_iter().filter_map(printed);
                [String::from("print")].into_iter().chain(lines).collect()
            }
            Program::KeepsPrinting => vec!["keep printing".to_owned()],
            Program::PrintsLong(bytes) => vec!["print long".to_owned(), bytes.to_string()],
            Program::PrintsWithoutEnd => vec!["print".to_owned(), "1no end".to_owned()],
            Program::ForgesFrames => vec!["forge".to_owned()],
            Program::PrintsVariable(name) => vec!["print variable".to_owned(), name],
            Program::Missing => vec!["no such program".to_owned()],
            // Tasks have no files, no names on a network, no ports, and no health checks.
            Program::PrintsFile(_)
            | Program::Resolves(_)
            | Program::Serves(_)
            | Program::Healthy => {
                return None;
            }
            _ => return None,
        };
        let name = name.to_owned();
        Some(ContainerSpec { name, command: Some(command), ..ContainerSpec::default() })
    }

    fn missing_image(&self) -> &str {
        "toy/missing:1"
    }

    async fn cleanup(&self, _prefix: &str) {}
}

/// The line, after the number of its stream.
fn printed(line: Printed) -> Option<String> {
    match line {
        Printed::Stdout(line) => Some(format!("1{line}")),
        Printed::Stderr(line) => Some(format!("2{line}")),
        _ => None,
    }
}

const PROGRAMS: [(&str, Toy); 8] = [
    ("sleep", |run| sleep(run).boxed()),
    ("ignore stop", |_| std::future::pending().boxed()),
    ("exit", |run| async move { number(&run) }.boxed()),
    ("print", |run| async move { print(&run) }.boxed()),
    ("keep printing", |run| keep_printing(run).boxed()),
    ("print long", |run| async move { print_long(&run) }.boxed()),
    ("print variable", |run| async move { print_variable(&run) }.boxed()),
    ("forge", |run| async move { forge(&run) }.boxed()),
];

async fn sleep(mut run: Run) -> i64 {
    run.asked_to_end().await;
    0
}

fn print(run: &Run) -> i64 {
    for argument in &run.arguments {
        match argument.strip_prefix('1') {
            Some(line) => run.print(line),
            None => run.complain(&argument[1..]),
        }
    }
    0
}

async fn keep_printing(mut run: Run) -> i64 {
    for line in 0.. {
        run.print(format!("line {line}"));
        let asked = tokio::time::timeout(Duration::from_millis(100), run.asked_to_end());
        if asked.await.is_ok() {
            break;
        }
    }
    0
}

fn print_long(run: &Run) -> i64 {
    run.print("x".repeat(usize::try_from(number(run)).expect("a size")));
    0
}

fn print_variable(run: &Run) -> i64 {
    let name = run.arguments.first().expect("the name of a variable");
    let value = run.environment.0.get(name).cloned().flatten();
    run.print(value.expect("the variable is set"));
    0
}

fn forge(run: &Run) -> i64 {
    run.print(FORGED);
    run.print("honest");
    0
}

fn number(run: &Run) -> i64 {
    run.arguments.first().and_then(|number| number.parse().ok()).expect("a number")
}

fn main() {
    let harness: Arc<dyn Harness> = Arc::new(Tasks(ToyBackend::new(PROGRAMS)));
    let arguments = libtest_mimic::Arguments::from_args();
    libtest_mimic::run(&arguments, conformance::trials(&harness)).exit();
}
