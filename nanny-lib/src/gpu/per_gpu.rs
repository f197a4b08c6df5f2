//! One GPU service at a time on each GPU.

use super::devices::{allowed, most_of_each, wanted};
use super::eviction::{Eviction, make_room, service_of};
use super::{Decision, GpuDevice, GpuPolicy, GpuRequest, GpuSnapshot, Holder, Placement, Refusal};

/// One GPU service at a time on each GPU; a service that asks for several gets several of its own.
///
/// A GPU whose memory is less than what the service declares is not given to it, and one where others
/// leave less than that only if there is no other; beyond that memory is not asked about. Whoever may
/// be anywhere is in the way on every GPU. Services stay where they were if they can. A request with
/// `force` evicts those that have not been used for longest, as few as it takes, and never a pinned
/// one; containers of other hands are never stopped, and where nothing else is left a forced start goes
/// on beside them.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExclusivePerGpu;

impl GpuPolicy for ExclusivePerGpu {
    fn name(&self) -> &'static str {
        "exclusive-per-gpu"
    }

    fn measures(&self) -> bool {
        false
    }

    fn decide(&self, request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
        let devices = match large_enough(request, snapshot) {
            Ok(devices) => devices,
            Err(reason) => return Decision::Refuse { reason },
        };
        let foreign: Vec<_> = snapshot.holders.iter().filter(|h| service_of(h).is_none()).collect();
        let place = |gone: &[&Holder]| place(request, snapshot, &devices, gone);
        let eviction = Eviction::default();
        let alone = make_room(request, snapshot, eviction, &foreign, place);
        let is_refused = matches!(alone, Some(Decision::Conflict { .. } | Decision::Refuse { .. }));
        let decision = if is_refused && request.force {
            let beside = |gone: &[&Holder]| place(&[gone, &foreign].concat());
            make_room(request, snapshot, eviction, &[], beside)
        } else {
            alone
        };
        // With everybody gone there is room: the devices are there.
        decision.unwrap_or_else(|| Decision::Refuse { reason: too_small(request, &devices) })
    }
}

/// The devices that a request may have, but for those that are smaller than what it declares.
fn large_enough<'a>(
    request: &GpuRequest,
    snapshot: &'a GpuSnapshot,
) -> Result<Vec<&'a GpuDevice>, Refusal> {
    let allowed = allowed(request, snapshot)?;
    let is_enough = |capacity: u64| capacity >= request.vram_mib;
    let enough = allowed.iter().copied().filter(|d| d.capacity_mib.is_none_or(is_enough));
    let enough: Vec<_> = enough.collect();
    if enough.len() < wanted(request) { Err(too_small(request, &allowed)) } else { Ok(enough) }
}

fn too_small(request: &GpuRequest, devices: &[&GpuDevice]) -> Refusal {
    let capacities = devices.iter().map(|device| device.capacity_mib.unwrap_or(u64::MAX));
    let largest_mib = most_of_each(request, capacities);
    Refusal::NeverFits { need_mib: request.vram_mib, count: request.count, largest_mib }
}

