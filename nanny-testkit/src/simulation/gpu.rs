//! The GPU of the simulation: what runs uses it, and what has ended takes its time to give it back.

use nanny_lib::GpuId;
use nanny_lib::backend::ContainerState;
use nanny_lib::gpu::{GpuProcess, GpuReading, GpuVendor};

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
        let held = self.engines.iter().flat_map(|engine| engine.containers.values());
        let running = held.filter(|held| held.info.uses_gpu && held.info.state.holds());
        let processes: Vec<_> = (1..)
            .zip(running)
            .map(|(number, held)| {
                let mut process = GpuProcess::new(number);
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
