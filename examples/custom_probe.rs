//! Your own health probe: a service is healthy while it touches a heartbeat file.
//!
//! A probe makes one attempt and says what it found. When to ask, how fast while a service warms
//! up, and how many answers make a change, is the monitor's business.
//!
//! Run it with `cargo run -p nanny-examples --example custom_probe`. It needs no engine.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nanny_lib::backend::{ContainerSpec, MemoryBackend};
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::probe::{Health, HealthProbe, ProbeTarget, StandardProbe};
use nanny_lib::project::Project;
use nanny_lib::{Nanny, ServiceName, StartOptions, Wait};

/// Healthy is who has written `NAME.alive` lately; who has an endpoint is asked there as usual.
#[derive(Debug)]
struct Heartbeat {
    directory: PathBuf,
    fresh_for: Duration,
    otherwise: StandardProbe,
}

#[async_trait]
impl HealthProbe for Heartbeat {
    async fn probe(&self, target: &ProbeTarget) -> Health {
        if target.endpoint.is_some() {
            return self.otherwise.probe(target).await;
        }
        let file = self.directory.join(format!("{}.alive", target.service));
        let age = fs::metadata(&file).and_then(|found| found.modified()).map(|at| at.elapsed());
        match age {
            Ok(Ok(age)) if age > self.fresh_for => {
                Health::Unhealthy { reason: format!("its last heartbeat was {age:?} ago") }
            }
            Ok(_) => Health::Healthy,
            Err(error) => Health::Unreachable { reason: format!("no heartbeat: {error}") },
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let probe = Heartbeat {
        directory: directory.path().to_owned(),
        fresh_for: Duration::from_secs(30),
        otherwise: StandardProbe::default(),
    };
    let container = ContainerSpec::new("trainer-1", "example/trainer:1");
    let manifest = Manifest::new(ServiceName::new("trainer")?);
    let trainer = Service::new(manifest, Project::single("trainer", container), "trainer");
    let nanny = Nanny::builder()
        .backend(Arc::new(MemoryBackend::new()))
        .source(FixedSource::new([trainer]))
        .probe(probe)
        .start()
        .await?;

    nanny.start("trainer", StartOptions::default()).await?;
    let seen = nanny.wait_until(|now| now.services["trainer"].health.is_some()).await?;
    let health = seen.services["trainer"].health.as_ref().and_then(|health| health.reason.clone());
    println!("it runs, and is not ready: {}", health.unwrap_or_default());

    fs::write(directory.path().join("trainer.alive"), "")?;
    nanny.start("trainer", StartOptions::default().waiting_for(Wait::Healthy)).await?;
    assert!(nanny.snapshot().services["trainer"].is_ready());
    println!("its heart beats: it is ready");
    Ok(())
}
