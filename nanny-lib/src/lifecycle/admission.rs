//! Who is let in to the GPUs, and at whose cost: where the lifecycle asks the policy.

use std::collections::BTreeSet;

use super::Now;
use super::service::{Desired, Up, Work};
use super::world::{Out, World};
use crate::error::Error;
use crate::gpu::{
    Account, ClaimPhase, Decision, GpuRequest, GpuSnapshot, Holder, HolderName, Placement, Refusal,
    arbitrate, resolve,
};
use crate::name::ServiceName;
use crate::nanny::StartOptions;
use crate::project::{Goal, labels};

impl World {
    /// Asks for leave to start, claims what it gets, and stops who must make way: of `victims`, if
    /// they are given.
    pub(super) fn admitted(
        &mut self,
        name: &ServiceName,
        options: StartOptions,
        victims: Option<&[ServiceName]>,
        now: Now,
        out: &mut Out,
    ) -> Result<Up, Error> {
        let admitted = self.admit(name, options)?;
        if let (Some(allowed), Admitted::Evicting(others, _)) = (victims, &admitted)
            && others.iter().any(|other| !allowed.contains(other))
        {
            let holders = others.iter().map(ToString::to_string).collect();
            let account = Box::new(self.account(name, options));
            return Err(Error::GpuConflict { holders, account });
        }
        Ok(self.grant(name, options, admitted, now, out))
    }

    /// Claims what a start was let in to, and stops who must make way.
    pub(super) fn grant(
        &mut self,
        name: &ServiceName,
        options: StartOptions,
        admitted: Admitted,
        now: Now,
        out: &mut Out,
    ) -> Up {
        let mut up = self.new_up(name, options, now);
        match admitted {
            Admitted::Freely(placement) => self.claim(name, placement),
            Admitted::Evicting(victims, placement) => {
                self.claim(name, placement);
                self.evict(name, &victims, &mut up, now, out);
            }
            Admitted::WithoutGpu => {}
        }
        up
    }

    /// Asks the policy whether a service may have a GPU, if it needs one.
    pub(super) fn admit(
        &self,
        name: &ServiceName,
        options: StartOptions,
    ) -> Result<Admitted, Error> {
        self.admit_beside(name, options, &self.gpu_snapshot(name))
    }

    /// Asks the policy whether a service may have a GPU beside these holders.
    pub(super) fn admit_beside(
        &self,
        name: &ServiceName,
        options: StartOptions,
        snapshot: &GpuSnapshot,
    ) -> Result<Admitted, Error> {
        let service = &self.services[name];
        if let Some(reason) = &service.wanted.unusable {
            let (name, reason) = (name.clone(), reason.clone());
            return Err(Error::StartFailed { name, reason, restored: Vec::new(), source: None });
        }
        if !service.needs_gpu() {
            return Ok(Admitted::WithoutGpu);
        }
        let account = || Box::new(self.account(name, options));
        let refuse = |reason| Error::GpuRefused { reason, account: account() };
        let request = self.gpu_request(name, options);
        let request = request.map_err(|reason| refuse(Refusal::NoGpu(reason)))?;
        let decision = arbitrate(&*self.policy, &request, snapshot);
        match decision.map_err(|fault| refuse(Refusal::Other(fault)))? {
            Decision::Admit { placement } => Ok(Admitted::Freely(placement)),
            Decision::Conflict { holders } => {
                let holders = holders.iter().map(ToString::to_string).collect();
                Err(Error::GpuConflict { holders, account: account() })
            }
            Decision::Refuse { reason: Refusal::NoGpu(reason) } => {
                // What keeps the GPUs from being seen, or in order, has a cure of its own.
                let problems = self.gpu_problems();
                let parts: Vec<_> = std::iter::once(reason).chain(problems).collect();
                Err(refuse(Refusal::NoGpu(parts.join("; "))))
            }
            Decision::Refuse { reason } => Err(refuse(reason)),
            Decision::Evict { victims, placement } => {
                for victim in &victims {
                    self.usable(victim.as_str())?;
                }
                Ok(Admitted::Evicting(victims, placement))
            }
        }
    }

    /// The sum that an answer to a start rests on.
    pub(super) fn account(&self, name: &ServiceName, options: StartOptions) -> Account {
        let request = self.gpu_request(name, options);
        let request = request.unwrap_or_else(|_| self.gpu_wish(name, options));
        let mut account = Account::of(&*self.policy, &request, &self.gpu_snapshot(name));
        if account.by_memory && !self.policy.measures() {
            return account;
        }
        for device in &mut account.devices {
            device.others = self.gpu_others(&device.gpu);
        }
        account
    }

    /// What a policy is asked for.
    ///
    /// # Errors
    ///
    /// Why the GPUs that its manifest names cannot be meant.
    fn gpu_request(&self, name: &ServiceName, options: StartOptions) -> Result<GpuRequest, String> {
        let devices = &self.services[name].wanted.manifest.gpus.devices;
        let mut request = self.gpu_wish(name, options);
        let readings = self.gpu_readings();
        if !devices.is_empty() && !readings.is_empty() {
            request.only = Some(resolve(devices, &readings)?);
        }
        Ok(request)
    }

