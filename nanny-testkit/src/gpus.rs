//! GPUs that a test plays by hand.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use nanny_lib::GpuId;
use nanny_lib::gpu::{GpuInventory, GpuReading, GpuVendor, Sweep};
use tokio::sync::watch;

/// An inventory that sees what the test says, and counts how often it was asked. Clones are the
/// same one.
#[derive(Debug, Clone)]
pub struct ScriptedInventory {
    script: Arc<Script>,
}

#[derive(Debug)]
struct Script {
    sweep: Mutex<Sweep>,
    /// How many sweeps have been answered.
    answered: watch::Sender<u64>,
    /// Whether sweeps are answered at all.
    answers: watch::Sender<bool>,
}

impl ScriptedInventory {
    /// These devices, and no problem.
    #[must_use]
    pub fn new(devices: Vec<GpuReading>) -> Self {
        let script = Script {
            sweep: Mutex::new(Sweep::new(devices, Vec::new())),
            answered: watch::Sender::new(0),
            answers: watch::Sender::new(true),
        };
        Self { script: Arc::new(script) }
    }

    /// From now on sweeps see this.
    pub fn set(&self, sweep: Sweep) {
        *self.seen() = sweep;
    }

    /// Changes what sweeps see.
    pub fn change(&self, change: impl FnOnce(&mut Sweep)) {
        change(&mut self.seen());
    }

    /// From now on so much memory of `gpu` is in use, in MiB, whoever uses it.
    ///
    /// # Panics
    ///
    /// If there is no such GPU.
    pub fn set_used(&self, gpu: &str, mib: u64) {
        let mut sweep = self.seen();
        let device = sweep.devices.iter_mut().find(|device| device.id.as_str() == gpu);
        device.expect("a GPU of that identifier").used_mib = Some(mib);
    }

    /// From now on no sweep is answered, as by a driver that hangs; one that is being waited for
    /// neither.
    pub fn hang(&self) {
        self.script.answers.send_replace(false);
    }

    /// Answers again; also those that wait.
    pub fn answer(&self) {
        self.script.answers.send_replace(true);
    }

    /// How many sweeps have been answered.
    #[must_use]
    pub fn sweeps(&self) -> u64 {
        *self.script.answered.borrow()
    }

    /// Waits until `count` sweeps have been answered in all. It sets no limit: the test does.
    pub async fn swept(&self, count: u64) {
        let mut answered = self.script.answered.subscribe();
        // It fails only once there is no handle left, and this is one.
        let _ = answered.wait_for(|answered| *answered >= count).await;
    }

    fn seen(&self) -> MutexGuard<'_, Sweep> {
        self.script.sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl GpuInventory for ScriptedInventory {
    async fn sweep(&self) -> Sweep {
        let mut answers = self.script.answers.subscribe();
        answers.wait_for(|answers| *answers).await.expect("the script lives as long as its handle");
        let sweep = self.seen().clone();
        self.script.answered.send_modify(|answered| *answered += 1);
        sweep
    }
}

/// An NVIDIA device in order, with so much memory, in MiB, all of it free.
#[must_use]
pub fn gpu(id: &str, total_mib: u64) -> GpuReading {
    let mut reading = GpuReading::new(GpuId::new(id), GpuVendor::Nvidia);
    "Scripted GPU".clone_into(&mut reading.name);
    reading.total_mib = Some(total_mib);
    reading.used_mib = Some(0);
    reading.processes = Some(Vec::new());
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sweep_sees_what_was_said_last() {
        let inventory = ScriptedInventory::new(vec![gpu("GPU-a", 100)]);
        inventory.set_used("GPU-a", 40);
        assert_eq!(inventory.sweep().await.devices[0].used_mib, Some(40));
        inventory.set(Sweep::default());
        assert_eq!(inventory.sweep().await, Sweep::default());
        assert_eq!(inventory.sweeps(), 2);
    }

    #[tokio::test]
    async fn a_sweep_that_hangs_is_answered_later() {
        let inventory = ScriptedInventory::new(Vec::new());
        inventory.hang();
        let asked = tokio::spawn({
            let inventory = inventory.clone();
            async move { inventory.sweep().await }
        });
        tokio::task::yield_now().await;
        assert_eq!((inventory.sweeps(), asked.is_finished()), (0, false));
        inventory.answer();
        inventory.swept(1).await;
        assert_eq!(asked.await.unwrap(), Sweep::default());
    }
}
