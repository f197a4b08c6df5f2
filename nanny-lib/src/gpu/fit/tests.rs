use std::time::Duration;

use super::*;
use crate::gpu::{ClaimPhase, HolderName};
use crate::name::{GpuId, ServiceName};

const GIB: u64 = 1024;

fn id(gpu: &str) -> GpuId {
    GpuId::new(gpu)
}

fn gpu(name: &str, gib: u64) -> GpuDevice {
    GpuDevice::new(id(name), gib * GIB)
}

fn name(name: &str) -> ServiceName {
    ServiceName::new(name).unwrap()
}

/// A service that was used the longer ago, the earlier its name is in the alphabet.
fn on(service: &str, gpus: &[&str], gib: u64) -> Holder {
    let mut holder = Holder::new(HolderName::Service(name(service)));
    holder.placement = Placement::on(gpus.iter().map(|gpu| id(gpu)), gib * GIB);
    holder.unused_for = Duration::from_secs(u64::from(b'z' - service.as_bytes()[0]));
    holder
}

fn need(gib: u64) -> GpuRequest {
    let mut request = GpuRequest::new(name("new"));
    request.vram_mib = gib * GIB;
    request
}

fn forced(gib: u64) -> GpuRequest {
    GpuRequest { force: true, ..need(gib) }
}

fn world(devices: &[GpuDevice], holders: &[Holder]) -> GpuSnapshot {
    GpuSnapshot::new(holders.to_vec()).with_devices(devices.to_vec())
}

fn admit(gpus: &[&str], gib: u64) -> Decision {
    Decision::Admit { placement: Placement::on(gpus.iter().map(|gpu| id(gpu)), gib * GIB) }
}

fn evict(victims: &[&str], gpus: &[&str], gib: u64) -> Decision {
    let placement = Placement::on(gpus.iter().map(|gpu| id(gpu)), gib * GIB);
    Decision::Evict { victims: victims.iter().map(|victim| name(victim)).collect(), placement }
}

fn conflict(holders: &[&str]) -> Decision {
    let holders = holders.iter().map(|holder| HolderName::Service(name(holder)));
    Decision::Conflict { holders: holders.collect() }
}

fn never_fits(need: u64, count: u32, largest: u64) -> Decision {
    let (need_mib, largest_mib) = (need * GIB, largest * GIB);
    Decision::Refuse { reason: Refusal::NeverFits { need_mib, count, largest_mib } }
}

fn fit(request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
    GpuPolicy::decide(&Fit::new(), request, snapshot)
}

#[test]
fn services_share_a_device_as_long_as_they_fit() {
    let one = world(&[gpu("0", 24)], &[on("a", &["0"], 8)]);
    assert_eq!(fit(&need(10), &one), admit(&["0"], 10));
    let two = world(&[gpu("0", 24)], &[on("a", &["0"], 8), on("b", &["0"], 10)]);
    assert_eq!(fit(&need(12), &two), conflict(&["a"]));
    assert_eq!(fit(&forced(12), &two), evict(&["a"], &["0"], 12));
}

#[test]
fn the_last_mib_can_be_had_and_not_one_more() {
    let snapshot = world(&[gpu("0", 24)], &[on("a", &["0"], 8)]);
    assert_eq!(fit(&need(16), &snapshot), admit(&["0"], 16));
    let one_more = GpuRequest { vram_mib: 16 * GIB + 1, ..need(0) };
    assert_eq!(fit(&one_more, &snapshot), conflict(&["a"]));
}

#[test]
fn headroom_and_what_others_use_are_not_given_away() {
    let mut device = gpu("0", 24);
    (device.headroom_mib, device.foreign_mib) = (2 * GIB, 6 * GIB);
    let snapshot = world(&[device], &[]);
    assert_eq!(fit(&need(16), &snapshot), admit(&["0"], 16));
    assert_eq!(fit(&forced(17), &snapshot), never_fits(17, 1, 16));
}

#[test]
fn room_on_two_devices_is_not_added_up() {
    let holders = [on("a", &["0"], 16), on("b", &["1"], 16)];
    let snapshot = world(&[gpu("0", 24), gpu("1", 24)], &holders);
    assert_eq!(fit(&need(12), &snapshot), conflict(&["a"]));
}

#[test]
fn several_gpus_are_decided_one_by_one() {
    let devices = [gpu("0", 24), gpu("1", 16), gpu("2", 24)];
    let request = |gib| GpuRequest { count: 2, ..need(gib) };
    assert_eq!(fit(&request(16), &world(&devices, &[])), admit(&["0", "1"], 16));
    assert_eq!(fit(&request(20), &world(&devices, &[])), admit(&["0", "2"], 20));
    let snapshot = world(&devices, &[on("a", &["1", "2"], 8)]);
    assert_eq!(fit(&request(20), &snapshot), conflict(&["a"]));
    assert_eq!(fit(&request(30), &snapshot), never_fits(30, 2, 24));
}

