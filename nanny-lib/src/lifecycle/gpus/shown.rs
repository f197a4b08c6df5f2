//! GPUs as people see them.

use std::sync::Arc;
use std::time::Duration;

use super::{Device, NOISE_MIB};
use crate::gpu::{ClaimPhase, GpuHealth, GpuProcess, GpuReading};
use crate::lifecycle::Now;
use crate::lifecycle::world::World;
use crate::name::{GpuId, ServiceName};
use crate::nanny::{GpuClaimView, GpuUserView, GpuView};

impl World {
    /// What a person should know of how a service uses its GPUs.
    pub(in crate::lifecycle) fn gpu_notices(&self, name: &ServiceName, now: Now) -> Vec<String> {
        let mut notices = Vec::new();
        let (Some(service), Some(claim)) = (self.services.get(name), self.ledger.get(name)) else {
            return notices;
        };
        for device in &self.gpus.devices {
            let id = &device.reading.id;
            if device.users.contains_key(name)
                && !claim.placement.is_anywhere()
                && !claim.placement.mib.contains_key(id)
            {
                notices.push(format!("it uses {id}, which it was not given"));
            }
            if let GpuHealth::Suspect(reason) | GpuHealth::Unusable(reason) = &device.reading.health
                && (claim.placement.mib.contains_key(id) || device.users.contains_key(name))
            {
                notices.push(format!("it is on {id}, which is not in order: {reason}"));
            }
        }
        let declared = service.wanted.manifest.vram_mib();
        let used = claim.measured_mib.values().copied().max().unwrap_or(0);
        let long = service.monitor.ran_for(now.mono) >= LONG;
        let too_little = used > declared.saturating_add(declared / 10) && used > NOISE_MIB;
        let too_much = declared > 0 && used > 0 && used < declared / 2 && long;
        if too_little || too_much {
            notices.push(format!(
                "it declares {declared} MiB of video memory and was seen to use {used} MiB: write \
                 'vram_gb: {}' into its manifest",
                gigabytes(used)
            ));
        }
        let mut its =
            self.gpus.devices.iter().filter(|d| claim.placement.mib.contains_key(&d.reading.id));
        let seen = !claim.placement.is_anywhere() && its.all(Device::tells_users);
        if seen && used == 0 && claim.phase == ClaimPhase::Running && long && self.holds(name) {
            notices.push(
                "no process of it was seen on its GPU: it may be running on the processor"
                    .to_owned(),
            );
        }
        notices
    }

    /// What could not be seen of the GPUs, or is wrong there, for a person.
    #[must_use]
    pub fn gpu_problems(&self) -> Vec<String> {
        let held = self.gpus.devices.iter().filter_map(|device| {
            device.held.as_ref().map(|held| format!("{}: {held}", device.reading.id))
        });
        self.gpus.problems.iter().cloned().chain(held).collect()
    }

    /// The GPUs as readers see them.
    #[must_use]
    pub fn gpu_views(&self) -> Vec<Arc<GpuView>> {
        self.gpus.devices.iter().map(|device| Arc::new(self.gpu_view(device))).collect()
    }

    fn gpu_view(&self, device: &Device) -> GpuView {
        let GpuReading { id, index, name, vendor, pci, memory, health, .. } = &device.reading;
        let its = self
            .ledger
            .iter()
            .filter(|(name, claim)| claim.may_be_on(id) || device.users.contains_key(*name));
        let claims: Vec<_> = its
            .map(|(name, claim)| GpuClaimView {
                service: name.clone(),
                phase: claim.phase,
                charge_mib: self.charge_of(name, claim, id),
                used_mib: device
                    .reading
                    .processes
                    .is_some()
                    .then(|| device.users.get(name).copied().unwrap_or(0)),
                high_water_mib: claim.measured_mib.get(id).copied(),
            })
            .collect();
        let charged_mib =
            claims.iter().fold(0, |sum: u64, claim| sum.saturating_add(claim.charge_mib));
        let headroom_mib = self.settings.gpu.headroom_mib;
        let taken = headroom_mib.saturating_add(device.foreign_mib).saturating_add(charged_mib);
        GpuView {
            id: id.clone(),
            index: *index,
            name: name.clone(),
            vendor: *vendor,
            pci: pci.clone(),
            memory: *memory,
            health: health.clone(),
            total_mib: device.reading.total_mib,
            used_mib: device.reading.used_mib,
            headroom_mib,
            foreign_mib: device.foreign_mib,
            charged_mib,
            free_mib: match health {
                GpuHealth::Ok => device.reading.total_mib.map(|total| total.saturating_sub(taken)),
                // Nobody new is placed there.
                GpuHealth::Suspect(_) | GpuHealth::Unusable(_) => Some(0),
            },
            utilization_percent: device.reading.utilization_percent,
            temperature_celsius: device.reading.temperature_celsius,
            claims,
            others: device.others().map(user).collect(),
        }
    }

    /// Who uses a GPU and is none of ours.
    pub(in crate::lifecycle) fn gpu_others(&self, gpu: &GpuId) -> Vec<GpuUserView> {
        let device = self.gpus.devices.iter().find(|device| device.reading.id == *gpu);
        device.into_iter().flat_map(Device::others).map(user).collect()
    }
}

fn user(process: &GpuProcess) -> GpuUserView {
    let GpuProcess { pid, name, used_mib, .. } = process;
    GpuUserView { pid: *pid, name: name.clone(), used_mib: *used_mib }
}

/// A process on a GPU, for a person.
pub(super) fn who(process: &GpuProcess) -> String {
    let used = process.used_mib.map_or_else(String::new, |mib| format!(", {mib} MiB"));
    match &process.name {
        Some(name) => format!("process {} ({name}{used})", process.pid),
        None => format!("process {}{used}", process.pid),
    }
}

/// So long a service must have run until it is said to use less than it declares, or nothing.
const LONG: Duration = Duration::from_secs(600);

/// What to write into a manifest for so many MiB: tenths, rounded up.
fn gigabytes(mib: u64) -> String {
    let tenths = mib.saturating_mul(10).div_ceil(1024);
    if tenths.is_multiple_of(10) {
        (tenths / 10).to_string()
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::gigabytes;

    #[test]
    fn what_to_write_into_a_manifest_is_rounded_up() {
        assert_eq!(gigabytes(8192), "8");
        assert_eq!(gigabytes(8193), "8.1");
        assert_eq!(gigabytes(100), "0.1");
    }
}
