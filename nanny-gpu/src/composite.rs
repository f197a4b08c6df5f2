//! Several inventories as one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use nanny_lib::gpu::{GpuInventory, GpuProblem, GpuReading, MemoryKind, Sweep};

/// What several inventories see, in their order.
///
/// A device that two of them see, by where it sits, is there once: by the name that the first gives
/// it, and as the one sees it that measures more of it. A driver that is absent is no problem where another has devices. And a GPU that has
/// no memory of its own is left out where one has: whatever was placed on the processor's own
/// graphics would be slow, and few programs can use it.
#[derive(Debug)]
pub struct CompositeInventory {
    members: Vec<Arc<dyn GpuInventory>>,
    /// A GPU with memory of its own was seen: the others stay out even if it is lost.
    has_dedicated: AtomicBool,
    /// Drivers that were said to be absent.
    told: Mutex<BTreeSet<String>>,
}

impl CompositeInventory {
    /// All these as one.
    #[must_use]
    pub fn new(members: Vec<Arc<dyn GpuInventory>>) -> Self {
        Self { members, has_dedicated: AtomicBool::new(false), told: Mutex::default() }
    }

    fn merge(&self, sweeps: Vec<Sweep>) -> Sweep {
        let mut devices: Vec<GpuReading> = Vec::new();
        let mut problems: Vec<GpuProblem> = Vec::new();
        for sweep in sweeps {
            problems.extend(sweep.problems);
            for device in sweep.devices {
                match devices.iter_mut().find(|known| is_same(known, &device)) {
                    Some(known) if measurements(known) < measurements(&device) => {
                        let id = std::mem::replace(known, device).id;
                        known.id = id;
                    }
                    Some(_) => {}
                    None => devices.push(device),
                }
            }
        }
        let is_dedicated = |device: &GpuReading| device.memory == MemoryKind::Dedicated;
        if devices.iter().any(is_dedicated) {
            self.has_dedicated.store(true, Ordering::Relaxed);
        }
        if self.has_dedicated.load(Ordering::Relaxed) {
            devices.retain(is_dedicated);
        }
        self.tell(&problems);
        problems.retain(|problem| !problem.is_absence || devices.is_empty());
        Sweep::new(devices, problems)
    }

    /// Logs which drivers are absent, once each.
    fn tell(&self, problems: &[GpuProblem]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for problem in problems.iter().filter(|problem| problem.is_absence) {
            if told.insert(problem.message.clone()) {
                tracing::debug!(reason = problem.message, "a GPU driver is absent");
            }
        }
    }
}

#[async_trait]
impl GpuInventory for CompositeInventory {
    async fn sweep(&self) -> Sweep {
        let sweeps = self.members.iter().map(async |member| {
            let swept = tokio::time::timeout(LIMIT, member.sweep()).await;
            swept.unwrap_or_else(|_| {
                let message = format!("{member:?} does not answer");
                let message = message.chars().take(LONGEST_NAME).collect::<String>();
                Sweep::new(Vec::new(), vec![GpuProblem::new(None, message)])
            })
        });
        self.merge(join_all(sweeps).await)
    }
}

/// Whether two inventories speak of one device.
fn is_same(one: &GpuReading, other: &GpuReading) -> bool {
    one.id == other.id || one.pci.is_some() && one.pci == other.pci
}

/// How much is known of a device.
fn measurements(device: &GpuReading) -> usize {
    let known = [
        device.total_mib.is_some(),
        device.used_mib.is_some(),
        device.processes.is_some(),
        device.utilization_percent.is_some(),
        device.temperature_celsius.is_some(),
    ];
    known.into_iter().filter(|is_known| *is_known).count()
}

/// An inventory says by itself when its driver does not answer; this is for one that does not.
const LIMIT: Duration = Duration::from_secs(8);
const LONGEST_NAME: usize = 200;

#[cfg(test)]
mod tests {
    use nanny_lib::GpuId;
    use nanny_lib::gpu::GpuVendor;

    use super::*;

    #[derive(Debug)]
    struct Sees(Sweep);

    #[async_trait]
    impl GpuInventory for Sees {
        async fn sweep(&self) -> Sweep {
            self.0.clone()
        }
    }

    #[derive(Debug)]
    struct Hangs;

