//! The script: what the driver is to say.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What calls return, as `nvml.h` numbers it.
pub mod code {
    /// All is well.
    pub const SUCCESS: u32 = 0;
    /// `nvmlInit` was not called.
    pub const UNINITIALIZED: u32 = 1;
    /// An argument makes no sense.
    pub const INVALID_ARGUMENT: u32 = 2;
    /// This device cannot do that.
    pub const NOT_SUPPORTED: u32 = 3;
    /// The caller may not.
    pub const NO_PERMISSION: u32 = 4;
    /// There is no such thing.
    pub const NOT_FOUND: u32 = 6;
    /// The buffer is too small.
    pub const INSUFFICIENT_SIZE: u32 = 7;
    /// The kernel module is not loaded.
    pub const DRIVER_NOT_LOADED: u32 = 9;
    /// Nothing happened in time.
    pub const TIMEOUT: u32 = 10;
    /// The driver has the symbol, and nothing behind it.
    pub const FUNCTION_NOT_FOUND: u32 = 13;
    /// The device fell off the bus.
    pub const GPU_IS_LOST: u32 = 15;
    /// The kernel module is of another version than the library.
    pub const LIB_RM_VERSION_MISMATCH: u32 = 18;
    /// The caller's struct has a version that the driver does not know.
    pub const ARGUMENT_VERSION_MISMATCH: u32 = 25;
    /// Whatever else.
    pub const UNKNOWN: u32 = 999;
}

/// A machine with NVIDIA GPUs, or with as much as is left of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Machine {
    /// The driver's version.
    pub driver_version: String,
    /// What `nvmlInit` returns; see [`code`].
    pub init: u32,
    /// For how long the memory of a dead process stays taken, in milliseconds.
    pub release_delay_ms: u64,
    /// Calls that fail, by the name of the symbol, and with what.
    pub errors: BTreeMap<String, u32>,
    /// Calls that do not return for as long as they are in here, by the name of the symbol.
    pub hangs: Vec<String>,
    /// The size of an entry in the list that `…RunningProcesses_v3` fills: 24, or 32 as with the
    /// drivers 535.43 to 535.86.
    pub process_entry_bytes: usize,
    /// The devices, in the order of their indices.
    pub gpus: Vec<Gpu>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            driver_version: "550.54.15".to_owned(),
            init: code::SUCCESS,
            release_delay_ms: 0,
            errors: BTreeMap::new(),
            hangs: Vec::new(),
            process_entry_bytes: 24,
            gpus: Vec::new(),
        }
    }
}

impl Machine {
    /// A machine with a GPU for each of these sizes in MiB.
    #[must_use]
    pub fn with_gpus(totals_mib: &[u64]) -> Self {
        let gpus = (0..).zip(totals_mib).map(|(index, mib)| Gpu::new(index, *mib)).collect();
        Self { gpus, ..Self::default() }
    }

    /// Writes the script, such that a reader finds the whole of the old one or of the new one.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_atomic(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
        fs::rename(draft, path)
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gpu {
    /// Its identity.
    pub uuid: String,
    /// What it is called.
    pub name: String,
    /// Where it sits: domain, bus and device.
    pub pci: (u32, u32, u32),
    /// All its memory, in MiB.
    pub total_mib: u64,
    /// What the driver keeps for itself, in MiB.
    pub reserved_mib: u64,
    /// What is in use, and by nobody that is listed, in MiB.
    pub unlisted_mib: u64,
    /// The processes that use it, beside those that claim.
    pub processes: Vec<Process>,
    /// How busy it is, in percent; `None` if it cannot tell.
    pub utilization: Option<u32>,
    /// How warm it is; `None` if it cannot tell.
    pub temperature: Option<u32>,
    /// Whether it is split into instances; `None` if it cannot be.
    pub mig: Option<bool>,
    /// It fell off the bus: it is counted, and answers nothing.
    pub lost: bool,
    /// It says which processes use it, and not how much, as under WSL.
    pub hides_process_memory: bool,
    /// It has no memory of its own, and says nothing about that of the machine.
    pub unified: bool,
    /// The XID errors that it had so far. Whoever listens gets those that are appended.
    pub xids: Vec<u64>,
    /// Calls that fail for this device, by the name of the symbol, and with what.
    pub errors: BTreeMap<String, u32>,
}

impl Default for Gpu {
    fn default() -> Self {
        Self::new(0, 24_576)
    }
}

impl Gpu {
    /// A device with so much memory, in MiB, all of it free. Its identity and its place follow from
    /// its number.
    #[must_use]
    pub fn new(number: u32, total_mib: u64) -> Self {
        Self {
            uuid: format!("GPU-00000000-0000-0000-0000-{number:012x}"),
            name: "NVIDIA Fake 4090".to_owned(),
            pci: (0, number + 1, 0),
            total_mib,
            reserved_mib: 0,
            unlisted_mib: 0,
            processes: Vec::new(),
            utilization: Some(0),
            temperature: Some(40),
            mig: None,
            lost: false,
            hides_process_memory: false,
            unified: false,
            xids: Vec::new(),
            errors: BTreeMap::new(),
        }
    }
}

/// A process that uses a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The memory it uses, in MiB.
    pub mib: u64,
    /// What it does there.
    #[serde(default)]
    pub kind: ProcessKind,
}

impl Process {
    /// A process that computes.
    #[must_use]
    pub fn new(pid: u32, mib: u64) -> Self {
        Self { pid, mib, kind: ProcessKind::Compute }
    }
}

/// In which of the driver's lists a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ProcessKind {
    /// It computes.
    #[default]
    Compute,
    /// It draws.
    Graphics,
    /// It computes through NVIDIA's service for sharing a device.
    Mps,
}