    /// The same, but for the GPUs that its manifest names.
    fn gpu_wish(&self, name: &ServiceName, options: StartOptions) -> GpuRequest {
        let manifest = &self.services[name].wanted.manifest;
        let mut request = GpuRequest::new(name.clone());
        request.vram_mib = manifest.vram_mib().max(self.services[name].most_used_mib);
        request.count = manifest.gpus.count();
        let placed = self.containers_in_play(name).into_iter().find_map(labels::placement_of);
        request.previous = placed.iter().flat_map(Placement::devices).cloned().collect();
        request.priority = manifest.priority;
        request.force = options.force;
        request
    }

    /// What a policy may know when `requester` wants to start.
    pub(super) fn gpu_snapshot(&self, requester: &ServiceName) -> GpuSnapshot {
        let services = self.ledger.iter().filter(|(name, _)| *name != requester);
        let services = services.map(|(name, claim)| {
            let mut holder = Holder::new(HolderName::Service(name.clone()));
            holder.phase = claim.phase;
            holder.placement = self.charges_of(name, claim);
            if let Some(service) = self.services.get(name) {
                let manifest = &service.wanted.manifest;
                holder.vram_mib = manifest.vram_mib();
                holder.priority = manifest.priority;
                holder.pinned = manifest.pinned;
                holder.busy = self.held_until(name).is_some_and(|until| until > self.now.mono);
                holder.unused_for = self.now.mono.saturating_sub(service.used_at);
            }
            holder
        });
        let foreign = self.foreign_gpu_containers().into_iter();
        let foreign = foreign.map(|name| Holder::new(HolderName::Foreign(name)));
        let holders = services.chain(foreign).collect();
        GpuSnapshot::new(holders).with_devices(self.gpu_devices())
    }

    /// Stops `victims` for `newcomer`, and notes whom to start again should it fail.
    fn evict(
        &mut self,
        newcomer: &ServiceName,
        victims: &[ServiceName],
        up: &mut Up,
        now: Now,
        out: &mut Out,
    ) {
        let reason = format!("GPU service '{newcomer}' was started in its place");
        for victim in victims {
            let was_up = self.holds(victim);
            // Whoever is on the way down was let finish, or told not to.
            let is_leaving =
                self.services.get(victim).is_some_and(|s| matches!(s.work, Work::Down(_)));
            // Whoever had to make way for a victim that never ran is still owed the GPU.
            let (owed, after) = self.take_owed(victim);
            // The newcomer itself may be among those it waited for: it keeps its own claim.
            up.after.extend(after.into_iter().filter(|name| name != newcomer));
            self.take_in_hand(victim, Desired::Stopped);
            self.bring_down(victim, Goal::Down, &reason, now, out);
            if was_up && !is_leaving {
                self.drain(victim, now, out);
            }
            self.advance(victim, now, out);
            let owed = if owed.is_empty() && was_up { vec![victim.clone()] } else { owed };
            for name in owed {
                if name != *newcomer && !up.restore.contains(&name) {
                    up.restore.push(name);
                }
            }
            if was_up {
                up.stopped.push(victim.clone());
            }
            if self.ledger.get(victim).is_some() {
                up.after.insert(victim.clone());
            }
        }
    }

    /// Services that were stopped for a start of `name` that is not complete, and those whose
    /// claims it still waits for. From now on they are not its business.
    fn take_owed(&mut self, name: &ServiceName) -> (Vec<ServiceName>, BTreeSet<ServiceName>) {
        match self.services.get_mut(name).map(|service| &mut service.work) {
            Some(Work::Up(up)) => (std::mem::take(&mut up.restore), std::mem::take(&mut up.after)),
            Some(Work::Down(down)) => {
                let (mut restore, mut after) = (Vec::new(), BTreeSet::new());
                if let Some(failed) = &mut down.failed {
                    restore.append(&mut failed.restore);
                }
                if let Some(up) = &mut down.then {
                    restore.append(&mut up.restore);
                    after.append(&mut up.after);
                }
                (restore, after)
            }
            Some(Work::None) | None => Default::default(),
        }
    }

    pub(super) fn claim(&mut self, name: &ServiceName, placement: Placement) {
        let sequence = self.next_sequence();
        if !placement.is_anywhere() && !self.holds(name) {
            self.ledger.relocate(name, placement.clone());
        }
        self.ledger.grant(name, placement, sequence);
        self.ledger.advance(name, ClaimPhase::Reserved);
        if let Some(service) = self.services.get_mut(name) {
            service.counters.claim_begins(self.now);
        }
        self.place(name);
    }
}

/// Whether waiting may help: others may end, also those who are none of ours.
pub(super) fn room_may_come(error: &Error) -> bool {
    match error {
        Error::GpuConflict { .. } => true,
        Error::GpuRefused { reason: Refusal::NeverFits { .. }, account } => account.could_fit(),
        // One that is not in order may be again.
        Error::GpuRefused { reason: Refusal::NoGpu(_), account } => {
            account.devices.iter().any(|device| !device.is_usable)
        }
        _ => false,
    }
}

/// How a service was let in.
pub(super) enum Admitted {
    WithoutGpu,
    Freely(Placement),
    Evicting(Vec<ServiceName>, Placement),
}
