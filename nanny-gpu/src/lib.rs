//! Finds and measures GPUs: implementations of [`GpuInventory`](nanny_lib::gpu::GpuInventory).
//!
//! [`detect`] finds those of this machine; [`FixedInventory`] stands in for what cannot be asked.

mod amd;
mod composite;
mod detect;
mod fixed;
#[cfg(feature = "nvml")]
mod nvml;
mod process;
mod size;

pub use self::amd::AmdInventory;
pub use self::composite::CompositeInventory;
pub use self::detect::{DetectConfig, detect};
pub use self::fixed::{FixedInventory, InvalidSizes};
#[cfg(feature = "nvml")]
pub use self::nvml::{NvmlConfig, NvmlInventory};
pub use self::size::{InvalidSize, parse_bytes};
