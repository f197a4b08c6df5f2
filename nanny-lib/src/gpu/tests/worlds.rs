//! Small worlds at random: small enough to try every set of victims, and full of borderline cases.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::gpu::{
    ClaimPhase, Decision, GpuDevice, GpuRequest, GpuSnapshot, Holder, HolderName, Placement,
    Refusal,
};
use crate::name::{GpuId, ServiceName};

const GPUS: [&str; 3] = ["gpu-0", "gpu-1", "gpu-2"];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

pub(super) fn requests() -> impl Strategy<Value = GpuRequest> {
    let vram = prop_oneof![1 => Just(0), 7 => 1..=12u64, 1 => 13..=24u64];
    let count = prop_oneof![8 => Just(1u32), 3 => Just(2), 1 => Just(3)];
    (vram, count, weighted(0.1, gpus()), gpus(), -1..=2i32, any::<bool>()).prop_map(
        |(vram_mib, count, only, previous, priority, force)| GpuRequest {
            service: service("new"),
            vram_mib,
            count,
            only,
            previous,
            priority,
            force,
        },
    )
}

pub(super) fn snapshots() -> impl Strategy<Value = GpuSnapshot> {
    let holders = subsequence(NAMES.to_vec(), 0..=NAMES.len())
        .prop_flat_map(|names| names.into_iter().map(holder).collect::<Vec<_>>());
    let stranger = (weighted(0.3, placement()), 0..=3u64).prop_map(|(placement, vram_mib)| {
        let mut stranger = Holder::new(HolderName::Foreign("stranger".into()));
        stranger.vram_mib = vram_mib;
        placement.map(|placement| Holder { placement, ..stranger })
    });
    let known = prop_oneof![1 => Just(0), 6 => Just(1usize), 6 => Just(2), 6 => Just(3)];
    (holders, stranger, known, vec(device(), GPUS.len())).prop_map(
        |(mut holders, stranger, known, devices)| {
            holders.extend(stranger);
            let devices = devices.into_iter().zip(GPUS).take(known);
            let devices = devices.map(|(device, gpu)| GpuDevice { id: GpuId::new(gpu), ..device });
            GpuSnapshot::new(holders).with_devices(devices.collect())
        },
    )
}

/// Any answer at all that a policy could give, sound or not.
pub(super) fn decisions() -> impl Strategy<Value = Decision> {
    let victims = || vec(prop::sample::select(NAMES.to_vec()).prop_map(service), 0..=3);
    let holders = vec(who(), 0..=3);
    prop_oneof![
        placement().prop_map(|placement| Decision::Admit { placement }),
        (victims(), placement())
            .prop_map(|(victims, placement)| Decision::Evict { victims, placement }),
        holders.prop_map(|holders| Decision::Conflict { holders }),
        who().prop_map(|who| Decision::Refuse { reason: Refusal::Pinned(who) }),
    ]
}

fn service(name: &str) -> ServiceName {
    ServiceName::new(name).expect("a valid name")
}

fn who() -> impl Strategy<Value = HolderName> {
    prop_oneof![
        6 => prop::sample::select(NAMES.to_vec()).prop_map(|name| HolderName::Service(service(name))),
        1 => Just(HolderName::Foreign("stranger".into())),
        1 => Just(HolderName::Foreign("a".into())),
    ]
}

fn gpus() -> impl Strategy<Value = Vec<GpuId>> {
    subsequence(GPUS.to_vec(), 0..=GPUS.len())
        .prop_map(|gpus| gpus.into_iter().map(GpuId::new).collect())
}

/// On any number of devices, with something else on each; on none of them is anywhere.
fn placement() -> impl Strategy<Value = Placement> {
    let mib = prop_oneof![1 => Just(0), 9 => 1..=12u64];
    (gpus(), vec(mib, GPUS.len()))
        .prop_map(|(gpus, mib)| Placement { mib: gpus.into_iter().zip(mib).collect() })
}

fn device() -> impl Strategy<Value = GpuDevice> {
    (weighted(0.95, 4..=24u64), 0..=2u64, 0..=5u64, prop::bool::weighted(0.9)).prop_map(
        |(capacity_mib, headroom_mib, foreign_mib, is_usable)| GpuDevice {
            id: GpuId::new(""),
            capacity_mib,
            headroom_mib,
            foreign_mib,
            is_usable,
        },
    )
}

fn holder(name: &'static str) -> impl Strategy<Value = Holder> {
    let phase = prop_oneof![
        1 => Just(ClaimPhase::Reserved),
        1 => Just(ClaimPhase::Starting),
        4 => Just(ClaimPhase::Running),
        1 => Just(ClaimPhase::Draining),
        1 => Just(ClaimPhase::Stopping),
    ];
    let rest = (prop::bool::weighted(0.2), prop::bool::weighted(0.3), -1..=2i32, 0..=4u64);
    (placement(), 0..=6u64, phase, rest).prop_map(
        move |(placement, vram_mib, phase, (pinned, busy, priority, unused))| Holder {
            who: HolderName::Service(service(name)),
            phase,
            placement,
            vram_mib,
            priority,
            pinned,
            busy,
            unused_for: Duration::from_secs(unused),
        },
    )
}