#[test]
fn a_service_stays_where_it_was_if_it_fits_there() {
    let devices = [gpu("0", 16), gpu("1", 24)];
    let request = GpuRequest { previous: vec![id("1")], ..need(12) };
    assert_eq!(fit(&request, &world(&devices, &[])), admit(&["1"], 12));
    let snapshot = world(&devices, &[on("a", &["1"], 20)]);
    assert_eq!(fit(&request, &snapshot), admit(&["0"], 12));
}

#[test]
fn only_devices_that_are_allowed_and_in_order_are_given_out() {
    let mut broken = gpu("1", 24);
    broken.is_usable = false;
    let snapshot = world(&[gpu("0", 24), broken, gpu("2", 24)], &[]);
    let only = |gpus: &[&str]| GpuRequest {
        only: Some(gpus.iter().map(|gpu| id(gpu)).collect()),
        ..need(8)
    };
    assert_eq!(fit(&only(&["1", "2"]), &snapshot), admit(&["2"], 8));
    let decision = fit(&only(&["1"]), &snapshot);
    assert!(matches!(decision, Decision::Refuse { reason: Refusal::NoGpu(_) }), "{decision:?}");
}

#[test]
fn binpack_leaves_a_whole_device_and_spread_shares_as_little_as_possible() {
    let snapshot = world(&[gpu("0", 24), gpu("1", 24)], &[on("a", &["0"], 8)]);
    assert_eq!(fit(&need(8), &snapshot), admit(&["0"], 8));
    let spread = Fit::new().packing(Packing::Spread);
    assert_eq!(GpuPolicy::decide(&spread, &need(8), &snapshot), admit(&["1"], 8));
}

#[test]
fn victims_that_turn_out_unnecessary_are_spared() {
    // In order of use `a` goes first, but then `b` makes all the room that it takes.
    let holders = [on("a", &["0"], 4), on("b", &["0"], 18)];
    let snapshot = world(&[gpu("0", 24)], &holders);
    assert_eq!(fit(&forced(20), &snapshot), evict(&["b"], &["0"], 20));
}

#[test]
fn by_priority_the_lowest_goes_first() {
    let (mut a, b) = (on("a", &["0"], 12), on("b", &["0"], 12));
    a.priority = 5;
    let snapshot = world(&[gpu("0", 24)], &[a, b]);
    assert_eq!(fit(&forced(8), &snapshot), evict(&["a"], &["0"], 8));
    let by_priority = Fit::new().evicting(EvictionOrder::Priority);
    let decision = GpuPolicy::decide(&by_priority, &forced(8), &snapshot);
    assert_eq!(decision, evict(&["b"], &["0"], 8));
}

#[test]
fn whoever_is_being_stopped_is_taken_before_one_that_runs() {
    let mut stopping = on("z", &["0"], 12);
    stopping.phase = ClaimPhase::Stopping;
    let snapshot = world(&[gpu("0", 24)], &[on("a", &["0"], 12), stopping]);
    assert_eq!(fit(&forced(8), &snapshot), evict(&["z"], &["0"], 8));
    assert_eq!(fit(&need(8), &snapshot), conflict(&["z"]));
}

#[test]
fn without_force_only_lower_priorities_that_are_not_busy_make_way_and_only_if_asked_for() {
    let preempting = Fit::new().preempting(true);
    let one =
        |holder: &Holder| GpuSnapshot::new(vec![holder.clone()]).with_devices(vec![gpu("0", 24)]);
    let decide = |request: &GpuRequest, holder: &Holder| {
        GpuPolicy::decide(&preempting, request, &one(holder))
    };
    let (above, holder) = (GpuRequest { priority: 1, ..need(20) }, on("a", &["0"], 12));
    assert_eq!(decide(&above, &holder), evict(&["a"], &["0"], 20));
    assert_eq!(fit(&above, &one(&holder)), conflict(&["a"]));
    assert_eq!(decide(&need(20), &holder), conflict(&["a"]));
    let busy = Holder { busy: true, ..holder.clone() };
    assert_eq!(decide(&above, &busy), conflict(&["a"]));
    assert_eq!(
        decide(&GpuRequest { force: true, ..above.clone() }, &busy),
        evict(&["a"], &["0"], 20)
    );
    let pinned = Holder { pinned: true, ..holder };
    assert_eq!(decide(&above, &pinned), conflict(&["a"]));
}

