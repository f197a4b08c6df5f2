//! `nanny check`: what is wrong with the service directories, for people and for CI.

use std::fmt::Write as _;
use std::process::ExitCode;

use nanny_lib::manifest::{DirectorySource, Discovery, ManifestSource, Problem, Service, Severity};

use crate::config::{CheckArgs, Places};
use crate::telemetry::plain;

/// Looks for services, prints each problem, and fails if there is an error among them.
pub async fn check(args: CheckArgs) -> ExitCode {
    let root = Places::here().services(args.services);
    let mut source = DirectorySource::new(&root);
    if let Some(home) = args.home {
        source = source.home(home);
    }
    let mut found = source.discover().await;
    found.problems.extend(strange_backends(&found.services));
    let report = Report::new(found);
    let is_service = report.services == 0 && MANIFESTS.iter().any(|name| root.join(name).exists());
    let advice = if is_service { A_SERVICE } else { report.advice() };
    print(&report.lines, &format!("{}: {}{advice}", root.display(), report.summary()));
    if report.errors == 0 && !is_service { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

const MANIFESTS: [&str; 2] = ["service.yaml", "service.yml"];
const A_SERVICE: &str = "\nthis is a service itself: name the directory that it is in";

/// Manifests that name a backend which this nanny does not have, or which cannot run what it says.
fn strange_backends(services: &[Service]) -> Vec<Problem> {
    let strange = |service: &Service| {
        let backend = service.manifest.backend.as_deref()?;
        let has_containers = service.project.parts.values().any(|part| part.needs_image());
        let message = match backend {
            "process" if !has_containers || service.unusable.is_some() => return None,
            "process" => {
                "'backend' is 'process', which runs plain commands, and a Compose file says \
                          what runs; write a 'command' in its place, or leave 'backend' out"
                    .to_owned()
            }
            "docker" | "podman" if has_containers || service.unusable.is_some() => return None,
            "docker" | "podman" => format!(
                "'backend' is '{backend}', which runs containers, and there is no Compose file; \
                 write one, or leave 'backend' out"
            ),
            _ => format!("'backend' is '{backend}'; there are docker, podman and process"),
        };
        let file = MANIFESTS.map(|name| service.origin.join(name));
        let file = file.iter().find(|file| file.exists()).unwrap_or(&file[0]);
        Some(Problem::new(&service.origin, file, (1, 1), message))
    };
    services.iter().filter_map(strange).collect()
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
    use nanny_lib::ServiceName;
    use nanny_lib::backend::ContainerSpec;
    use nanny_lib::manifest::Manifest;
    use nanny_lib::project::Project;

    use super::*;

    #[test]
    fn a_backend_that_is_not_there_or_runs_something_else_is_an_error() {
        let said = |backend: Option<&str>, image: Option<&str>| {
            let name = ServiceName::new("chat").unwrap();
            let mut manifest = Manifest::new(name);
            manifest.backend = backend.map(str::to_owned);
            let spec =
                ContainerSpec { image: image.map(str::to_owned), ..ContainerSpec::default() };
            let service = Service::new(manifest, Project::single("chat", spec), "services/chat");
            strange_backends(&[service]).first().map(ToString::to_string)
        };
        for backend in [None, Some("process")] {
            assert_eq!(said(backend, None), None);
        }
        assert!(said(Some("process"), Some("chat:1")).is_some());
        for backend in [None, Some("docker"), Some("podman")] {
            assert_eq!(said(backend, Some("chat:1")), None);
        }
        assert_eq!(
            said(Some("dcoker"), Some("chat:1")).as_deref(),
            Some(
                "services/chat/service.yaml:1:1: 'backend' is 'dcoker'; there are docker, podman \
                 and process"
            )
        );
        let both = said(Some("docker"), None).unwrap();
        assert!(both.contains("there is no Compose file; write one, or leave"), "{both}");
    }

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
