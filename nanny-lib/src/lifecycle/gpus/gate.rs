//! The last gate before a start: what a service was promised must really be there.

use std::time::Duration;

use super::NOISE_MIB;
use super::shown::who;
use crate::gpu::Claim;
use crate::lifecycle::admission::room_may_come;
use crate::lifecycle::service::{Desired, Waiter, Work};
use crate::lifecycle::world::{Out, Timer, World};
use crate::lifecycle::{Answer, Effect, Now};
use crate::name::{GpuId, ServiceName};
use crate::nanny::StartOptions;

/// A start that waits for another on its GPU looks again after so long.
const A_MOMENT: Duration = Duration::from_millis(500);

impl World {
    /// Whether the GPUs were looked at since everybody who made way for a service is down, and looks
    /// if not: what was read before may be about memory that was taken, or handed back, since.
    fn has_looked(&mut self, name: &ServiceName, now: Now, out: &mut Out) -> bool {
        let Some(claim) = self.ledger.get(name) else { return true };
        let concerns = |gpu: &GpuId| claim.may_be_on(gpu);
        let comes_back = self.gpus.releases.iter().any(|release| concerns(&release.gpu));
        let is_promised = self.policy.measures() || comes_back;
        if !is_promised || !self.gpus.devices.iter().any(|d| concerns(&d.reading.id)) {
            return true;
        }
        let number = self.next_sequence();
        let Some(Work::Up(up)) = self.services.get_mut(name).map(|s| &mut s.work) else {
            return true;
        };
        if up.has_gpu || *up.looks_from.get_or_insert(number) <= self.gpus.heard {
            return true;
        }
        // The answer asks again; one to an earlier question is not enough.
        self.sweep(now, out);
        false
    }

    /// Whether what a service was promised is really there, so that it can be started now. If not,
    /// it is looked at again, and the start fails in the end.
    pub(in crate::lifecycle) fn may_use_gpu(
        &mut self,
        name: &ServiceName,
        now: Now,
        out: &mut Out,
    ) -> bool {
        if !self.has_looked(name, now, out) {
            return false;
        }
        let Some(Work::Up(up)) = self.services.get(name).map(|service| &service.work) else {
            return false;
        };
        let Some(claim) = self.ledger.get(name).filter(|_| !up.has_gpu) else { return true };
        let deadline =
            up.memory_by.unwrap_or(now.mono.saturating_add(self.settings.gpu.release_limit));
        let lack = self.lack(name, claim);
        if let Some(lack) = lack.filter(|lack| !lack.is_guess || deadline > now.mono) {
            if lack.is_strangers && self.turn_away(name, now, out) {
                return false;
            }
            if deadline <= now.mono {
                self.fail_up_for_memory(name, &lack, now, out);
                return false;
            }
            if let Some(Work::Up(up)) = self.services.get_mut(name).map(|s| &mut s.work) {
                up.memory_by = Some(deadline);
            }
            self.schedule(deadline, Timer::Service(name.clone()));
            self.schedule(now.mono.saturating_add(self.settings.gpu.sweep_waiting), Timer::Gpus);
            self.gpus.next =
                self.gpus.next.min(now.mono.saturating_add(self.settings.gpu.sweep_waiting));
            return false;
        }
        let is_alone = !self.another_starts_beside(name, claim, now);
        if let Some(Work::Up(up)) = self.services.get_mut(name).map(|s| &mut s.work) {
            up.has_gpu = is_alone;
            up.memory_by = None;
        }
        if !is_alone {
            self.schedule(now.mono + A_MOMENT, Timer::Service(name.clone()));
        }
        is_alone
    }

    /// Treats a start that was let in, and for which nobody made way, as one that was not: strangers
    /// have come since. `false` if it is none of those.
    fn turn_away(&mut self, name: &ServiceName, now: Now, out: &mut Out) -> bool {
        let Some(Work::Up(up)) = self.services.get(name).map(|service| &service.work) else {
            return false;
        };
        let owes = !up.stopped.is_empty() || !up.restore.is_empty() || up.part_of.is_some();
        if owes || self.holds(name) || !self.is_quiet(name) {
            return false;
        }
        let mut options = StartOptions::default().queued_for(up.queue);
        (options.rollback, options.recreate) = (up.rollback, up.recreate);
        let Err(error) = self.admit(name, options) else { return false };
        let Some(service) = self.services.get_mut(name) else { return false };
        let Work::Up(up) = std::mem::replace(&mut service.work, Work::None) else { return false };
        service.desired = Desired::Stopped;
        self.release_claim(name, now, out);
        if !options.queue.is_zero() && room_may_come(&error) {
            self.enqueue(name, options, error, None, now, out);
            for waiter in up.waiters {
                // It waits anew, and as long as the others.
                let waiter = Waiter { queues_until: None, ..waiter };
                self.join(name, Some(waiter), now, out);
            }
            return true;
        }
        if let Some(service) = self.services.get_mut(name) {
            // Somebody must be told.
            service.failure = up.waiters.is_empty().then(|| error.to_string());
        }
        for waiter in up.waiters {
            out.push(Effect::Reply(waiter.request, Answer::Started(Err(error.clone()))));
        }
        self.rest(name, now, out);
        true
    }

