//! The GPUs, as last seen: who uses them, what is being handed back, and who waits for that.

mod device;
mod gate;
mod shown;

use std::collections::BTreeSet;
use std::time::Duration;

use self::device::{Device, HandedBack, Live, NOISE_MIB, Settled};
pub(super) use self::gate::Lack;
use super::engines::Engine;
use super::service::{Down, Work};
use super::world::{Out, Timer, World};
use super::{Effect, Now};
use crate::gpu::{
    Claim, ClaimPhase, GpuDevice, GpuHealth, GpuProblem, GpuProcess, GpuReading, Placement, Sweep,
};
use crate::name::{GpuId, ServiceName};
use crate::nanny::Change;
use crate::project::{PlacedGpu, labels};

/// What the world knows of the machine's GPUs.
#[derive(Debug, Default)]
pub(super) struct Gpus {
    /// Somebody looks at them.
    pub(super) are_measured: bool,
    /// They were looked at once.
    pub(super) were_seen: bool,
    /// The number of the sweep under way.
    sweeping: Option<u64>,
    /// The number of the last that was answered.
    heard: u64,
    /// When the next is due.
    next: Duration,
    devices: Vec<Device>,
    problems: Vec<String>,
    /// Those that were told to whoever listens.
    told: BTreeSet<String>,
    releases: Vec<Release>,
}

/// Memory that a service had, and that is not known to be free again yet.
#[derive(Debug)]
struct Release {
    service: ServiceName,
    gpu: GpuId,
    /// A sweep that was asked for under this number or a later one knows more.
    from: u64,
    /// After that, it is not expected any more.
    until: Duration,
}

impl World {
    /// Somebody looks at the GPUs: nothing is decided before they were seen once.
    #[must_use]
    pub fn measuring_gpus(mut self) -> Self {
        self.gpus.are_measured = true;
        self
    }

    /// Somebody knows what services have under way: who must make way may finish that.
    #[must_use]
    pub fn draining_services(mut self) -> Self {
        self.drains = true;
        self
    }

    /// Looks at the GPUs, unless that is being done.
    pub(super) fn sweep(&mut self, now: Now, out: &mut Out) {
        if !self.gpus.are_measured || self.gpus.sweeping.is_some() {
            return;
        }
        let issued = self.next_sequence();
        self.gpus.sweeping = Some(issued);
        self.gpus.next = now.mono.saturating_add(self.settings.gpu.sweep);
        out.push(Effect::Sweep);
    }

    pub(super) fn sweep_if_due(&mut self, now: Now, out: &mut Out) {
        if self.gpus.next <= now.mono {
            self.sweep(now, out);
        }
    }

    pub(super) fn on_swept(&mut self, seen: Result<Sweep, String>, now: Now, out: &mut Out) {
        let issued = self.gpus.sweeping.take().unwrap_or(0);
        self.gpus.heard = issued;
        // Whose the processes are is known once all containers are.
        let all_heard = self.discovery.done && self.engines.iter().all(Engine::was_heard);
        let is_first = all_heard && !self.gpus.were_seen;
        self.gpus.were_seen |= all_heard;
        match seen {
            Ok(sweep) => self.take_in(sweep, now),
            Err(reason) => {
                // Nothing is measured any more, and the GPUs are still there.
                self.gpus.problems = vec![reason];
                self.gpus.devices.iter_mut().for_each(Device::forget_use);
            }
        }
        self.settle_foreign(issued, now, out);
        self.note_use();
        let holders: Vec<_> = self.ledger.iter().map(|(name, _)| name.clone()).collect();
        for name in holders {
            self.place(&name);
        }
        self.tell_problems(out);
        let waiting: Vec<_> = self.those_at_the_gate();
        let quiet = waiting.is_empty() && self.gpus.releases.is_empty() && all_heard;
        let pause = if quiet { self.settings.gpu.sweep } else { self.settings.gpu.sweep_waiting };
        self.gpus.next = now.mono.saturating_add(pause);
        self.schedule(self.gpus.next, Timer::Gpus);
        for name in waiting {
            self.advance(&name, now, out);
        }
        if is_first {
            // Only now is it known what does not run.
            let all: Vec<_> = self.services.keys().cloned().collect();
            for name in all {
                self.advance(&name, now, out);
            }
        }
        self.take_up_journal(now, out);
    }

    /// Tells what is newly wrong with GPUs: each fault once, as long as it lasts.
    fn tell_problems(&mut self, out: &mut Out) {
        let problems: BTreeSet<_> = self.gpu_problems().into_iter().collect();
        for problem in problems.difference(&self.gpus.told) {
            out.push(Effect::Announce(Change::GpuProblem { problem: problem.clone() }));
        }
        self.gpus.told = problems;
    }

