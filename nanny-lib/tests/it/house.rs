//! A nanny, its services and its engine.

use std::sync::Arc;
use std::time::Duration;

use nanny_lib::backend::{
    ContainerSpec, Healthcheck, HealthcheckTest, MemoryBackend, RestartPolicy,
};
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::project::{Condition, Dependency, Project};
use nanny_lib::{Nanny, ServiceName, Snapshot, StartOptions, Status, Wait};

/// A nanny over an engine in memory.
pub(crate) struct House {
    pub(crate) nanny: Nanny,
    pub(crate) engine: MemoryBackend,
}

impl House {
    pub(crate) async fn new(services: impl IntoIterator<Item = Service>) -> Self {
        Self::on(MemoryBackend::new(), services).await
    }

    pub(crate) async fn on(
        engine: MemoryBackend,
        services: impl IntoIterator<Item = Service>,
    ) -> Self {
        let nanny = Nanny::builder()
            .backend(Arc::new(engine.clone()))
            .source(FixedSource::new(services))
            .start()
            .await
            .expect("a nanny starts");
        Self { nanny, engine }
    }

    pub(crate) async fn start(&self, name: &str) -> nanny_lib::Started {
        self.nanny.start(name, StartOptions::default()).await.expect("it starts")
    }

    pub(crate) fn status(&self, name: &str) -> Status {
        self.nanny.snapshot().services[name].status
    }

    /// Waits until a service has a status; a minute of paused time is the limit.
    pub(crate) async fn until(&self, name: &str, status: Status) {
        self.until_seen(|snapshot| snapshot.services[name].status == status).await;
    }

    pub(crate) async fn until_seen(&self, condition: impl FnMut(&Snapshot) -> bool) {
        let seen = self.nanny.wait_until(condition);
        let seen = tokio::time::timeout(Duration::from_secs(60), seen).await;
        let services = &self.nanny.snapshot().services;
        let now: Vec<_> = services.iter().map(|(name, view)| (name, view.status)).collect();
        seen.unwrap_or_else(|_| panic!("never seen; now {now:?}")).expect("the nanny lives");
    }
}

pub(crate) fn name(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a valid name")
}

fn container(service: &str) -> ContainerSpec {
    ContainerSpec::new(format!("{service}-main-1"), "image")
}

/// A service of one container that needs no GPU.
pub(crate) fn cpu(service: &str) -> Service {
    let project = Project::single(service, container(service));
    Service::new(Manifest::new(name(service)), project, service)
}

/// A service of one container that needs the GPU.
pub(crate) fn gpu(service: &str) -> Service {
    gpu_with(service, |_| {})
}

pub(crate) fn gpu_with(service: &str, change: impl FnOnce(&mut Project)) -> Service {
    let mut project = Project::single(service, container(service));
    change(&mut project);
    Service::new(Manifest::new(name(service)).with_gpu(8), project, service)
}

/// A GPU service whose file says `restart:`.
pub(crate) fn restarting(service: &str, policy: RestartPolicy) -> Service {
    gpu_with(service, |project| {
        project.parts.get_mut("main").expect("it has one part").restart = policy;
    })
}

/// A service whose `web` waits until its `db` is healthy.
pub(crate) fn web_and_db(service: &str) -> Service {
    let mut db = ContainerSpec::new(format!("{service}-db-1"), "image");
    db.healthcheck = Some(Healthcheck::new(HealthcheckTest::Shell("true".into())));
    let web = ContainerSpec::new(format!("{service}-web-1"), "image");
    let mut project = Project::new(service).with_part("db", db).with_part("web", web);
    project.parts.get_mut("web").expect("it has a web").depends_on =
        vec![Dependency::new("db", Condition::Healthy)];
    Service::new(Manifest::new(name(service)), project, service)
}

pub(crate) fn healthy_within(seconds: u64) -> StartOptions {
    StartOptions::default().waiting_for(Wait::Healthy).within(Duration::from_secs(seconds))
}