    /// Whether memory is in use that a service may have had of which nobody knows any more.
    pub(in crate::lifecycle) fn gpu_memory_may_come_back(&self) -> bool {
        self.policy.measures() && self.gpus.devices.iter().any(|d| d.foreign_mib > NOISE_MIB)
    }

    /// What is missing on the GPUs of a claim, if anything is.
    fn lack(&self, name: &ServiceName, claim: &Claim) -> Option<Lack> {
        let service = self.services.get(name)?;
        let declared_mib = service.wanted.manifest.vram_mib().max(service.most_used_mib);
        let promised = self.policy.measures();
        let its = self.gpus.devices.iter().filter(|d| claim.may_be_on(&d.reading.id));
        its.filter_map(|device| {
            let id = &device.reading.id;
            // What runs of it has its memory already.
            let own_mib = match device.users.get(name) {
                _ if !self.holds(name) => 0,
                None if !device.tells_users() => declared_mib,
                used => used.copied().unwrap_or(0),
            };
            let free_mib = device.free_mib()?.saturating_add(own_mib);
            // Who does not say what it needs is charged for all there is, and makes do with less.
            let charge_mib = claim.placement.mib.get(id).copied();
            let may_be_here = claim.placement.is_anywhere().then_some(declared_mib);
            let need_mib = declared_mib.min(charge_mib.or(may_be_here).unwrap_or(0));
            let needed = need_mib.saturating_add(self.settings.gpu.headroom_mib);
            let needed = needed.saturating_sub(NOISE_MIB);
            let comes_back = self.gpus.releases.iter().any(|release| release.gpu == *id);
            let fits = need_mib > 0 && free_mib >= needed;
            let is_promised = promised && charge_mib.is_some() && need_mib > 0;
            let lacks = !fits && (comes_back || is_promised);
            lacks.then(|| Lack {
                gpu: id.clone(),
                need_mib,
                free_mib,
                users: device.processes().iter().map(who).collect(),
                is_guess: need_mib == 0 && !device.tells_users(),
                is_strangers: !comes_back,
            })
        })
        .next()
    }

    /// Programs measure a GPU when they start: two at once mislead each other.
    fn another_starts_beside(&self, name: &ServiceName, claim: &Claim, now: Now) -> bool {
        let shares = |other: &Claim| {
            claim.placement.devices().any(|gpu| other.placement.mib.contains_key(gpu))
        };
        let others = self.ledger.iter().filter(|(other, held)| *other != name && shares(held));
        others.map(|(other, _)| other).any(|other| {
            let Some(service) = self.services.get(other) else { return false };
            match &service.work {
                Work::Up(up) => up.has_gpu,
                Work::Down(_) => false,
                Work::None => {
                    let loads =
                        service.monitor.ran_for(now.mono) < service.wanted.manifest.health_timeout;
                    self.holds(other) && loads && !self.is_healthy(other)
                }
            }
        })
    }

    /// Services that were let in, and wait until they can have what they were promised.
    pub(super) fn those_at_the_gate(&self) -> Vec<ServiceName> {
        let waits = |name: &ServiceName| {
            let work = self.services.get(name).map(|service| &service.work);
            matches!(work, Some(Work::Up(up)) if !up.has_gpu
                && !up.after.iter().any(|victim| self.ledger.get(victim).is_some()))
        };
        let claimants = self.ledger.iter().map(|(name, _)| name);
        claimants.filter(|name| waits(name)).cloned().collect()
    }
}

/// What a service was promised and cannot have yet.
#[derive(Debug)]
pub(in crate::lifecycle) struct Lack {
    gpu: GpuId,
    need_mib: u64,
    free_mib: u64,
    users: Vec<String>,
    /// Neither can be told what it needs, nor whose the memory is that is in use.
    is_guess: bool,
    /// Nothing is being handed back there: others have it.
    is_strangers: bool,
}

impl Lack {
    /// For a person.
    pub(in crate::lifecycle) fn reason(&self) -> String {
        let Self { gpu, need_mib, free_mib, users, .. } = self;
        let users = if users.is_empty() {
            "no process is seen to have it".to_owned()
        } else {
            format!("in use by {}", users.join(", "))
        };
        let need = if *need_mib == 0 {
            "the memory of the one that made way did not become free".to_owned()
        } else {
            format!("{need_mib} MiB did not become free")
        };
        format!("{need} on {gpu}: {free_mib} MiB are free, {users}")
    }
}
