//! A second opinion: what may be answered, from the written rules alone.
//!
//! It shares no arithmetic with the policies and the arbiter. It counts in `i128`, reads the fields
//! of a snapshot itself, and tries every set of services that could make way.

use crate::gpu::{
    ClaimPhase, Decision, GpuDevice, GpuRequest, GpuSnapshot, Holder, HolderName, Placement,
    Refusal,
};
use crate::name::ServiceName;

/// By which rules room is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// What fits into memory, counting what others use.
    Memory,
    /// What fits into memory by the charges of services alone.
    Ledger,
    /// One holder on each device.
    Alone,
    /// The same, but for containers of other hands.
    AloneBesideStrangers,
}

/// A request in a world, under a rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) rule: Rule,
    pub(super) request: &'a GpuRequest,
    pub(super) snapshot: &'a GpuSnapshot,
}

/// A set of holders, one bit each.
pub(super) type Set = u32;

impl Case<'_> {
    fn holders(&self) -> impl Iterator<Item = (Set, &Holder)> {
        self.snapshot.holders.iter().enumerate().map(|(index, holder)| (1 << index, holder))
    }

    /// All holders that are `so`.
    pub(super) fn all(&self, so: impl Fn(&Holder) -> bool) -> Set {
        self.holders().filter(|(_, holder)| so(holder)).map(|(bit, _)| bit).sum()
    }

    pub(super) fn services(&self) -> Set {
        self.all(|holder| matches!(holder.who, HolderName::Service(_)))
    }

    /// The set of those with these names; `None` if somebody is no holder or named twice.
    pub(super) fn set<'b>(&self, names: impl Iterator<Item = &'b HolderName>) -> Option<Set> {
        let mut set = 0;
        for name in names {
            let (bit, _) = self.holders().find(|(_, holder)| holder.who == *name)?;
            if set & bit != 0 {
                return None;
            }
            set |= bit;
        }
        Some(set)
    }

    /// Devices that the request may have under this rule, whoever is there.
    pub(super) fn eligible(&self) -> Vec<&GpuDevice> {
        let mut eligible = Vec::new();
        for device in &self.snapshot.devices {
            let only = self.request.only.as_ref();
            let named = only.is_none() || only.is_some_and(|only| only.contains(&device.id));
            let known = match self.rule {
                Rule::Memory | Rule::Ledger => device.capacity_mib.is_some(),
                Rule::Alone | Rule::AloneBesideStrangers => true,
            };
            if device.is_usable && named && known {
                eligible.push(device);
            }
        }
        eligible
    }

    /// Memory that is left on a device once `gone` are, which may be less than nothing.
    pub(super) fn left(&self, device: &GpuDevice, gone: Set) -> i128 {
        let mut left = device.capacity_mib.map_or(0, i128::from) - i128::from(device.headroom_mib);
        if self.rule != Rule::Ledger {
            left -= i128::from(device.foreign_mib);
        }
        for (bit, holder) in self.holders() {
            let counts = match holder.who {
                HolderName::Service(_) => gone & bit == 0,
                HolderName::Foreign(_) => self.rule != Rule::Ledger,
            };
            if counts {
                left -= charge(holder, device).unwrap_or(0);
            }
        }
        left
    }

    /// Whether the request may have a device once `gone` are.
    pub(super) fn fits(&self, device: &GpuDevice, gone: Set) -> bool {
        let mut services = Vec::new();
        let mut strangers = 0;
        for (bit, holder) in self.holders() {
            let Some(charge) = charge(holder, device) else { continue };
            match holder.who {
                HolderName::Service(_) if gone & bit != 0 => {}
                HolderName::Service(_) => services.push(charge),
                HolderName::Foreign(_) if gone & bit != 0 => {}
                HolderName::Foreign(_) => strangers += 1,
            }
        }
        let need = i128::from(self.request.vram_mib);
        let is_large_enough = device.capacity_mib.is_none_or(|mib| i128::from(mib) >= need);
        match self.rule {
            Rule::Alone => services.is_empty() && strangers == 0 && is_large_enough,
            Rule::AloneBesideStrangers => services.is_empty() && is_large_enough,
            Rule::Memory | Rule::Ledger if need == 0 => {
                services.is_empty() && self.left(device, gone) >= 1
            }
            Rule::Memory | Rule::Ledger => {
                !services.contains(&0) && self.left(device, gone) >= need
            }
        }
    }

    /// Whether there is room for the request once `gone` are.
    pub(super) fn has_room(&self, gone: Set) -> bool {
        let fitting = self.eligible().into_iter().filter(|device| self.fits(device, gone)).count();
        fitting >= self.request.count as usize
    }

    /// Whether any of the sets within `those` makes room.
    pub(super) fn any_helps(&self, those: Set) -> bool {
        (0..=those).any(|set| set & !those == 0 && self.has_room(set))
    }

    /// There is room without `set`, and none if any of them stays.
    pub(super) fn is_minimal(&self, set: Set) -> bool {
        let bits = (0..Set::BITS).map(|bit| 1 << bit).filter(|bit| set & bit != 0);
        self.has_room(set) && bits.into_iter().all(|bit| !self.has_room(set & !bit))
    }

    /// Whether `set` lies within as many of `those` as are needed if they go in order.
    pub(super) fn goes_in_order(&self, set: Set, those: Set, by_priority: bool) -> bool {
        let mut order: Vec<_> = self.holders().filter(|(bit, _)| those & bit != 0).collect();
        order.sort_by(|(_, a), (_, b)| {
            let leaves = |holder: &Holder| {
                holder.phase == ClaimPhase::Draining || holder.phase == ClaimPhase::Stopping
            };
            let by_leaving = leaves(b).cmp(&leaves(a));
            let by_rank = if by_priority { a.priority.cmp(&b.priority) } else { by_leaving };
            let by_use = b.unused_for.cmp(&a.unused_for);
            by_leaving.then(by_rank).then(by_use).then(a.who.cmp(&b.who))
        });
        let mut gone = 0;
        for (bit, _) in order {
            if self.has_room(gone) {
                break;
            }
            gone |= bit;
        }
        set & !gone == 0
    }

    /// Whether a placement is on the devices that it should be on, of all that have room.
    pub(super) fn is_best(&self, placement: &Placement, gone: Set, spread: bool) -> bool {
        let rank = |device: &GpuDevice| {
            let strayed = !self.request.previous.contains(&device.id);
            let strangers = self.holders().filter(|(_, holder)| {
                matches!(holder.who, HolderName::Foreign(_)) && charge(holder, device).is_some()
            });
            let is_filled = device.capacity_mib.is_some_and(|capacity| {
                let taken = i128::from(device.headroom_mib) + i128::from(device.foreign_mib);
                (i128::from(capacity) - taken).max(0) < i128::from(self.request.vram_mib)
            });
            match self.rule {
                Rule::Memory | Rule::Ledger => {
                    let left = self.left(device, gone);
                    (0, false, strayed, if spread { -left } else { left })
                }
                Rule::Alone | Rule::AloneBesideStrangers => {
                    (strangers.count(), is_filled, strayed, 0)
                }
            }
        };
        let fitting = self.eligible().into_iter().filter(|device| self.fits(device, gone));
        let mut ranks: Vec<_> = fitting.map(rank).collect();
        ranks.sort_unstable();
        ranks.truncate(self.request.count as usize);
        let chosen = self.snapshot.devices.iter().filter(|d| placement.mib.contains_key(&d.id));
        let mut chosen: Vec<_> = chosen.map(rank).collect();
        chosen.sort_unstable();
        chosen == ranks
    }

    /// What is wrong with a placement once `gone` are.
    pub(super) fn check_placement(&self, placement: &Placement, gone: Set) -> Result<(), String> {
        if placement.mib.len() != self.request.count as usize {
            return Err(format!("{} devices", placement.mib.len()));
        }
        for (gpu, &mib) in &placement.mib {
            let Some(device) = self.eligible().into_iter().find(|device| device.id == *gpu) else {
                return Err(format!("{gpu} is not for it"));
            };
            if !self.fits(device, gone) {
                return Err(format!("no room on {gpu}"));
            }
            let charge = match (self.rule, self.request.vram_mib) {
                (Rule::Memory | Rule::Ledger, 0) => self.left(device, gone),
                (_, need) => i128::from(need),
            };
            if i128::from(mib) != charge {
                return Err(format!("charged {mib} and not {charge} on {gpu}"));
            }
        }
        Ok(())
    }
}

