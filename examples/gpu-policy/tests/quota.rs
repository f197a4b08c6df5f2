//! A policy is tried on its own: it is a function. Then within a whole nanny, on an engine in memory.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nanny_example_gpu_policy::Quota;
use nanny_lib::backend::{ContainerSpec, MemoryBackend};
use nanny_lib::gpu::{
    Decision, Fit, GpuDevice, GpuInventory, GpuPolicy, GpuReading, GpuRequest, GpuSnapshot,
    GpuVendor, Holder, HolderName, Placement, Refusal, Sweep,
};
use nanny_lib::manifest::{FixedSource, Manifest, Service};
use nanny_lib::project::Project;
use nanny_lib::{Error, GpuId, Nanny, ServiceName, StartOptions};

const GIB: u64 = 1024;

fn name(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a valid name")
}

/// Two services of one owner, who may have 12 GiB.
fn quota() -> Quota<Fit> {
    Quota::around(Fit::new()).owner("research", 12 * GIB, [name("llm"), name("diffusion")])
}

fn on_gpu(service: &str, gib: u64) -> Holder {
    let mut holder = Holder::new(HolderName::Service(name(service)));
    holder.placement = Placement::on([GpuId::new("gpu")], gib * GIB);
    holder
}

fn decide(service: &str, gib: u64, force: bool, holders: &[&Holder]) -> Decision {
    let mut request = GpuRequest::new(name(service));
    (request.vram_mib, request.force) = (gib * GIB, force);
    let snapshot = GpuSnapshot::new(holders.iter().copied().cloned().collect())
        .with_devices(vec![GpuDevice::new(GpuId::new("gpu"), 24 * GIB)]);
    quota().decide(&request, &snapshot)
}

fn evict(victims: &[&str], gib: u64) -> Decision {
    let placement = Placement::on([GpuId::new("gpu")], gib * GIB);
    Decision::Evict { victims: victims.iter().map(|victim| name(victim)).collect(), placement }
}

#[test]
fn an_owner_gets_its_quota_and_not_more_even_if_there_is_room() {
    let llm = on_gpu("llm", 8);
    let admitted = decide("diffusion", 4, false, &[&llm]);
    assert!(matches!(admitted, Decision::Admit { .. }), "{admitted:?}");
    let holders = vec![llm.who.clone()];
    assert_eq!(decide("diffusion", 5, false, &[&llm]), Decision::Conflict { holders });
    assert_eq!(decide("diffusion", 5, true, &[&llm]), evict(&["llm"], 5));
}

#[test]
fn what_exceeds_the_quota_alone_or_says_nothing_is_refused() {
    for gib in [0, 13] {
        let decision = decide("llm", gib, true, &[]);
        assert!(matches!(decision, Decision::Refuse { reason: Refusal::Other(_) }), "{decision:?}");
    }
}

#[test]
fn whoever_has_no_owner_is_left_to_the_other_policy() {
    let other = on_gpu("other", 20);
    let holders = vec![other.who.clone()];
    assert_eq!(decide("speech", 8, false, &[&other]), Decision::Conflict { holders });
    assert_eq!(decide("speech", 8, true, &[&other]), evict(&["other"], 8));
}

#[test]
fn both_reasons_to_make_way_are_put_together() {
    let mut llm = on_gpu("llm", 4);
    llm.unused_for = Duration::from_secs(60);
    assert_eq!(
        decide("diffusion", 10, true, &[&llm, &on_gpu("other", 20)]),
        evict(&["llm", "other"], 10)
    );
}

#[test]
fn the_pinned_stay() {
    let mut llm = on_gpu("llm", 8);
    llm.pinned = true;
    let reason = Refusal::Pinned(llm.who.clone());
    assert_eq!(decide("diffusion", 8, true, &[&llm]), Decision::Refuse { reason });
}

/// One GPU of 24 GiB, of which nothing else can be seen.
#[derive(Debug)]
struct OneGpu;