#[test]
fn nobody_pinned_makes_way_and_force_is_told_who_it_is() {
    let mut pinned = on("a", &["0"], 12);
    pinned.pinned = true;
    let snapshot = world(&[gpu("0", 24)], &[pinned, on("b", &["0"], 8)]);
    assert_eq!(fit(&forced(12), &snapshot), evict(&["b"], &["0"], 12));
    let reason = Refusal::Pinned(HolderName::Service(name("a")));
    assert_eq!(fit(&forced(16), &snapshot), Decision::Refuse { reason });
    // It may end by itself.
    assert_eq!(fit(&need(16), &snapshot), conflict(&["a"]));
}

#[test]
fn a_service_that_declares_nothing_has_a_device_of_its_own() {
    let mut devices = [gpu("0", 24), gpu("1", 24)];
    devices[1].foreign_mib = GIB;
    assert_eq!(fit(&need(0), &world(&devices, &[on("a", &["0"], 1)])), admit(&["1"], 23));
    let one_each = [on("a", &["0"], 1), on("b", &["1"], 1)];
    assert_eq!(fit(&need(0), &world(&devices, &one_each)), conflict(&["a"]));
    devices[0].foreign_mib = 24 * GIB;
    devices[1].foreign_mib = 24 * GIB;
    let none = Refusal::NeverFits { need_mib: 1, count: 1, largest_mib: 0 };
    assert_eq!(fit(&need(0), &world(&devices, &[])), Decision::Refuse { reason: none });
}

#[test]
fn whoever_is_charged_nothing_is_taken_to_fill_its_device() {
    let snapshot = world(&[gpu("0", 24), gpu("1", 24)], &[on("a", &["0"], 0)]);
    assert_eq!(fit(&need(1), &snapshot), admit(&["1"], 1));
    let nowhere = Holder::new(HolderName::Service(name("a")));
    assert_eq!(fit(&need(1), &world(&[gpu("0", 24)], &[nowhere])), conflict(&["a"]));
}

#[test]
fn whoever_may_be_anywhere_counts_on_every_device() {
    let mut anywhere = Holder::new(HolderName::Service(name("a")));
    anywhere.vram_mib = 12 * GIB;
    let snapshot = world(&[gpu("0", 24), gpu("1", 16)], &[anywhere]);
    assert_eq!(fit(&need(4), &snapshot), admit(&["1"], 4));
    assert_eq!(fit(&need(12), &snapshot), admit(&["0"], 12));
    assert_eq!(fit(&need(13), &snapshot), conflict(&["a"]));
}

#[test]
fn containers_of_other_hands_count_and_are_never_stopped() {
    let mut foreign = Holder::new(HolderName::Foreign("jupyter".into()));
    foreign.placement = Placement::on([id("0")], 20 * GIB);
    let snapshot = world(&[gpu("0", 24)], &[foreign]);
    assert_eq!(fit(&need(4), &snapshot), admit(&["0"], 4));
    assert_eq!(fit(&forced(8), &snapshot), never_fits(8, 1, 4));
}

#[test]
fn where_no_device_is_known_the_answer_says_what_can_be_done() {
    let Decision::Refuse { reason } = fit(&need(8), &GpuSnapshot::default()) else {
        panic!("nothing is known to fit");
    };
    let said = reason.to_string();
    assert!(said.contains("--gpu") && said.contains("'exclusive'"), "{said}");
    let mut unmeasured = gpu("0", 0);
    unmeasured.capacity_mib = None;
    let Decision::Refuse { reason } = fit(&need(8), &world(&[unmeasured], &[])) else {
        panic!("nothing is known to fit");
    };
    let said = reason.to_string();
    assert!(said.contains("--gpu") && said.contains("'exclusive-per-gpu'"), "{said}");
}

#[test]
fn the_ledger_alone_counts_what_is_declared_and_nobody_else() {
    let mut device = gpu("0", 24);
    device.foreign_mib = 20 * GIB;
    let mut foreign = Holder::new(HolderName::Foreign("jupyter".into()));
    foreign.placement = Placement::on([id("0")], 20 * GIB);
    let holders = [on("a", &["0"], 8), foreign];
    let snapshot = world(&[device], &holders);
    let decide = |policy: LedgerOnly, request| policy.decide(&request, &snapshot);
    assert_eq!(decide(LedgerOnly::default(), need(16)), admit(&["0"], 16));
    assert_eq!(decide(LedgerOnly::default(), need(17)), conflict(&["a"]));
    let above = GpuRequest { priority: 1, ..need(17) };
    let preempting = LedgerOnly::like(Fit::new().preempting(true));
    assert_eq!(decide(preempting, above), evict(&["a"], &["0"], 17));
    assert!(!preempting.measures());
}
