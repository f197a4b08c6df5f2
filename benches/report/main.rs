//! The report: what the nanny costs, beside what the bare engine and Compose cost, in one run.
//!
//! `scripts/bench` runs it and writes `BENCHMARKS.md`; `--samples N` says how often each engine
//! operation is timed, and `--test` does everything once, quickly, and writes nothing.

#![expect(clippy::print_stdout, reason = "printing is what it does")]

mod compose;
mod control;
mod files;
mod house;
mod http;
mod load;
mod machine;
mod nanny;
mod numbers;
mod steps;

use std::env;
use std::fs;
use std::path::Path;

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// How often each engine operation is timed.
    samples: usize,
    /// How many services "many" is.
    services: usize,
    /// How long what goes on is watched, in seconds.
    seconds: u64,
    /// Only to see that it works.
    test: bool,
}

fn main() {
    let scale = scale();
    let mut report = String::new();
    // One by one, so that something is there if it breaks off.
    let mut add = |section: String| {
        print!("{section}");
        report += &section;
    };
    add(machine::heading());
    add(steps::report(scale));
    add(files::report(scale));
    if machine::engine_answers() {
        // The Compose CLI comes with the engine.
        add(compose::report(scale));
        add(control::report(scale));
        add(nanny::report(scale));
    } else {
        let missing = "no engine answers: nothing that needs one was measured; see scripts/bench";
        assert!(env::var("CI").as_deref() != Ok("true"), "{missing}");
        add(format!("{missing}\n"));
    }
    if !scale.test {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        fs::write(root.join("BENCHMARKS.md"), report).expect("the repository is ours");
    }
}

fn scale() -> Scale {
    let arguments: Vec<_> = env::args().collect();
    if arguments.iter().any(|argument| argument == "--test") {
        return Scale { samples: 1, services: 50, seconds: 1, test: true };
    }
    let given = arguments.iter().position(|argument| argument == "--samples");
    let samples = given.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(15);
    Scale { samples, services: 1_000, seconds: 20, test: false }
}
