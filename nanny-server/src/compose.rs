//! `nanny compose`: what Compose files come to mean, for people and for comparison.

mod args;
mod source;
mod yaml;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use nanny_compose::{DiskFiles, Problem, Project, hash, load};

pub use self::args::ConfigArgs;
use self::source::Source;
use crate::telemetry::plain;

/// What to do with Compose files.
#[derive(Debug, Clone, Subcommand)]
#[non_exhaustive]
pub enum ComposeCommand {
    /// Prints the project that Compose files describe, every default filled in.
    Config(ConfigArgs),
}

/// Does it; fails if the files are not sound.
#[must_use]
pub fn compose(command: ComposeCommand) -> ExitCode {
    match command {
        ComposeCommand::Config(args) => config(args),
    }
}

fn config(args: ConfigArgs) -> ExitCode {
    let form = args.form();
    let source = match Source::here() {
        Ok(source) => source,
        Err(error) => {
            complain(&format!("nanny: there is no working directory: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    let loaded = load(&source.request(args), &|name| source.variable(name), &DiskFiles);
    let (warnings, problems) = match &loaded {
        Ok(loaded) => (&loaded.warnings, &[][..]),
        Err(failed) => (&failed.warnings, failed.problems.as_slice()),
    };
    complain(&lines(warnings, "warning: "));
    complain(&lines(problems, ""));
    let Ok(loaded) = loaded else { return ExitCode::FAILURE };
    print(&match form {
        Form::Yaml => yaml::of_json(loaded.project.to_json()),
        Form::Json => format!("{}\n", loaded.project.to_json()),
        Form::Hashes => hashes(&loaded.project),
    });
    ExitCode::SUCCESS
}

/// How to print a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Yaml,
    Json,
    Hashes,
}

/// A line each, in the order of lines: what, its name in the file, its config hash.
fn hashes(project: &Project) -> String {
    let services = project.services.iter().map(|(name, it)| ("service", name, hash::service(it)));
    let networks = project.networks.iter().map(|(name, it)| ("network", name, hash::network(it)));
    let volumes = project.volumes.iter().map(|(name, it)| ("volume", name, hash::volume(it)));
    let all = networks.chain(services).chain(volumes);
    all.fold(String::new(), |mut lines, (what, name, hash)| {
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{what} {name} {hash}");
        lines
    })
}

fn lines(problems: &[Problem], kind: &str) -> String {
    problems.iter().fold(String::new(), |mut lines, problem| {
        let Problem { file, line, column, path, message } = problem;
        let place = if path.is_empty() { String::new() } else { format!("{}: ", plain(path)) };
        let _ = writeln!(
            lines,
            "{}:{}:{}: {kind}{place}{}",
            shown(file),
            line.max(&1),
            column.max(&1),
            plain(message)
        );
        lines
    })
}

fn shown(file: &Path) -> String {
    plain(&file.to_string_lossy())
}

/// Whoever reads no further has seen enough.
fn print(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}

#[expect(clippy::print_stderr, reason = "this is what the command has to say about its input")]
fn complain(text: &str) {
    eprint!("{text}");
}