    fn take_in(&mut self, sweep: Sweep, now: Now) {
        let until = now.mono.saturating_add(self.settings.gpu.release_limit);
        let Sweep { devices: readings, problems } = sweep;
        let mut known = std::mem::take(&mut self.gpus.devices);
        let mut devices = Vec::new();
        for reading in readings {
            let before = known.iter().position(|device| device.reading.id == reading.id);
            let mut device = match before {
                Some(index) => {
                    let mut device = known.remove(index);
                    device.reading = reading;
                    device
                }
                None => Device::new(reading),
            };
            let left = device.attribute(|process| self.owner_of(process));
            let gpu = &device.reading.id;
            self.gpus.releases.extend(left.into_iter().map(|service| Release {
                service,
                gpu: gpu.clone(),
                from: 0,
                until,
            }));
            devices.push(device);
        }
        // One that was there and is not any more is lost, and not forgotten.
        for mut device in known {
            device.forget_use();
            device.reading.health = GpuHealth::Unusable("it is gone".to_owned());
            devices.push(device);
        }
        let told = |problem: &GpuProblem| match &problem.gpu {
            Some(gpu) => format!("{gpu}: {}", problem.message),
            None => problem.message.clone(),
        };
        self.gpus.problems = problems.iter().map(told).collect();
        self.gpus.devices = devices;
    }

    /// The service that a process on a GPU belongs to.
    fn owner_of(&self, process: &GpuProcess) -> Option<ServiceName> {
        let containers = self
            .engines
            .iter()
            .flat_map(|engine| engine.containers.iter().map(move |container| (engine, container)));
        let mut its = containers.filter(|(_, container)| {
            let id = container.id.as_str();
            process.containers.iter().any(|named| named == id)
                || container.processes.iter().any(|pid| process.lineage.contains(pid))
        });
        its.find_map(|(engine, container)| engine.containers.owner(&container.id).cloned())
    }

    /// Notes what is in use by nobody we know, and what has become of what was being handed back.
    fn settle_foreign(&mut self, issued: u64, now: Now, out: &mut Out) {
        for index in 0..self.gpus.devices.len() {
            let live = self.live_on(&self.gpus.devices[index].reading.id, now);
            let device = &mut self.gpus.devices[index];
            let gpu = device.reading.id.clone();
            let mut here =
                self.gpus.releases.iter().filter(|release| release.gpu == gpu).peekable();
            let Some(first) = here.peek() else {
                device.settle(&live, HandedBack::Nothing);
                continue;
            };
            let service = first.service.clone();
            let mut all_heard = true;
            let mut is_late = true;
            for release in here {
                all_heard &= release.from <= issued;
                is_late &= release.until <= now.mono;
            }
            let handed_back = match (all_heard, is_late) {
                (false, _) => HandedBack::Unseen,
                (true, false) => HandedBack::Expected,
                (true, true) => HandedBack::Late,
            };
            match device.settle(&live, handed_back) {
                Settled::No => continue,
                Settled::Yes => {}
                // It is not coming back: from now on it is like anybody else's.
                Settled::Without { mib } => {
                    let reason = device.hold(&service, mib);
                    let gpu = gpu.clone();
                    out.push(Effect::Announce(Change::GpuMemoryHeld { gpu, service, reason }));
                }
            }
            self.gpus.releases.retain(|release| release.gpu != gpu);
        }
    }

    /// Those who may use a GPU now.
    fn live_on(&self, gpu: &GpuId, now: Now) -> Vec<Live> {
        let here = self
            .ledger
            .iter()
            .filter(|(_, claim)| claim.phase != ClaimPhase::Reserved && claim.may_be_on(gpu));
        let live = here.map(|(name, claim)| {
            let left = self.services.get(name).and_then(|service| service.left_gpu);
            let limit = self.settings.gpu.release_limit;
            Live {
                name: name.clone(),
                phase: claim.phase,
                charge_mib: self.charge_of(name, claim, gpu),
                hands_back: left.is_some_and(|at| now.mono < at.saturating_add(limit)),
            }
        });
        live.collect()
    }

    /// Notes what claims are seen to use: the most of it is what they are charged.
    fn note_use(&mut self) {
        for device in &self.gpus.devices {
            for (name, &mib) in &device.users {
                self.ledger.measure(name, &device.reading.id, mib);
                if let Some(service) = self.services.get_mut(name) {
                    service.most_used_mib = service.most_used_mib.max(mib);
                }
            }
        }
        let holders: Vec<_> = self.ledger.iter().map(|(name, _)| name.clone()).collect();
        for name in holders {
            self.touch(&name);
        }
    }

    /// Ends a claim. What its service had on GPUs is free once it is seen to be.
    pub(super) fn release_claim(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        let Some(claim) = self.ledger.release(name) else { return };
        if let Some(service) = self.services.get_mut(name) {
            service.placed = None;
            service.gpu_since = None;
            service.counters.claim_ends(now);
        }
        if claim.phase != ClaimPhase::Reserved {
            self.expect_release(name, &claim, now, out);
        }
    }

