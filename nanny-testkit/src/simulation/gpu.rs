//! The GPU of the simulation: what runs uses it, and what has ended takes its time to give it back.

use nanny_lib::backend::ContainerState;
use nanny_lib::gpu::{GpuProcess, GpuReading, GpuVendor};
use nanny_lib::{ContainerId, GpuId};

use super::play::Play;
use super::services;

/// What it has, in MiB: not enough for what two containers use.
const TOTAL: u64 = 12 * 1024;
/// What a container uses of it, in MiB.
const USED: u64 = 8 * 1024;

impl Play {
    /// How it is now.
    pub(super) fn gpu(&self) -> GpuReading {
        let mut gpu = GpuReading::new(GpuId::new("GPU-0"), GpuVendor::Nvidia);
        let held = self.held().filter(|(_, held)| held.info.uses_gpu && held.info.state.holds());
        let processes: Vec<_> = held
            .map(|(_, held)| {
                let mut process = GpuProcess::new(number(&held.info.id));
                process.used_mib = Some(USED);
                process.containers = vec![held.info.id.to_string()];
                process
            })
            .collect();
        let users = processes.len() + self.lingering().count();
        gpu.total_mib = Some(TOTAL);
        gpu.used_mib = Some(USED * u64::try_from(users).unwrap_or(u64::MAX));
        gpu.processes = Some(processes);
        gpu
    }

    /// Services of which something has ended, and the memory of that is not free yet.
    pub(super) fn lingering(&self) -> impl Iterator<Item = &'static str> {
        let since = self.now().saturating_sub(self.temper.late_memory);
        let held = self.engines.iter().flat_map(|engine| engine.containers.values());
        held.filter(move |held| held.info.uses_gpu && held.changed > since)
            .filter(|held| held.info.state == ContainerState::Exited)
            .filter_map(|held| services::of(&held.info))
    }
}

/// Of the process of a container: the same for as long as that is there, and no other's.
fn number(id: &ContainerId) -> u32 {
    id.as_str()
        .bytes()
        .fold(0, |number: u32, byte| number.wrapping_mul(131).wrapping_add(byte.into()))
}
