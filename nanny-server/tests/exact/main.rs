//! What Compose would make of a project, we make, in every field that the engine reports.
//!
//! Each project beside this file is created twice on a real engine, by `docker compose create` and
//! by us from its service directory, and what the engine says about its containers, networks and
//! volumes is compared, field by field; `alike` has the list of what may differ. After that
//! Compose must find nothing to do about what we made, and its `down` must leave nothing behind.
//! What no engine here knows, a project asks of one that only says so, and the requests are compared.
//!
//! `NANNY_PROJECTS=FOLDER` adds the projects of others: every Compose file beneath it, as Compose
//! itself resolves it, with all images replaced. Those that Compose or the engine rejects are
//! counted and passed over.
//!
//! Where there is no engine or no Compose command the tests say so and pass; with `CI=true` or
//! `NANNY_TEST_DOCKER=1` they fail.

mod alike;
mod coverage;
mod foreign;
mod newer;
mod ours;
mod theirs;
mod trial;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exact");
    let newer = here.join("newer");
    let mut projects: Vec<_> = std::fs::read_dir(here.join("projects"))
        .expect("they are beside this file")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    projects.sort();
    assert!(!projects.is_empty(), "there is nothing to compare");
    let mut trials: Vec<_> = projects
        .into_iter()
        .map(|project| {
            let name = project.file_name().map(|name| name.to_string_lossy().into_owned());
            Trial::test(
                format!("we_make_what_compose_makes::{}", name.unwrap_or_default()),
                move || trial::of_own(&project),
            )
        })
        .collect();
    let newer = move || trial::of_newer(&newer);
    trials.push(Trial::test("of_a_newer_engine_we_ask_what_compose_asks", newer));
    let coverage = move || coverage::of(&here);
    trials.push(Trial::test("the_projects_use_every_key_that_is_supported", coverage));
    if let Some(folder) = std::env::var_os("NANNY_PROJECTS") {
        trials.extend(foreign::files(Path::new(&folder)).into_iter().map(|(name, file)| {
            Trial::test(format!("foreign::{name}"), move || trial::of_others(&file))
        }));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    trial::report();
    conclusion.exit_code()
}
