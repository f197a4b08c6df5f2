//! Finds and measures GPUs: implementations of [`GpuInventory`](nanny_lib::gpu::GpuInventory).

mod process;