    /// A service that keeps its claim is down: what it had on GPUs is free once it is seen to be.
    pub(super) fn expect_own_release(&mut self, name: &ServiceName, now: Now, out: &mut Out) {
        if let Some(claim) = self.ledger.get(name).cloned()
            && !self.holds(name)
        {
            self.expect_release(name, &claim, now, out);
        }
    }

    fn expect_release(&mut self, name: &ServiceName, claim: &Claim, now: Now, out: &mut Out) {
        if !self.gpus.are_measured {
            return;
        }
        let (from, until) =
            (self.next_sequence(), now.mono.saturating_add(self.settings.gpu.release_limit));
        let measured = self.gpus.devices.iter().filter(|d| d.reading.used_mib.is_some());
        let its = measured.filter(|device| {
            claim.may_be_on(&device.reading.id) || device.users.contains_key(name)
        });
        let gpus: Vec<_> = its.map(|device| device.reading.id.clone()).collect();
        for gpu in gpus {
            self.gpus.releases.push(Release { service: name.clone(), gpu, from, until });
        }
        self.gpus.next = now.mono;
        self.sweep(now, out);
        self.schedule(now.mono.saturating_add(self.settings.gpu.sweep_waiting), Timer::Gpus);
    }

    /// The GPUs as a policy sees them.
    pub(super) fn gpu_devices(&self) -> Vec<GpuDevice> {
        let seen = self.gpus.devices.iter().map(|device| GpuDevice {
            id: device.reading.id.clone(),
            capacity_mib: device.reading.total_mib,
            headroom_mib: self.settings.gpu.headroom_mib,
            foreign_mib: device.foreign_mib,
            is_usable: device.reading.health == GpuHealth::Ok,
        });
        seen.collect()
    }

    /// The GPUs as they were read last.
    pub(super) fn gpu_readings(&self) -> Vec<GpuReading> {
        self.gpus.devices.iter().map(|device| device.reading.clone()).collect()
    }

    /// Passes the GPUs of a claim on to what is made for its service.
    pub(super) fn place(&mut self, name: &ServiceName) {
        let claim = self.ledger.get(name).filter(|claim| !claim.placement.is_anywhere());
        let gpus = claim.map(|claim| PlacedGpu::of(&claim.placement, &self.gpu_readings()));
        if let Some(service) = self.services.get_mut(name) {
            service.placed = gpus.map(|gpus| service.wanted.project.placed_on(&gpus));
        }
    }

    /// Nothing of a service runs any more: its claim is where it is to be started.
    pub(super) fn move_claim(&mut self, name: &ServiceName) {
        if self.holds(name) {
            return;
        }
        let Some(Work::Up(up)) = self.services.get_mut(name).map(|s| &mut s.work) else { return };
        if let Some(placement) = up.moves_to.take() {
            self.ledger.relocate(name, placement);
            self.place(name);
        }
    }

    /// Where what runs of a service was placed, as its containers say.
    pub(super) fn found_on(&self, name: &ServiceName) -> Placement {
        let containers = self.containers(name);
        let mut running = containers.into_iter().filter(|container| container.state.holds());
        running.find_map(labels::placement_of).unwrap_or_default()
    }

    /// What a claim is charged, where it is known to be. Of one that was placed by other hands, what
    /// it declares counts where it was seen: it may not have taken all of that yet. One that is to
    /// move is charged where it goes, too.
    pub(super) fn charges_of(&self, name: &ServiceName, claim: &Claim) -> Placement {
        let mut charges = claim.charges();
        let coming = match self.services.get(name).map(|service| &service.work) {
            Some(Work::Up(up) | Work::Down(Down { then: Some(up), .. })) => up.moves_to.as_ref(),
            Some(Work::None | Work::Down(_)) | None => None,
        };
        for (gpu, mib) in coming.iter().flat_map(|placement| &placement.mib) {
            let charge = charges.mib.entry(gpu.clone()).or_default();
            *charge = (*mib).max(*charge);
        }
        if claim.placement.is_anywhere() {
            let declared_mib = self.declared(name);
            charges.mib.values_mut().for_each(|mib| *mib = declared_mib.max(*mib));
        }
        charges
    }

    /// What a claim comes to on one GPU.
    fn charge_of(&self, name: &ServiceName, claim: &Claim, gpu: &GpuId) -> u64 {
        let charges = self.charges_of(name, claim);
        if charges.is_anywhere() {
            return self.declared(name);
        }
        charges.mib.get(gpu).copied().unwrap_or(0)
    }

    fn declared(&self, name: &ServiceName) -> u64 {
        self.services.get(name).map_or(0, |service| service.wanted.manifest.vram_mib())
    }
}
