//! Your own GPU policy: several services at once, as long as what they declare fits.
//!
//! A policy is one pure function. The arbiter checks what it answers, reserves in the same step,
//! stops whom it evicts, waits until they are down, and rolls back if the newcomer cannot start.
//! `LedgerOnly` and `Fit` of nanny-lib do better than this one: they know devices. `gpu-policy/` is a
//! whole crate with a policy of its own.
//!
//! Run it with `cargo run -p nanny-examples --example custom_policy`. It needs no engine.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::Arc;

use nanny_lib::backend::{ContainerSpec, MemoryBackend};
use nanny_lib::gpu::{
    Decision, GpuPolicy, GpuRequest, GpuSnapshot, Holder, HolderName, Placement, Refusal,
};
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::project::Project;
use nanny_lib::{Nanny, ServiceName, StartOptions};

/// Admits while the declared memory of all holders fits into one budget.
#[derive(Debug)]
struct Budget {
    mib: u64,
}

impl GpuPolicy for Budget {
    fn name(&self) -> &'static str {
        "budget"
    }

    fn measures(&self) -> bool {
        false
    }

    fn decide(&self, request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
        if request.vram_mib > self.mib {
            let reason = format!("it needs {} MiB of {} MiB", request.vram_mib, self.mib);
            return Decision::Refuse { reason: Refusal::Other(reason) };
        }
        let held: u64 = snapshot.holders.iter().map(|holder| holder.vram_mib).sum();
        let mut missing = (held + request.vram_mib).saturating_sub(self.mib);
        if missing == 0 {
            return Decision::Admit { placement: Placement::default() };
        }
        if !request.force {
            let holders = snapshot.holders.iter().map(|holder| holder.who.clone()).collect();
            return Decision::Conflict { holders };
        }
        // The largest go first, so that as few as possible are stopped.
        let mut candidates: Vec<&Holder> = snapshot.holders.iter().filter(|h| !h.pinned).collect();
        candidates.sort_by_key(|holder| std::cmp::Reverse(holder.vram_mib));
        let mut victims = Vec::new();
        for holder in candidates {
            if missing == 0 {
                break;
            }
            if let HolderName::Service(name) = &holder.who {
                victims.push(name.clone());
                missing = missing.saturating_sub(holder.vram_mib);
            }
        }
        if missing > 0 {
            let reason = Refusal::Other("those who hold the GPU must stay".to_owned());
            return Decision::Refuse { reason };
        }
        Decision::Evict { victims, placement: Placement::default() }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = MemoryBackend::new();
    let services = [service("speech", 2)?, service("writer", 8)?, service("painter", 12)?];
    let nanny = Nanny::builder()
        .backend(Arc::new(engine.clone()))
        .source(FixedSource::new(services))
        .policy(Budget { mib: 16 * 1024 })
        .start()
        .await?;

    nanny.start("speech", StartOptions::default()).await?;
    nanny.start("writer", StartOptions::default()).await?;
    println!("2 GB and 8 GB fit into 16 GB: {:?}", engine.running());

    let refused = nanny.start("painter", StartOptions::default()).await;
    println!("12 GB more do not: {}", refused.expect_err("22 GB are more than 16 GB"));

    let started = nanny.start("painter", StartOptions::forced()).await?;
    println!("by force: stopped {:?}, running {:?}", started.stopped, engine.running());
    assert_eq!(engine.running(), ["painter-1", "speech-1"]);
    Ok(())
}

fn service(name: &str, vram_gb: u32) -> Result<Service, Box<dyn Error>> {
    let container = ContainerSpec::new(format!("{name}-1"), format!("example/{name}:1"));
    let manifest = Manifest::new(ServiceName::new(name)?).with_gpu(vram_gb);
    Ok(Service::new(manifest, Project::single(name, container), name))
}
