//! NVIDIA GPUs, by the driver's own library.
//!
//! ```text
//! sweep() ──request──▶ worker (a thread) ── session (an open driver) ── reading (a device)
//!    ◀── its answer, or after a while the last one, in doubt
//! ```
//!
//! A driver is foreign code that may be absent, broken, replaced while it runs, or hang in the kernel
//! for as long as it likes. So it is asked on a thread of its own, which holds it open, and which is
//! asked again and again but never twice at a time. Whatever a call does, a sweep answers within
//! [`NvmlConfig::deadline`].
//!
//! *What is known stays known.* A device that is lost, that vanishes without a word, or whose driver
//! does, stays in the sweeps under its identity, as unusable, and without measurements. It comes
//! back when it answers again.
//!
//! *Health.* The driver tells of errors by their XID numbers. Those that a program caused say
//! nothing of the device, and are ignored, as are those of [`NvmlConfig::ignored_xids`]; after 48,
//! 79 and 95 a device is unusable, and suspect after any other. Once it has answered for a while
//! without another, it is in order again; at once, if it was lost and is back.
//!
//! *Memory* is what programs may have: what the driver keeps for itself is no part of it. A device
//! with the machine's own memory is told by its name, and measured by what the kernel says of that.
//!
//! *MIG.* A device that is split into instances is one device here, and suspect: nobody is placed
//! on it, as what is placed would find an instance and not the whole.

mod health;
mod raw;
mod reading;
mod session;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use async_trait::async_trait;
use nanny_lib::gpu::{GpuHealth, GpuInventory, GpuProblem, GpuReading, Sweep};
use tokio::sync::watch;
use tokio::time::timeout;

use self::worker::{Answer, Worker};

/// How NVIDIA's driver is asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NvmlConfig {
    /// The driver's library; by default `libnvidia-ml.so.1`, wherever the system finds it.
    pub library: Option<PathBuf>,
    /// For how long a sweep waits for a driver that has answered before; 2 s by default.
    pub deadline: Duration,
    /// For how long a sweep waits for one that has not; 6 s by default. To open a driver may take
    /// seconds: unless it is told to persist, it wakes each GPU then.
    pub opening: Duration,
    /// For how long a driver that could not be opened is left alone; 5 s by default.
    pub retry: Duration,
    /// XIDs that say nothing of the device, beside those that programs cause.
    pub ignored_xids: Vec<u64>,
    /// For how long after an XID a device is suspect; 10 min by default.
    pub suspect_for: Duration,
    /// For how long after one of the worst XIDs a device is unusable; an hour by default.
    pub unusable_for: Duration,
}

impl Default for NvmlConfig {
    fn default() -> Self {
        Self {
            library: None,
            deadline: Duration::from_secs(2),
            opening: Duration::from_secs(6),
            retry: Duration::from_secs(5),
            ignored_xids: Vec::new(),
            suspect_for: Duration::from_secs(10 * 60),
            unusable_for: Duration::from_secs(60 * 60),
        }
    }
}

/// The NVIDIA GPUs of this machine.
///
/// It has a thread, which ends once the inventory is dropped and the driver has answered what it
/// was asked last; nobody waits for that.
#[derive(Debug)]
pub struct NvmlInventory {
    deadline: Duration,
    opening: Duration,
    /// How many sweeps were asked for so far.
    asked: Arc<AtomicU64>,
    /// Wakes the worker. One request is enough, however many sweeps wait.
    requests: SyncSender<()>,
    answers: watch::Receiver<Answer>,
}

impl NvmlInventory {
    /// Nothing is asked of the driver before the first sweep.
    #[must_use]
    pub fn new(config: NvmlConfig) -> Self {
        let NvmlConfig { deadline, opening, .. } = config;
        let asked = Arc::new(AtomicU64::new(0));
        let (requests, inbox) = sync_channel(1);
        let (outbox, answers) = watch::channel(Answer::default());
        let worker = Worker::new(config, Arc::clone(&asked), inbox, outbox);
        let thread = std::thread::Builder::new().name("nvml".to_owned());
        if let Err(error) = thread.spawn(|| worker.run()) {
            tracing::error!(%error, "cannot start the thread that asks the NVIDIA driver");
        }
        Self { deadline, opening, asked, requests, answers }
    }

    /// What is said while the driver does not answer: what there was, and nothing measured.
    fn in_doubt(&self, reason: &str) -> Sweep {
        let last = self.answers.borrow().sweep.devices.clone();
        let doubt = |device: GpuReading| match device.health {
            GpuHealth::Unusable(_) => device,
            _ => unmeasured(device, GpuHealth::Suspect(reason.to_owned())),
        };
        let devices = last.into_iter().map(doubt).collect();
        Sweep::new(devices, vec![GpuProblem::new(None, reason)])
    }
}

#[async_trait]
impl GpuInventory for NvmlInventory {
    async fn sweep(&self) -> Sweep {
        // An answer counts if the look that it is of began after this.
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        // If it is full, a request is waiting that will find our number.
        let _ = self.requests.try_send(());
        let mut answers = self.answers.clone();
        let is_open = answers.borrow().number > 0;
        let patience = if is_open { self.deadline } else { self.opening };
        let answer = timeout(patience, answers.wait_for(|answer| answer.number >= number));
        match answer.await {
            Ok(Ok(answer)) => answer.sweep.clone(),
            Ok(Err(_)) => self.in_doubt("there is no thread that asks the NVIDIA driver"),
            Err(_) => self.in_doubt("the NVIDIA driver does not answer; if that goes on, reboot"),
        }
    }
}

/// A device of which nothing can be measured now.
fn unmeasured(mut device: GpuReading, health: GpuHealth) -> GpuReading {
    device.health = health;
    device.used_mib = None;
    device.processes = None;
    device.utilization_percent = None;
    device.temperature_celsius = None;
    device
}

#[cfg(test)]
mod tests {
    use nanny_fake_nvml::{Driver, Machine};

    use super::*;

    #[tokio::test]
    async fn the_thread_ends_with_its_inventory() {
        let folder = tempfile::tempdir().unwrap();
        let driver = Driver::install(folder.path(), &Machine::with_gpus(&[1_000])).unwrap();
        for library in [driver.library(), folder.path().join("absent")] {
            let config = NvmlConfig { library: Some(library), ..NvmlConfig::default() };
            let inventory = NvmlInventory::new(config);
            inventory.sweep().await;
            let mut answers = inventory.answers.clone();
            drop(inventory);
            let closed = answers.wait_for(|_| false);
            assert!(timeout(Duration::from_secs(60), closed).await.unwrap().is_err());
        }
    }
}
