//! `nanny check`: what is wrong with the service directories, for people and for CI.

use std::fmt::Write as _;
use std::process::ExitCode;

use nanny_lib::manifest::{DirectorySource, Discovery, ManifestSource, Problem, Severity};

use crate::config::{CheckArgs, Places};
use crate::telemetry::plain;

/// Looks for services, prints each problem, and fails if there is an error among them.
pub async fn check(args: CheckArgs) -> ExitCode {
    let root = Places::here().services(args.services);
    let mut source = DirectorySource::new(&root);
    if let Some(home) = args.home {
        source = source.home(home);
    }
    let report = Report::new(source.discover().await);
    print(&report.lines, &format!("{}: {}{}", root.display(), report.summary(), report.advice()));
    if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the command's output")]
fn print(lines: &str, summary: &str) {
    print!("{lines}");
    eprintln!("{summary}");
}

/// What there is to say about a discovery.
#[derive(Debug)]
struct Report {
    lines: String,
    services: usize,
    errors: usize,
    hints: usize,
}

impl Report {
    fn new(mut found: Discovery) -> Self {
        let place = |problem: &Problem| (problem.path.clone(), problem.line, problem.column);
        found.problems.sort_by_key(place);
        let mut report =
            Self { lines: String::new(), services: found.services.len(), errors: 0, hints: 0 };
        for problem in &found.problems {
            let Problem { path, line, column, message, .. } = problem;
            let hint = match problem.severity {
                Severity::Hint => {
                    report.hints += 1;
                    "hint: "
                }
                _ => {
                    report.errors += 1;
                    ""
                }
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                report.lines,
                "{}:{line}:{column}: {hint}{}",
                plain(&path.to_string_lossy()),
                plain(message)
            );
        }
        report
    }

    fn summary(&self) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (services, errors) = (count(self.services, "service"), count(self.errors, "error"));
        format!("{services}, {errors}, {}", count(self.hints, "hint"))
    }

    /// For a directory in which nothing is wrong because there is nothing.
    fn advice(&self) -> &'static str {
        let empty = self.services == 0 && self.errors == 0;
        if empty { "\nhint: a service is a directory in there with a service.yaml" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_listed_by_place_and_counted_by_severity() {
        let error = Problem::new("a", "a/service.yaml", (12, 3), "`ports` must be a list");
        let hint = Problem::new("a", "a/service.yaml", (2, 1), "did you mean `ports`?").as_hint();
        let report = Report::new(Discovery::new(Vec::new(), vec![error, hint]));
        assert_eq!(
            report.lines,
            "a/service.yaml:2:1: hint: did you mean `ports`?\n\
             a/service.yaml:12:3: `ports` must be a list\n"
        );
        assert_eq!(report.summary(), "0 services, 1 error, 1 hint");
    }
}
