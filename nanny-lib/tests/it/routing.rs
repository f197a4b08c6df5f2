//! Which backend a service goes to, and what one backend is to the services of another.

use std::sync::Arc;
use std::time::Duration;

use nanny_lib::backend::{Capabilities, ContainerSpec, MemoryBackend, RestartPolicy};
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::project::Project;
use nanny_lib::{Error, Nanny, StartOptions, Status, StopOptions};

use crate::house::{cpu, gpu, name};

/// Two engines for images and, between them, one for commands.
struct Engines {
    first: MemoryBackend,
    commands: MemoryBackend,
    second: MemoryBackend,
}

impl Engines {
    fn new() -> Self {
        let engine = |name: &str| MemoryBackend::new().with_name(name);
        let plain = Capabilities::default();
        Self {
            first: engine("first"),
            commands: engine("commands").with_capabilities(plain),
            second: engine("second"),
        }
    }

    async fn nanny(&self, services: impl IntoIterator<Item = Service>) -> Nanny {
        let mut builder = Nanny::builder().source(FixedSource::new(services));
        for engine in [&self.commands, &self.first, &self.second] {
            builder = builder.backend(Arc::new(engine.clone()));
        }
        builder.start().await.expect("a nanny starts")
    }

    fn running(&self) -> [Vec<String>; 3] {
        [&self.first, &self.commands, &self.second].map(MemoryBackend::running)
    }
}

/// A service that is a plain command.
fn command(service: &str, needs_gpu: bool) -> Service {
    let command = Some(vec!["serve".to_owned()]);
    let spec = ContainerSpec { name: service.to_owned(), command, ..ContainerSpec::default() };
    let mut manifest = Manifest::new(name(service));
    manifest.gpu_required = needs_gpu;
    Service::new(manifest, Project::single(service, spec), service)
}