#[async_trait]
impl GpuInventory for OneGpu {
    async fn sweep(&self) -> Sweep {
        let mut gpu = GpuReading::new(GpuId::new("gpu"), GpuVendor::Declared);
        gpu.total_mib = Some(24 * GIB);
        Sweep::new(vec![gpu], Vec::new())
    }
}

/// A nanny with this policy and the services `llm` (8 GiB), `diffusion` (8) and `speech` (12).
async fn nanny(policy: impl GpuPolicy) -> (Nanny, MemoryBackend) {
    let engine = MemoryBackend::new();
    let service = |service: &str, gib| {
        let container = ContainerSpec::new(format!("{service}-1"), format!("example/{service}:1"));
        let manifest = Manifest::new(name(service)).with_gpu(gib);
        Service::new(manifest, Project::single(service, container), service)
    };
    let services = [service("llm", 8), service("diffusion", 8), service("speech", 12)];
    let nanny = Nanny::builder()
        .backend(Arc::new(engine.clone()))
        .source(FixedSource::new(services))
        .gpus(Arc::new(OneGpu))
        .policy(policy)
        .start()
        .await
        .expect("nothing that could fail");
    (nanny, engine)
}

#[tokio::test]
async fn a_nanny_keeps_the_quota() {
    let (nanny, engine) = nanny(quota()).await;
    nanny.start("llm", StartOptions::default()).await.unwrap();
    nanny.start("speech", StartOptions::default()).await.unwrap();
    assert_eq!(engine.running(), ["llm-1", "speech-1"], "20 GiB of 24 share the GPU");

    let refused = nanny.start("diffusion", StartOptions::default()).await;
    let Err(Error::GpuConflict { holders, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(holders, ["llm"], "its owner has 12 GiB, and llm has 8 of them");

    let started = nanny.start("diffusion", StartOptions::forced()).await.unwrap();
    assert_eq!(started.stopped, [name("llm")]);
    assert_eq!(engine.running(), ["diffusion-1", "speech-1"]);
}

/// Promises that what it places fits, and places everybody on the same GPU.
#[derive(Debug)]
struct Liar;

impl GpuPolicy for Liar {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn measures(&self) -> bool {
        true
    }

    fn decide(&self, request: &GpuRequest, _: &GpuSnapshot) -> Decision {
        Decision::Admit { placement: Placement::on([GpuId::new("gpu")], request.vram_mib) }
    }
}

#[tokio::test]
async fn a_policy_that_lies_is_refused_and_named() {
    let (nanny, engine) = nanny(Liar).await;
    nanny.start("llm", StartOptions::default()).await.unwrap();
    nanny.start("speech", StartOptions::default()).await.unwrap();

    let refused = nanny.start("diffusion", StartOptions::forced()).await;
    let Err(Error::GpuRefused { reason, .. }) = refused else { panic!("{refused:?}") };
    let said = reason.to_string();
    assert!(said.contains("'liar' is faulty") && said.contains("28672 MiB"), "{said}");
    assert_eq!(engine.running(), ["llm-1", "speech-1"], "nobody was stopped, and nobody started");
}

/// Has a bug.
#[derive(Debug)]
struct Panics;

impl GpuPolicy for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn measures(&self) -> bool {
        false
    }

    fn decide(&self, _: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
        let first = &snapshot.holders[0];
        Decision::Conflict { holders: vec![first.who.clone()] }
    }
}

#[tokio::test]
async fn a_policy_that_panics_fails_the_start_and_nothing_else() {
    let (nanny, engine) = nanny(Panics).await;
    let refused = nanny.start("llm", StartOptions::default()).await;
    let Err(Error::GpuRefused { reason, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(reason.to_string(), "the GPU policy 'panics' is faulty: it panicked");
    assert!(nanny.start("llm", StartOptions::default()).await.is_err(), "it still answers");
    assert!(engine.running().is_empty());
}
