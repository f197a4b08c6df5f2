//! Plain processes under a nanny: no engine, and what runs outlives the program that started it.
//!
//! Run it with `cargo run -p nanny-examples --example processes`.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use nanny_backend_process::{ProcessBackend, ProcessConfig, shim};
use nanny_lib::backend::{ContainerBackend, ContainerSpec, Selector};
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::project::Project;
use nanny_lib::{Nanny, ServiceName, StartOptions, StopOptions};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // First of all: each process has a shim, and that is this program, started again.
    if shim::is_asked() {
        return Ok(shim::main());
    }
    tokio::runtime::Runtime::new()?.block_on(run())?;
    Ok(ExitCode::SUCCESS)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let state = tempfile::tempdir()?;
    let nanny = nanny(state.path()).await?;
    nanny.start("painter", StartOptions::default()).await?;
    let started = nanny.start("writer", StartOptions::forced()).await?;
    println!("writer runs; for it, {} was stopped", started.stopped[0]);
    nanny.shutdown().await;

    // Another nanny on the same directory, as after a crash or an upgrade, finds what runs.
    let processes = ProcessBackend::new(ProcessConfig::new(state.path()));
    for process in processes.list(&Selector::All).await? {
        println!("{}: {:?}", process.name, process.state);
    }
    let heir = self::nanny(state.path()).await?;
    heir.stop("writer", StopOptions::default()).await?;
    heir.shutdown().await;
    println!("writer was stopped by the next nanny");
    Ok(())
}

async fn nanny(state: &Path) -> Result<Nanny, Box<dyn Error>> {
    let services = [program("painter")?, program("writer")?];
    let processes = ProcessBackend::new(ProcessConfig::new(state));
    let nanny = Nanny::builder().backend(Arc::new(processes)).source(FixedSource::new(services));
    Ok(nanny.start().await?)
}

/// A service that is one command, and needs the GPU.
fn program(name: &str) -> Result<Service, Box<dyn Error>> {
    let process = ContainerSpec {
        name: name.to_owned(),
        command: Some(["sleep", "600"].map(str::to_owned).to_vec()),
        ..ContainerSpec::default()
    };
    let manifest = Manifest::new(ServiceName::new(name)?).with_gpu(8);
    Ok(Service::new(manifest, Project::single(name, process), name))
}