#[tokio::test(start_paused = true)]
async fn a_command_that_ends_is_run_again_as_its_manifest_says() {
    let engines = Engines::new();
    let mut service = command("c", false);
    let mut project = (*service.project).clone();
    let part = project.parts.get_mut("main").expect("it has one part");
    part.restart = RestartPolicy::OnFailure { max_retries: None };
    service.project = project.into();
    let nanny = engines.nanny([service]).await;
    start(&nanny, "c").await;
    engines.commands.exit("c", 1);
    nanny.wait_until(|_| engines.commands.runs("c") == 2).await.unwrap();
    nanny.wait_until(|seen| seen.services["c"].status == Status::Running).await.unwrap();
    engines.commands.exit("c", 0);
    nanny.wait_until(|seen| seen.services["c"].status == Status::Stopped).await.unwrap();
    assert_eq!(engines.commands.runs("c"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_on_another_engine_keeps_nobody_from_being_started_again() {
    let engines = Engines::new();
    let journal = tempfile::tempdir().expect("a directory");
    let nanny = async |backend| {
        let mut service = on(backend, cpu("a"));
        let mut project = (*service.project).clone();
        project.parts.get_mut("main").expect("it has one part").restart = RestartPolicy::Always;
        service.project = project.into();
        let mut builder = Nanny::builder().source(FixedSource::new([service]));
        for engine in [&engines.first, &engines.second] {
            builder = builder.backend(Arc::new(engine.clone()));
        }
        builder.state_dir(journal.path()).boot(backend).start().await.expect("a nanny starts")
    };
    let before = nanny("first").await;
    start(&before, "a").await;
    before.stop("a", StopOptions::default()).await.unwrap();
    before.shutdown().await;
    let before = nanny("second").await;
    start(&before, "a").await;
    before.shutdown().await;
    engines.second.exit("a-main-1", 1);

    let after = nanny("second").await;
    let seen = after.wait_until(|seen| seen.services["a"].is_running);
    let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
    seen.expect("it is started again").unwrap();
    assert_eq!(engines.running(), [vec![], vec![], vec!["a-main-1".to_owned()]]);
}

/// The same service, asking for a backend.
fn on(backend: &str, service: Service) -> Service {
    let mut manifest = (*service.manifest).clone();
    manifest.backend = Some(backend.to_owned());
    Service::new(manifest, service.project, service.origin)
}

async fn start(nanny: &Nanny, service: &str) {
    nanny.start(service, StartOptions::default()).await.expect("it starts");
}

fn backend(nanny: &Nanny, service: &str) -> Option<String> {
    nanny.snapshot().services[service].backend.clone()
}

#[tokio::test(start_paused = true)]
async fn a_service_goes_where_its_manifest_says_else_to_the_first_that_runs_its_kind() {
    let engines = Engines::new();
    let services = [cpu("a"), on("second", cpu("b")), command("c", false)];
    let nanny = engines.nanny(services).await;
    for service in ["a", "b", "c"] {
        start(&nanny, service).await;
    }
    assert_eq!(engines.running(), [["a-main-1"], ["c"], ["b-main-1"]]);
    let told = ["a", "b", "c"].map(|service| backend(&nanny, service).unwrap());
    assert_eq!(told, ["first", "second", "commands"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_engines_the_one_that_answers_is_used() {
    let engines = Engines::new();
    engines.first.go_down();
    let nanny = engines.nanny([cpu("a"), on("first", cpu("b"))]).await;
    start(&nanny, "a").await;
    assert_eq!(engines.second.running(), ["a-main-1"]);
    let error = nanny.start("b", StartOptions::default()).await.unwrap_err();
    assert!(matches!(&error, Error::EngineUnavailable { engine, .. } if engine == "first"));
}

#[tokio::test(start_paused = true)]
async fn what_no_backend_can_run_is_not_started_and_said() {
    let commands = MemoryBackend::new().with_capabilities(Capabilities::default());
    let services = FixedSource::new([cpu("a"), on("no-such", cpu("b"))]);
    let builder = Nanny::builder().backend(Arc::new(commands)).source(services);
    let nanny = builder.start().await.unwrap();
    for (service, said) in [
        ("a", "configured are memory, and none of them runs what it is"),
        ("b", "its manifest says 'backend: no-such', and configured are memory; mend"),
    ] {
        let error = nanny.start(service, StartOptions::default()).await.unwrap_err();
        assert!(matches!(error, Error::NoEngine { .. }), "{error:?}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_gpu_is_one_whatever_runs_its_services() {
    let engines = Engines::new();
    let services = [gpu("a"), on("second", gpu("b")), command("c", true)];
    let nanny = engines.nanny(services).await;
    start(&nanny, "a").await;
    for other in ["b", "c"] {
        let error = nanny.start(other, StartOptions::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "GPU service 'a' is already running");
    }
    for (newcomer, leaves) in [("c", "a"), ("b", "c"), ("a", "b")] {
        let started = nanny.start(newcomer, StartOptions::forced()).await.unwrap();
        assert_eq!(started.stopped, [name(leaves)]);
        assert_eq!(engines.running().concat().len(), 1, "{:?}", engines.running());
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_down_keeps_its_claim_and_nobody_elses_services() {
    let engines = Engines::new();
    let services = [gpu("a"), command("b", false), command("c", true)];
    let nanny = engines.nanny(services).await;
    start(&nanny, "a").await;
    engines.first.go_down();
    nanny.wait_until(|seen| seen.services["a"].status == Status::Unknown).await.unwrap();
    start(&nanny, "b").await;
    nanny.stop("b", StopOptions::default()).await.unwrap();
    let error = nanny.start("c", StartOptions::forced()).await.unwrap_err();
    assert!(matches!(&error, Error::EngineUnavailable { engine, .. } if engine == "first"));
    assert!(engines.commands.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_service_at_rest_moves_with_its_manifest_and_what_it_leaves_is_in_nobodys_way() {
    let engines = Engines::new();
    let nanny = engines.nanny([on("second", cpu("a"))]).await;
    start(&nanny, "a").await;
    drop(nanny);

    // What runs stays where it is.
    let nanny = engines.nanny([on("first", cpu("a"))]).await;
    assert_eq!(backend(&nanny, "a").as_deref(), Some("second"));
    start(&nanny, "a").await;
    assert_eq!(engines.running(), [vec![], vec![], vec!["a-main-1".to_owned()]]);

    nanny.stop("a", StopOptions::default()).await.unwrap();
    start(&nanny, "a").await;
    assert_eq!(engines.running(), [vec!["a-main-1".to_owned()], vec![], vec![]]);
    assert_eq!(engines.second.runs("a-main-1"), 1);
    let view = Arc::clone(&nanny.snapshot().services["a"]);
    assert_eq!((view.containers.len(), view.backend.as_deref()), (1, Some("first")));

    let mut down = StopOptions::default();
    down.remove = true;
    nanny.stop("a", down).await.unwrap();
    let left = [&engines.first, &engines.second].map(|engine| engine.id_of("a-main-1"));
    assert_eq!(left, [None, None], "whoever is to be gone is gone everywhere");
}
