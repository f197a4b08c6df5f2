//! The loader against Docker Compose 2.40.3, a test a case.
//!
//! `ours` are the cases in `tests/cases`; `real` are files of real projects, which lie beside the
//! workspace, in `../../shared/compose`, and are nobody's to copy: where they are absent the run
//! says so, and fails if `CI=true`. With `NANNY_GOLDEN=FILE` the cases of that file are run
//! instead, whose files lie in the folder `corpus` beside it, or in the cases themselves.
//!
//! A case passes if the projects are identical, byte for byte, and ours means the same when it is
//! read again, or if both refuse it. What only one of the two refuses is written down: see
//! [`refusals`].

mod case;
mod difference;
mod refusals;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Trial};

use case::Case;
use difference::Outcome;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut trials = Vec::new();
    let mut is_complete = true;
    if let Some(foreign) = env::var_os("NANNY_GOLDEN") {
        trials.extend(trials_of("foreign", &PathBuf::from(foreign), &tally));
    } else {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        trials.extend(trials_of("ours", &here.join("tests/cases/golden.jsonl"), &tally));
        let real = here.join("../../shared/compose/golden.jsonl");
        if real.exists() {
            trials.extend(trials_of("real", &real, &tally));
        } else {
            say(&format!("*** NOT RUN, real files: there is no {} ***", real.display()));
            is_complete = env::var("CI").as_deref() != Ok("true");
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    say(&tally.lock().expect("no test panics with it").to_string());
    if is_complete { conclusion.exit_code() } else { ExitCode::FAILURE }
}

fn trials_of(set: &str, golden: &Path, tally: &Arc<Mutex<Tally>>) -> Vec<Trial> {
    let text = std::fs::read_to_string(golden).expect("the cases can be read");
    let corpus = golden.with_file_name("corpus");
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let trial = |line: &str| {
        let case = Case::parse(line, &corpus);
        let (name, tally) = (format!("{set}/{}", case.name), Arc::clone(tally));
        Trial::test(name.clone(), move || {
            let outcome = case.judge();
            let verdict = refusals::judge(&name, &outcome);
            tally.lock().expect("no test panics with it").add(&outcome);
            verdict.map_err(Into::into)
        })
    };
    lines.map(trial).collect()
}

/// What came of the cases that were run.
#[derive(Debug, Default)]
struct Tally {
    identical: usize,
    refused_by_both: usize,
    stricter: usize,
    laxer: usize,
    different: usize,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Identical | Outcome::Lossy(_) => &mut self.identical,
            Outcome::RefusedByBoth => &mut self.refused_by_both,
            Outcome::Stricter(_) => &mut self.stricter,
            Outcome::Laxer(_) => &mut self.laxer,
            Outcome::Different(_) => &mut self.different,
        } += 1;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { identical, refused_by_both, stricter, laxer, different } = self;
        write!(
            f,
            "golden: {identical} identical, {refused_by_both} refused by both, \
             {stricter} only by us, {laxer} only by Compose, {different} different"
        )
    }
}

#[expect(clippy::print_stderr, reason = "what was not run must be seen")]
fn say(line: &str) {
    eprintln!("{line}");
}