    #[async_trait]
    impl GpuInventory for Hangs {
        async fn sweep(&self) -> Sweep {
            std::future::pending().await
        }
    }

    fn device(id: &str) -> GpuReading {
        GpuReading::new(GpuId::new(id), GpuVendor::Nvidia)
    }

    fn at(id: &str, pci: &str, used_mib: Option<u64>) -> GpuReading {
        let mut device = device(id);
        device.pci = Some(pci.to_owned());
        device.used_mib = used_mib;
        device
    }

    fn unified(id: &str) -> GpuReading {
        let mut device = device(id);
        device.memory = MemoryKind::Unified;
        device
    }

    fn sees(devices: Vec<GpuReading>) -> Arc<dyn GpuInventory> {
        Arc::new(Sees(Sweep::new(devices, Vec::new())))
    }

    fn absent(vendor: &str) -> Arc<dyn GpuInventory> {
        let problem = GpuProblem::absence(format!("no driver of {vendor}'s"));
        Arc::new(Sees(Sweep::new(Vec::new(), vec![problem])))
    }

    fn ids(sweep: &Sweep) -> Vec<&str> {
        sweep.devices.iter().map(|device| device.id.as_str()).collect()
    }

    fn messages(sweep: &Sweep) -> Vec<&str> {
        sweep.problems.iter().map(|problem| problem.message.as_str()).collect()
    }

    #[tokio::test]
    async fn a_device_that_two_see_is_there_once_as_the_better_one_sees_it() {
        let poor = sees(vec![at("a", "0000:01:00.0", None), at("b", "0000:02:00.0", Some(7))]);
        let rich = sees(vec![at("A", "0000:01:00.0", Some(5)), at("B", "0000:02:00.0", None)]);
        let sweep = CompositeInventory::new(vec![poor, rich]).sweep().await;
        let seen: Vec<_> =
            sweep.devices.iter().map(|device| (device.id.as_str(), device.used_mib)).collect();
        assert_eq!(seen, [("a", Some(5)), ("b", Some(7))]);
    }

    #[tokio::test]
    async fn devices_that_sit_nowhere_are_told_apart_by_their_names() {
        let all = vec![sees(vec![device("a"), device("b")]), sees(vec![device("b"), device("c")])];
        assert_eq!(ids(&CompositeInventory::new(all).sweep().await), ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn an_absent_driver_is_no_problem_where_another_has_devices() {
        let all = vec![absent("one"), sees(vec![device("a")])];
        assert_eq!(messages(&CompositeInventory::new(all).sweep().await), [""; 0]);
        let all = vec![absent("one"), absent("two")];
        let sweep = CompositeInventory::new(all).sweep().await;
        assert_eq!(messages(&sweep), ["no driver of one's", "no driver of two's"]);
    }

    #[tokio::test]
    async fn any_other_problem_is_told() {
        let broken = Sweep::new(Vec::new(), vec![GpuProblem::new(None, "broken")]);
        let all: Vec<Arc<dyn GpuInventory>> = vec![Arc::new(Sees(broken)), sees(vec![device("a")])];
        let sweep = CompositeInventory::new(all).sweep().await;
        assert_eq!((ids(&sweep), messages(&sweep)), (vec!["a"], vec!["broken"]));
    }

    #[tokio::test]
    async fn a_processors_own_graphics_is_left_out_where_there_is_more() {
        let alone = CompositeInventory::new(vec![sees(vec![unified("apu")])]);
        assert_eq!(ids(&alone.sweep().await), ["apu"]);
        let both =
            CompositeInventory::new(vec![sees(vec![device("gpu")]), sees(vec![unified("apu")])]);
        assert_eq!(ids(&both.sweep().await), ["gpu"]);
        // Nor does it step in for one that is lost.
        let lost = both.merge(vec![Sweep::default(), Sweep::new(vec![unified("apu")], Vec::new())]);
        assert_eq!(ids(&lost), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_does_not_hide_the_others() {
        let all: Vec<Arc<dyn GpuInventory>> = vec![Arc::new(Hangs), sees(vec![device("a")])];
        let sweep = CompositeInventory::new(all).sweep().await;
        assert_eq!((ids(&sweep), messages(&sweep)), (vec!["a"], vec!["Hangs does not answer"]));
    }
}
