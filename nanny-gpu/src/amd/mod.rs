//! AMD GPUs, as the kernel's `amdgpu` driver shows them in files. No library of AMD's is needed.

mod card;
mod users;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nanny_lib::gpu::{GpuHealth, GpuInventory, GpuProblem, GpuReading, Sweep};
use tokio::sync::Semaphore;

/// The AMD GPUs of this machine.
///
/// A machine without any has no devices and no problem. Who uses a GPU is seen as far as this user
/// may look into other users' processes: all of it for root.
#[derive(Debug)]
pub struct AmdInventory {
    root: PathBuf,
    /// Reading a file of a driver's may take long, or for ever: there is one reader at a time.
    reader: Arc<Semaphore>,
    /// The devices of the last sweep that was complete.
    last: Mutex<Vec<GpuReading>>,
}

impl Default for AmdInventory {
    fn default() -> Self {
        Self::at("/")
    }
}

impl AmdInventory {
    /// The GPUs of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As they are found in the `sys` and `proc` of the directory `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let reader = Arc::new(Semaphore::new(1));
        Self { root: root.into(), reader, last: Mutex::default() }
    }

    /// What is told while the driver does not answer: the devices that there were, with nothing
    /// measured, and nobody new is to be placed there.
    fn silence(&self) -> Sweep {
        let message = "the files of the amdgpu driver cannot be read in time";
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let devices = last.iter().map(|known| {
            let mut device = known.clone();
            device.health = GpuHealth::Suspect(message.to_owned());
            device.used_mib = None;
            device.processes = None;
            device.utilization_percent = None;
            device.temperature_celsius = None;
            device
        });
        Sweep::new(devices.collect(), vec![GpuProblem::new(None, message)])
    }
}

#[async_trait]
impl GpuInventory for AmdInventory {
    async fn sweep(&self) -> Sweep {
        // If the sweep is given up, its reader goes on and keeps the permit: the next sweep adds
        // none.
        let permit = Arc::clone(&self.reader).acquire_owned();
        let root = self.root.clone();
        let read = async {
            let permit = permit.await.ok()?;
            let reader = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                read(&root)
            });
            reader.await.ok()
        };
        let Ok(Some(sweep)) = tokio::time::timeout(LIMIT, read).await else {
            return self.silence();
        };
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&sweep.devices);
        sweep
    }
}

/// Looks at all cards, and at who uses them.
fn read(root: &Path) -> Sweep {
    let mut cards = card::cards(&root.join("sys"));
    if cards.is_empty() {
        return Sweep::default();
    }
    let problems = users::find(root, &mut cards);
    Sweep::new(cards.into_iter().map(|card| card.reading).collect(), problems)
}

/// A sweep is given up after a few seconds; this is less.
const LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
