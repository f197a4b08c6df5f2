//! Runs the simulation: `simulate [--seeds N] [--from SEED] [--first] [--trace SEED]`.
//!
//! Prints each seed that breaks a promise, with the line that repeats it, and the trace of the
//! first. With `--first` it ends at the first. The last line is `N seeds, V violations`; exit 1
//! where V > 0.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::process::ExitCode;
use std::sync::Mutex;

use nanny_testkit::simulation;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            eprintln!(
                "{wrong}\nusage: simulate [--seeds N] [--from SEED] [--first] [--trace SEED]"
            );
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = options.trace {
        print!("{}", simulation::trace(seed));
        return if simulation::run(seed).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let first = Mutex::new(None);
    let seeds = options.from..options.from.saturating_add(options.seeds);
    let broken = simulation::run_many(seeds, |seed, how| {
        println!("seed {seed}: {how}");
        println!("  again: cargo run --release -p nanny-testkit --bin simulate -- --trace {seed}");
        if let Ok(mut first) = first.lock() {
            first.get_or_insert(seed);
        }
        !options.first
    });
    if let Ok(Some(seed)) = first.into_inner()
        && !options.first
    {
        print!("{}", simulation::trace(seed));
    }
    println!("{} seeds, {broken} violations", options.seeds);
    if broken > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

struct Options {
    seeds: u64,
    from: u64,
    first: bool,
    trace: Option<u64>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { seeds: 1000, from: 0, first: false, trace: None };
        while let Some(name) = arguments.next() {
            if name == "--first" {
                options.first = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a number"))?;
            let number = value.parse().map_err(|_| format!("{name} {value}: not a number"))?;
            match name.as_str() {
                "--seeds" => options.seeds = number,
                "--from" => options.from = number,
                "--trace" => options.trace = Some(number),
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }
}
