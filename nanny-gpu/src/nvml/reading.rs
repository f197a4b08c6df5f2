//! One device, asked for all that we want to know.

use std::collections::BTreeMap;
use std::fs;

use nanny_lib::GpuId;
use nanny_lib::gpu::{GpuHealth, GpuProcess, GpuReading, GpuVendor, MemoryKind};
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;

use super::raw::{self, Process};
use crate::process::describe;

const MIB: u64 = 1 << 20;

/// What a device said, and what it should have and did not.
pub(super) struct Reading {
    pub(super) device: GpuReading,
    pub(super) problems: Vec<String>,
}

/// Asks a device. The error is that of one that does not answer at all.
pub(super) fn read(index: u32, device: &Device<'_>) -> Result<Reading, NvmlError> {
    let id = device.uuid()?;
    let mut reading = GpuReading::new(GpuId::new(id.as_str()), GpuVendor::Nvidia);
    let mut problems = Vec::new();
    reading.index = Some(index);
    reading.cdi = Some(format!("nvidia.com/gpu={id}"));
    reading.name = known(device.name())?.unwrap_or_else(|_| "NVIDIA GPU".to_owned());
    reading.pci = known(device.pci_info())?.ok().and_then(|pci| pci_address(&pci.bus_id));
    match known(memory(device))? {
        Ok(memory) => set_memory(&mut reading, &memory),
        Err(NvmlError::NotSupported) => set_unified(&mut reading, &mut problems),
        Err(error) => {
            let reason = format!("it does not tell its memory: {error}");
            reading.health = GpuHealth::Suspect(reason.clone());
            problems.push(reason);
        }
    }
    reading.processes = processes(device, &mut problems)?;
    reading.utilization_percent = known(device.utilization_rates())?.ok().map(|rates| rates.gpu);
    reading.temperature_celsius = known(device.temperature(TemperatureSensor::Gpu))?.ok();
    if known(device.mig_mode())?.is_ok_and(|mode| mode.current == 1) {
        let reason = "it is split into instances (MIG), which are not told apart yet; switch that \
             off by `nvidia-smi -mig 0` to use it";
        reading.health = GpuHealth::Suspect(reason.to_owned());
        problems.push(reason.to_owned());
    }
    Ok(Reading { device: reading, problems })
}

/// Whatever a question is answered with; an error only if no question will be answered.
fn known<T>(answer: Result<T, NvmlError>) -> Result<Result<T, NvmlError>, NvmlError> {
    match answer {
        Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => Err(error),
        answer => Ok(answer),
    }
}

/// Memory in bytes: what programs may have, and what of that is free.
struct Memory {
    total: u64,
    free: u64,
}

fn memory(device: &Device<'_>) -> Result<Memory, NvmlError> {
    match device.memory_info() {
        Ok(memory) => {
            Ok(Memory { total: memory.total.saturating_sub(memory.reserved), free: memory.free })
        }
        Err(error) if raw::is_missing(&error) => {
            let (total, free) = raw::memory_v1(device)?;
            Ok(Memory { total, free })
        }
        Err(error) => Err(error),
    }
}

/// What is in use is what is not free: the driver's own number of that name does not mean the same
/// in all versions.
fn set_memory(reading: &mut GpuReading, memory: &Memory) {
    reading.total_mib = Some(memory.total / MIB);
    reading.used_mib = Some(memory.total.saturating_sub(memory.free).div_ceil(MIB));
}

/// A device without memory of its own has the machine's. One that only does not tell of it has
/// not, as far as we know.
fn set_unified(reading: &mut GpuReading, problems: &mut Vec<String>) {
    if !is_integrated(&reading.name) {
        return;
    }
    reading.memory = MemoryKind::Unified;
    match fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(machine_memory) {
        Some(memory) => set_memory(reading, &memory),
        None => problems.push("cannot tell the machine's memory, which it uses".to_owned()),
    }
}

/// NVML does not say which devices have the machine's memory, so they are known by name.
fn is_integrated(name: &str) -> bool {
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| {
        ["GB10", "Jetson", "Orin", "Tegra", "Thor", "Xavier"]
            .iter()
            .any(|family| family.eq_ignore_ascii_case(word))
    })
}

fn machine_memory(meminfo: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Some(Memory { total: field("MemTotal:")?, free: field("MemAvailable:")? })
}

/// All processes, each once; `None` if it cannot be told which compute.
fn processes(
    device: &Device<'_>,
    problems: &mut Vec<String>,
) -> Result<Option<Vec<GpuProcess>>, NvmlError> {
    let is_unable =
        |error: &NvmlError| matches!(error, NvmlError::NotSupported) || raw::is_missing(error);
    let computing = match known(raw::compute(device))? {
        Err(error) if !is_unable(&error) => {
            problems.push(format!("it does not tell who uses it: {error}"));
            return Ok(None);
        }
        told => told.ok(),
    };
    let mut lists: Vec<Vec<Process>> = computing.into_iter().collect();
    // Few who are of interest are in these alone.
    for list in [raw::graphics(device), raw::shared(device)] {
        match known(list)? {
            Ok(list) => lists.push(list),
            Err(error) if is_unable(&error) => {}
            Err(error) => problems.push(format!("it does not tell all that use it: {error}")),
        }
    }
    let told = !lists.is_empty();
    let mut found: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    for (pid, used) in lists.into_iter().flatten() {
        // One that computes and draws is in two lists, with all its memory in both.
        let most = found.entry(pid).or_default();
        *most = (*most).max(used);
    }
    let mib = |used: Option<u64>| used.map(|bytes| bytes.div_ceil(MIB));
    Ok(told.then(|| found.into_iter().map(|(pid, used)| describe(pid, mib(used))).collect()))
}

/// From NVML's form of an address, `00000000:01:00.0`, to the kernel's.
fn pci_address(bus_id: &str) -> Option<String> {
    let (domain, rest) = bus_id.split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    Some(format!("{domain:04x}:{}", rest.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_kernel_does() {
        assert_eq!(pci_address("00000000:0A:00.0").as_deref(), Some("0000:0a:00.0"));
        assert_eq!(pci_address("00010000:01:00.0").as_deref(), Some("10000:01:00.0"));
        assert_eq!(pci_address("nonsense"), None);
    }

    #[test]
    fn devices_with_the_machines_memory_are_known_by_name() {
        for name in ["NVIDIA GB10", "Orin (nvgpu)", "NVIDIA Thor", "Xavier"] {
            assert!(is_integrated(name), "{name}");
        }
        for name in ["NVIDIA GB100", "NVIDIA GB200", "NVIDIA GeForce RTX 4090", "Tesla T4"] {
            assert!(!is_integrated(name), "{name}");
        }
    }

    #[test]
    fn the_machines_memory_is_what_is_available_of_it() {
        let meminfo = "MemTotal:       16384 kB\nMemFree: 1 kB\nMemAvailable:    4096 kB\n";
        let memory = machine_memory(meminfo).unwrap();
        assert_eq!((memory.total, memory.free), (16 * MIB, 4 * MIB));
        assert!(machine_memory("MemTotal: 16384 kB\n").is_none());
    }
}
