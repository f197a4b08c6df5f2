//! A nanny inside a program: a queue of jobs, each of which needs another service on the GPU.
//!
//! Run it with `cargo run -p nanny-examples --example embed`. It needs no engine; with
//! `DockerBackend` in place of `MemoryBackend` and a `DirectorySource` it does the same for real.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use nanny_lib::backend::{ContainerSpec, MemoryBackend};
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::project::Project;
use nanny_lib::{Nanny, ServiceName, StartOptions, Wait};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = MemoryBackend::new().with_start_time(Duration::from_millis(200));
    let nanny = Nanny::builder()
        .backend(Arc::new(engine.clone()))
        .source(FixedSource::new([gpu_service("painter")?, gpu_service("writer")?]))
        .start()
        .await?;

    for (job, service) in [("a cat", "painter"), ("a poem", "writer"), ("a dog", "painter")] {
        // `force`: the job before is done, so whoever holds the GPU may be stopped. `Healthy`: do
        // not send work before the service can do it.
        let options = StartOptions::forced().waiting_for(Wait::Healthy);
        let started = nanny.start(service, options).await?;
        let stopped: Vec<_> = started.stopped.iter().map(ServiceName::as_str).collect();
        println!("{job:8} -> {service} runs (stopped for it: {stopped:?})");
        assert_eq!(engine.running(), [format!("{service}-1")]);
    }

    // Services outlive the nanny: the next one adopts them.
    nanny.shutdown().await;
    assert_eq!(engine.running(), ["painter-1"]);
    println!("the nanny is gone; painter runs on");
    Ok(())
}

fn gpu_service(name: &str) -> Result<Service, Box<dyn Error>> {
    let container = ContainerSpec::new(format!("{name}-1"), format!("example/{name}:1"));
    let manifest = Manifest::new(ServiceName::new(name)?).with_gpu(8);
    Ok(Service::new(manifest, Project::single(name, container), name))
}
