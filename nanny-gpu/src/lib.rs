//! Finds and measures GPUs: implementations of [`GpuInventory`](nanny_lib::gpu::GpuInventory).

mod amd;
mod fixed;
mod process;
mod size;

pub use self::amd::AmdInventory;
pub use self::fixed::{FixedInventory, InvalidSizes};
pub use self::size::{InvalidSize, parse_bytes};