/// What a holder is charged on a device; `None` if it is not there.
fn charge(holder: &Holder, device: &GpuDevice) -> Option<i128> {
    if holder.placement.mib.is_empty() {
        return Some(i128::from(holder.vram_mib));
    }
    holder.placement.mib.get(&device.id).copied().map(i128::from)
}

/// Whether an answer keeps the contract of a policy: what the arbiter must let through, and all that
/// it may.
pub(super) fn is_sound(
    decision: &Decision,
    measures: bool,
    request: &GpuRequest,
    snapshot: &GpuSnapshot,
) -> bool {
    let find = |who: &HolderName| snapshot.holders.iter().find(|holder| holder.who == *who);
    let is_placed_well = |placement: &Placement, victims: &[ServiceName]| {
        if placement.mib.is_empty() {
            return !measures;
        }
        let is_gone = |holder: &Holder| matches!(&holder.who, HolderName::Service(name) if victims.contains(name));
        placement.mib.len() == request.count as usize
            && placement.mib.iter().all(|(gpu, &mib)| {
                let Some(device) = snapshot.devices.iter().find(|device| device.id == *gpu) else {
                    return false;
                };
                let is_allowed = request.only.as_ref().is_none_or(|only| only.contains(gpu));
                let stay = snapshot.holders.iter().filter(|holder| !is_gone(holder));
                let sum: i128 = stay.filter_map(|holder| charge(holder, device)).sum();
                let taken = [mib, device.foreign_mib, device.headroom_mib].map(i128::from);
                let sum = sum + taken.iter().sum::<i128>();
                let fits = device.capacity_mib.is_some_and(|mib| sum <= i128::from(mib));
                device.is_usable
                    && is_allowed
                    && mib >= request.vram_mib
                    && (!measures || (fits && mib > 0))
            })
    };
    match decision {
        Decision::Admit { placement } => is_placed_well(placement, &[]),
        Decision::Evict { victims, placement } => {
            let mut sorted = victims.clone();
            sorted.sort();
            sorted.dedup();
            let may_go = |victim: &ServiceName| {
                find(&HolderName::Service(victim.clone())).is_some_and(|holder| {
                    let is_below = holder.priority < request.priority && !holder.busy;
                    !holder.pinned && (request.force || is_below)
                })
            };
            !victims.is_empty()
                && sorted.len() == victims.len()
                && victims.iter().all(may_go)
                && is_placed_well(placement, victims)
        }
        Decision::Conflict { holders } if holders.is_empty() => {
            snapshot.devices.iter().any(|device| device.foreign_mib > 0)
        }
        Decision::Conflict { holders } => holders.iter().all(|who| find(who).is_some()),
        Decision::Refuse { reason: Refusal::Pinned(who) } => {
            find(who).is_some_and(|holder| holder.pinned)
        }
        Decision::Refuse { .. } => true,
    }
}
