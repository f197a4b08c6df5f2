//! What GPUs there are, and what they hold.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;

use crate::name::GpuId;

/// Finds and measures the machine's GPUs.
///
/// # Contract
///
/// *What it does.* Each sweep is one look at all devices. A device of which something cannot be
/// measured is there with that left open; one that answers nothing at all is a problem, and the
/// others are there all the same. No driver means no devices, and a problem that says so: it may
/// appear later.
///
/// *Identity.* A [`GpuId`] means the same device in every sweep and over restarts of the machine:
/// the vendor's UUID where there is one.
///
/// *Cancellation and time.* A sweep may be dropped at any time, and is after a few seconds. An
/// implementation whose driver may hang asks it on a thread of its own, and says after a while that
/// it does not answer.
#[async_trait]
pub trait GpuInventory: fmt::Debug + Send + Sync + 'static {
    /// Looks at all GPUs.
    async fn sweep(&self) -> Sweep;
}

/// No GPU is known, and nothing is measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoInventory;

#[async_trait]
impl GpuInventory for NoInventory {
    async fn sweep(&self) -> Sweep {
        Sweep::default()
    }
}

/// One look at all GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Sweep {
    /// The devices that answered, and those that did before and are not in order now, in the order
    /// in which people number them.
    pub devices: Vec<GpuReading>,
    /// What could not be seen.
    pub problems: Vec<GpuProblem>,
}

impl Sweep {
    /// These devices and problems.
    #[must_use]
    pub fn new(devices: Vec<GpuReading>, problems: Vec<GpuProblem>) -> Self {
        Self { devices, problems }
    }
}

/// One device, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuReading {
    /// Which: the same in every sweep.
    pub id: GpuId,
    /// The number that people know it by, which may change with the next boot.
    pub index: Option<u32>,
    /// What it is called, such as `NVIDIA GeForce RTX 4090`.
    pub name: String,
    /// Who made it.
    pub vendor: GpuVendor,
    /// Where it sits, as `0000:01:00.0` (lower case, domain of four digits).
    pub pci: Option<String>,
    /// Whether its memory is its own.
    pub memory: MemoryKind,
    /// All memory that programs may have, in MiB, rounded down.
    pub total_mib: Option<u64>,
    /// Memory in use, whoever uses it, in MiB, rounded up.
    pub used_mib: Option<u64>,
    /// Who uses it; `None` if that cannot be seen.
    pub processes: Option<Vec<GpuProcess>>,
    /// Whether it is in order.
    pub health: GpuHealth,
    /// How busy it is, in percent.
    pub utilization_percent: Option<u32>,
    /// How warm it is, in degrees Celsius.
    pub temperature_celsius: Option<u32>,
    /// The name by which the Container Device Interface knows it, such as `nvidia.com/gpu=GPU-…`.
    pub cdi: Option<String>,
}

impl GpuReading {
    /// A device in order, of which nothing else is known.
    #[must_use]
    pub fn new(id: GpuId, vendor: GpuVendor) -> Self {
        Self {
            id,
            index: None,
            name: String::new(),
            vendor,
            pci: None,
            memory: MemoryKind::Dedicated,
            total_mib: None,
            used_mib: None,
            processes: None,
            health: GpuHealth::Ok,
            utilization_percent: None,
            temperature_celsius: None,
            cdi: None,
        }
    }
}

/// Who made a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GpuVendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Nobody knows: it was declared by hand.
    Declared,
}

/// Whether a GPU's memory is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MemoryKind {
    /// It is.
    Dedicated,
    /// It is the machine's: programs that use no GPU take from it, too.
    Unified,
}

/// Whether a GPU is in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "reason")]
#[non_exhaustive]
pub enum GpuHealth {
    /// It is.
    Ok,
    /// Something happened, or it does not answer: nobody new is placed there until it is over.
    Suspect(String),
    /// It is lost.
    Unusable(String),
}

/// A process that uses a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuProcess {
    /// Its number on the host.
    pub pid: u32,
    /// The memory it uses, in MiB; `None` if that cannot be seen.
    pub used_mib: Option<u64>,
    /// Its program, for a person.
    pub name: Option<String>,
    /// The containers it may be in: identifiers that its control groups name.
    pub containers: Vec<String>,
    /// Itself, its ancestors, and the leaders of its group and session.
    pub lineage: Vec<u32>,
}

impl GpuProcess {
    /// A process of which nothing is known but its number.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid, used_mib: None, name: None, containers: Vec::new(), lineage: vec![pid] }
    }
}

/// Something that could not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuProblem {
    /// Of which device, if of one.
    pub gpu: Option<GpuId>,
    /// What, for a person.
    pub message: String,
    /// There is no driver to ask: on most machines all but one vendor's are missing.
    pub is_absence: bool,
}

impl GpuProblem {
    /// What is wrong with `gpu`, or with all.
    #[must_use]
    pub fn new(gpu: Option<GpuId>, message: impl Into<String>) -> Self {
        Self { gpu, message: message.into(), is_absence: false }
    }

    /// There is no driver to ask.
    #[must_use]
    pub fn absence(message: impl Into<String>) -> Self {
        Self { gpu: None, message: message.into(), is_absence: true }
    }
}
