//! As many services at once as fit into the memory of each GPU.

use super::devices::{allowed, most_of_each, wanted};
use super::eviction::{Eviction, EvictionOrder, make_room, service_of};
use super::{Decision, GpuDevice, GpuPolicy, GpuRequest, GpuSnapshot, Holder, Placement, Refusal};

/// As many services at once as fit into the memory of each GPU.
///
/// On each device, what is charged to those that hold it (what they declare, or what they were
/// measured to use if that is more), what others use, and the headroom stay within the capacity.
/// This is decided for each device, never on sums over several.
///
/// *A service that declares nothing* takes a device of its own: it is charged all that is left
/// there, and goes where no other service is. Once it was measured, it counts for that much. A
/// device of which nobody knows the capacity is given to nobody.
///
/// *Making room.* Services make way in the [order](Self::evicting) that was chosen until it fits;
/// then whoever turned out not to be needed for it is spared. Without `force` this is done only if
/// [preempting](Self::preempting), and only to services of a lower priority that are not busy. With
/// `force`, priorities set the order at most. Nobody pinned makes way, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fit {
    eviction: Eviction,
    packing: Packing,
}

/// Which device a service is placed on, of several that have room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Packing {
    /// The one with the least room left, so that large services find a whole device.
    #[default]
    Binpack,
    /// The one with the most room left, so that services share as little as possible.
    Spread,
}

impl Fit {
    /// Least recently used first, tightly packed, evicting nobody without force.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with services making way in this order.
    #[must_use]
    pub fn evicting(mut self, order: EvictionOrder) -> Self {
        self.eviction.order = order;
        self
    }

    /// The same, packed in this way.
    #[must_use]
    pub fn packing(mut self, packing: Packing) -> Self {
        self.packing = packing;
        self
    }

    /// The same; if `preempting`, a request evicts services of lower priority without force.
    #[must_use]
    pub fn preempting(mut self, preempting: bool) -> Self {
        self.eviction.preempting = preempting;
        self
    }

    fn decide(self, request: &GpuRequest, snapshot: &GpuSnapshot, others: Others) -> Decision {
        let devices = match of_known_capacity(request, snapshot) {
            Ok(devices) => devices,
            Err(reason) => return Decision::Refuse { reason },
        };
        let room = Room { request, snapshot, others };
        let place = |gone: &[&Holder]| self.place(&devices, room, gone);
        make_room(request, snapshot, self.eviction, &[], place).unwrap_or_else(|| {
            let all: Vec<_> = snapshot.holders.iter().collect();
            let free = devices.iter().map(|device| room.free_mib(device, &all));
            let reason = Refusal::NeverFits {
                need_mib: request.vram_mib.max(1),
                count: request.count,
                largest_mib: most_of_each(request, free),
            };
            Decision::Refuse { reason }
        })
    }

    /// The best devices with room for the request once `gone` are, if there are enough of them.
    fn place(self, devices: &[&GpuDevice], room: Room<'_>, gone: &[&Holder]) -> Option<Placement> {
        let with_room = devices.iter().filter_map(|device| {
            let charge = room.charge_mib(device, gone)?;
            Some((device, room.free_mib(device, gone), charge))
        });
        let mut with_room: Vec<_> = with_room.collect();
        with_room.sort_by_key(|(device, free, _)| {
            let rank = match self.packing {
                Packing::Binpack => *free,
                Packing::Spread => u64::MAX - *free,
            };
            (!room.request.previous.contains(&device.id), rank)
        });
        let wanted = wanted(room.request);
        let chosen = with_room.iter().take(wanted);
        let mib = chosen.map(|(device, _, charge)| (device.id.clone(), *charge)).collect();
        let placement = Placement { mib };
        (placement.mib.len() == wanted).then_some(placement)
    }
}

impl GpuPolicy for Fit {
    fn name(&self) -> &'static str {
        "fit"
    }

    fn measures(&self) -> bool {
        true
    }

    fn decide(&self, request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
        Self::decide(*self, request, snapshot, Others::Count)
    }
}

/// As many services at once as fit by what is charged to them, whoever else uses the devices.
///
/// Like [`Fit`], for devices that were declared and cannot be measured: what others use is not
/// counted, and no start waits until memory is seen to be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerOnly {
    fit: Fit,
}

impl LedgerOnly {
    /// Evicts and packs as `fit` does.
    #[must_use]
    pub fn like(fit: Fit) -> Self {
        Self { fit }
    }
}

impl GpuPolicy for LedgerOnly {
    fn name(&self) -> &'static str {
        "ledger-only"
    }

    fn measures(&self) -> bool {
        false
    }

    fn counts_memory(&self) -> bool {
        true
    }

    fn decide(&self, request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
        self.fit.decide(request, snapshot, Others::Ignore)
    }
}

/// Whether those that are none of our services count: containers and processes of other hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Count,
    Ignore,
}

/// What there is for one request.
#[derive(Debug, Clone, Copy)]
struct Room<'a> {
    request: &'a GpuRequest,
    snapshot: &'a GpuSnapshot,
    others: Others,
}

impl<'a> Room<'a> {
    /// What the request is charged on a device once `gone` are; `None` if it does not fit there.
    fn charge_mib(self, device: &GpuDevice, gone: &[&Holder]) -> Option<u64> {
        let need = self.request.vram_mib;
        let stay = self.services_on(device).filter(|holder| !gone.contains(holder));
        let mut charges = stay.map(|holder| holder.charge_mib(&device.id)).peekable();
        let free = self.free_mib(device, gone);
        if need == 0 {
            return (charges.peek().is_none() && free > 0).then_some(free);
        }
        // One that is charged nothing takes nobody knows how much.
        (charges.all(|charge| charge > 0) && need <= free).then_some(need)
    }

    /// Memory on a device that may be charged to somebody once `gone` are.
    fn free_mib(self, device: &GpuDevice, gone: &[&Holder]) -> u64 {
        let foreign = match self.others {
            Others::Count => {
                let foreign = self.snapshot.holders.iter().filter(|h| service_of(h).is_none());
                let charges = foreign.map(|holder| holder.charge_mib(&device.id));
                charges.fold(device.foreign_mib, u64::saturating_add)
            }
            Others::Ignore => 0,
        };
        let stay = self.services_on(device).filter(|holder| !gone.contains(holder));
        let charges = stay.map(|holder| holder.charge_mib(&device.id));
        let taken = charges.fold(foreign, u64::saturating_add);
        let taken = taken.saturating_add(device.headroom_mib);
        device.capacity_mib.map_or(0, |capacity| capacity.saturating_sub(taken))
    }

    fn services_on(self, device: &GpuDevice) -> impl Iterator<Item = &'a Holder> {
        let services = self.snapshot.holders.iter().filter(|holder| service_of(holder).is_some());
        services.filter(move |holder| holder.may_be_on(&device.id))
    }
}

/// The devices that a request may have and of which the capacity is known.
fn of_known_capacity<'a>(
    request: &GpuRequest,
    snapshot: &'a GpuSnapshot,
) -> Result<Vec<&'a GpuDevice>, Refusal> {
    let mut devices = allowed(request, snapshot)?;
    devices.retain(|device| device.capacity_mib.is_some());
    if devices.len() < wanted(request) {
        let (count, known) = (request.count, devices.len());
        return Err(Refusal::NoGpu(format!(
            "it asks for {count} GPU(s), and only of {known} is it known how much memory they \
             have: say how much (--gpu 24GiB), or use the policy 'exclusive-per-gpu'"
        )));
    }
    Ok(devices)
}

#[cfg(test)]
mod tests;