/// Devices on which nobody is once `gone` are, if there are enough of them.
fn place(
    request: &GpuRequest,
    snapshot: &GpuSnapshot,
    devices: &[&GpuDevice],
    gone: &[&Holder],
) -> Option<Placement> {
    let on = |device: &GpuDevice| {
        snapshot.holders.iter().filter(|holder| holder.may_be_on(&device.id)).collect::<Vec<_>>()
    };
    let is_free = |device: &&&GpuDevice| on(device).iter().all(|holder| gone.contains(holder));
    let mut free: Vec<_> = devices.iter().filter(is_free).collect();
    // Away from those that stay although they count as gone, where it fits beside what others use,
    // and where it was before.
    let strangers = |device: &GpuDevice| {
        on(device).iter().filter(|holder| service_of(holder).is_none()).count()
    };
    let is_short =
        |device: &GpuDevice| device.chargeable_mib().is_some_and(|mib| mib < request.vram_mib);
    free.sort_by_key(|device| {
        (strangers(device), is_short(device), !request.previous.contains(&device.id))
    });
    let chosen = free.iter().map(|device| device.id.clone()).take(wanted(request));
    let placement = Placement::on(chosen, request.vram_mib);
    (placement.mib.len() == wanted(request)).then_some(placement)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::HolderName;
    use super::*;
    use crate::name::{GpuId, ServiceName};

    fn name(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    fn on(gpus: &[&str]) -> Placement {
        Placement::on(gpus.iter().map(|gpu| GpuId::new(*gpu)), 8)
    }

    /// A service that was used the longer ago, the earlier its name is in the alphabet.
    fn service(service: &str, gpus: &[&str]) -> Holder {
        let mut holder = Holder::new(HolderName::Service(name(service)));
        holder.placement = on(gpus);
        holder.unused_for = Duration::from_secs(u64::from(b'z' - service.as_bytes()[0]));
        holder
    }

    fn stranger(gpus: &[&str]) -> Holder {
        let mut holder = Holder::new(HolderName::Foreign("jupyter".into()));
        holder.placement = on(gpus);
        holder
    }

    fn request(count: u32) -> GpuRequest {
        let mut request = GpuRequest::new(name("new"));
        (request.vram_mib, request.count) = (8, count);
        request
    }

    fn forced(count: u32) -> GpuRequest {
        GpuRequest { force: true, ..request(count) }
    }

    /// Two devices of 24 MiB.
    fn decide(request: &GpuRequest, holders: &[&Holder]) -> Decision {
        let devices = ["0", "1"].map(|gpu| GpuDevice::new(GpuId::new(gpu), 24)).to_vec();
        ExclusivePerGpu.decide(
            request,
            &GpuSnapshot::new(holders.iter().copied().cloned().collect()).with_devices(devices),
        )
    }

    fn admit(gpus: &[&str]) -> Decision {
        Decision::Admit { placement: on(gpus) }
    }

    fn evict(victims: &[&str], gpus: &[&str]) -> Decision {
        let victims = victims.iter().map(|victim| name(victim)).collect();
        Decision::Evict { victims, placement: on(gpus) }
    }

    fn conflict(holders: &[&Holder]) -> Decision {
        Decision::Conflict { holders: holders.iter().map(|holder| holder.who.clone()).collect() }
    }

    #[test]
    fn each_gpu_has_one_holder() {
        let (a, b) = (service("a", &["0"]), service("b", &["1"]));
        assert_eq!(decide(&request(1), &[]), admit(&["0"]));
        assert_eq!(decide(&request(1), &[&a]), admit(&["1"]));
        assert_eq!(decide(&request(1), &[&a, &b]), conflict(&[&a]));
        assert_eq!(decide(&request(2), &[]), admit(&["0", "1"]));
        assert_eq!(decide(&request(2), &[&b]), conflict(&[&b]));
        assert_eq!(decide(&request(2), &[&a, &b]), conflict(&[&a, &b]));
    }

    #[test]
    fn force_evicts_as_few_as_it_takes_and_the_longest_unused_first() {
        let (a, b) = (service("a", &["1"]), service("b", &["0"]));
        assert_eq!(decide(&forced(1), &[&a, &b]), evict(&["a"], &["1"]));
        assert_eq!(decide(&forced(2), &[&a, &b]), evict(&["a", "b"], &["0", "1"]));
        let both = service("c", &["0", "1"]);
        assert_eq!(decide(&forced(2), &[&both]), evict(&["c"], &["0", "1"]));
    }

    #[test]
    fn a_service_stays_where_it_was_if_it_can() {
        let request = GpuRequest { previous: vec![GpuId::new("1")], ..request(1) };
        assert_eq!(decide(&request, &[]), admit(&["1"]));
        assert_eq!(decide(&request, &[&service("a", &["1"])]), admit(&["0"]));
    }

    #[test]
    fn whoever_may_be_anywhere_is_in_the_way_everywhere() {
        let anywhere = service("a", &[]);
        assert_eq!(decide(&request(1), &[&anywhere]), conflict(&[&anywhere]));
        assert_eq!(decide(&forced(1), &[&anywhere]), evict(&["a"], &["0"]));
    }

    #[test]
    fn nobody_pinned_makes_way() {
        let pinned = |gpu| Holder { pinned: true, ..service("a", &[gpu]) };
        let (a, b) = (pinned("0"), service("b", &["1"]));
        let both = [&a, &b];
        assert_eq!(decide(&forced(1), &both), evict(&["b"], &["1"]));
        let reason = Refusal::Pinned(HolderName::Service(name("a")));
        assert_eq!(decide(&forced(2), &both), Decision::Refuse { reason });
    }

    #[test]
    fn a_forced_start_goes_on_beside_strangers_only_where_nothing_else_is_left() {
        let (a, stranger_on_1) = (service("a", &["0"]), stranger(&["1"]));
        let both = [&a, &stranger_on_1];
        assert_eq!(decide(&request(1), &both), conflict(&[&a]));
        assert_eq!(decide(&forced(1), &both), evict(&["a"], &["0"]));
        assert_eq!(decide(&request(2), &[&stranger_on_1]), conflict(&[&stranger_on_1]));
        assert_eq!(decide(&forced(2), &both), evict(&["a"], &["0", "1"]));
        let anywhere = stranger(&[]);
        assert_eq!(decide(&request(1), &[&anywhere]), conflict(&[&anywhere]));
        assert_eq!(decide(&forced(1), &[&anywhere]), admit(&["0"]));
        // Beside as few of them as can be.
        let who = HolderName::Foreign("other".into());
        let (one, two) = (Holder { who, ..stranger(&["0"]) }, stranger(&["0", "1"]));
        assert_eq!(decide(&forced(1), &[&one, &two]), admit(&["1"]));
        let pinned = Holder { pinned: true, ..a };
        assert_eq!(decide(&forced(1), &[&pinned, &stranger(&["0", "1"])]), admit(&["1"]));
    }

    #[test]
    fn a_gpu_that_others_have_filled_is_given_out_last() {
        let mut devices = ["0", "1"].map(|gpu| GpuDevice::new(GpuId::new(gpu), 24));
        devices[0].foreign_mib = 17;
        let asked = |request: &GpuRequest, holders: &[&Holder]| {
            let holders = holders.iter().copied().cloned().collect();
            let snapshot = GpuSnapshot::new(holders).with_devices(devices.to_vec());
            ExclusivePerGpu.decide(request, &snapshot)
        };
        let was_there = GpuRequest { previous: vec![GpuId::new("0")], ..request(1) };
        assert_eq!(asked(&was_there, &[]), admit(&["1"]), "not even where it was");
        assert_eq!(asked(&request(1), &[&service("b", &["1"])]), admit(&["0"]), "nowhere else");
        let small = GpuRequest { vram_mib: 7, ..was_there };
        let placement = Placement::on([GpuId::new("0")], 7);
        assert_eq!(asked(&small, &[]), Decision::Admit { placement }, "it fits");
    }

    #[test]
    fn a_gpu_that_is_too_small_is_not_given_out() {
        let large = GpuRequest { vram_mib: 25, ..forced(1) };
        let reason = Refusal::NeverFits { need_mib: 25, count: 1, largest_mib: 24 };
        assert_eq!(decide(&large, &[]), Decision::Refuse { reason });
    }

    #[test]
    fn where_too_few_devices_are_known_the_answer_says_so() {
        let refused = |decision| match decision {
            Decision::Refuse { reason: Refusal::NoGpu(reason) } => reason,
            other => panic!("{other:?}"),
        };
        let said = refused(ExclusivePerGpu.decide(&request(1), &GpuSnapshot::default()));
        assert!(said.contains("--gpu") && said.contains("'exclusive'"), "{said}");
        assert!(refused(decide(&request(3), &[])).contains("3 GPU(s)"));
        let only = GpuRequest { only: Some(vec![GpuId::new("1")]), ..request(2) };
        assert!(refused(decide(&only, &[])).contains("manifest allows 1 of the 2"));
    }
}
