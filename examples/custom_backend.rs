//! Your own backend: a nanny whose services are tasks of this very program.
//!
//! The backend is `toy_backend.rs`, and `tests/toy.rs` proves it. All that nannies do, arbitration
//! and rollback included, is written on top of such a trait, and comes for free.
//!
//! Run it with `cargo run -p nanny-examples --example custom_backend`. It needs no engine.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::Arc;

use futures_util::FutureExt as _;
use nanny_examples::toy_backend::{Program, Run, ToyBackend};
use nanny_lib::backend::ContainerSpec;
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::project::Project;
use nanny_lib::{Nanny, ServiceName, StartOptions};

const PROGRAMS: [(&str, Program); 1] = [("model", |run| model(run).boxed())];

async fn model(mut run: Run) -> i64 {
    run.print(format!("{} is loaded", run.arguments.join(" ")));
    run.asked_to_end().await;
    run.print("bye");
    0
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let services = [service("painter")?, service("writer")?];
    let nanny = Nanny::builder()
        .backend(Arc::new(ToyBackend::new(PROGRAMS)))
        .source(FixedSource::new(services))
        .start()
        .await?;

    nanny.start("painter", StartOptions::default()).await?;
    let refused = nanny.start("writer", StartOptions::default()).await;
    println!("one at a time: {}", refused.expect_err("the painter has the GPU"));

    let started = nanny.start("writer", StartOptions::forced()).await?;
    println!("by force: stopped {:?}", started.stopped);
    Ok(())
}

fn service(name: &str) -> Result<Service, Box<dyn Error>> {
    let command = ["model", "the", name, "model"].map(str::to_owned).to_vec();
    let container = ContainerSpec {
        name: format!("{name}-1"),
        command: Some(command),
        ..ContainerSpec::default()
    };
    let manifest = Manifest::new(ServiceName::new(name)?).with_gpu(8);
    Ok(Service::new(manifest, Project::single(name, container), name))
}
