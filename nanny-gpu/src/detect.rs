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

/// An inventory of all GPUs that a driver knows: NVIDIA's, with the feature `nvml`, and AMD's. A
/// driver that is absent may come later.
#[must_use]
pub fn detect(config: &DetectConfig) -> Arc<dyn GpuInventory> {
    let amd: Arc<dyn GpuInventory> = Arc::new(AmdInventory::new());
    Arc::new(CompositeInventory::new(nvidia(config).into_iter().chain([amd]).collect()))
}

#[cfg(feature = "nvml")]
fn nvidia(config: &DetectConfig) -> Option<Arc<dyn GpuInventory>> {
    let DetectConfig { nvml_library } = config.clone();
    let config = crate::NvmlConfig { library: nvml_library, ..crate::NvmlConfig::default() };
    Some(Arc::new(crate::NvmlInventory::new(config)))
}

#[cfg(not(feature = "nvml"))]
fn nvidia(_: &DetectConfig) -> Option<Arc<dyn GpuInventory>> {
    None
}
