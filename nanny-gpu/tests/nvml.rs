//! The inventory of NVIDIA GPUs, on a driver that does what drivers do.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nanny_fake_nvml::{Driver, Machine, Process, code};
use nanny_gpu::{NvmlConfig, NvmlInventory};
use nanny_lib::gpu::{GpuHealth, GpuInventory, GpuReading, GpuVendor, MemoryKind, Sweep};
use tempfile::TempDir;

/// A driver of one test's own, and the inventory that asks it.
struct Bench {
    driver: Driver,
    machine: Machine,
    inventory: Arc<NvmlInventory>,
    _folder: TempDir,
}

fn bench(machine: Machine) -> Bench {
    bench_without(&[], machine)
}

fn bench_without(symbols: &[&str], machine: Machine) -> Bench {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let driver = Driver::install_without(symbols, folder.path(), &machine)
        .expect("Cargo has built the library");
    let inventory = Arc::new(NvmlInventory::new(config(&driver.library())));
    Bench { driver, machine, inventory, _folder: folder }
}

/// A driver that failed is tried again at once.
fn config(library: &Path) -> NvmlConfig {
    let mut config = NvmlConfig::default();
    config.library = Some(library.to_owned());
    config.deadline = Duration::from_secs(60);
    config.retry = Duration::ZERO;
    config
}

impl Bench {
    fn change(&mut self, change: impl FnOnce(&mut Machine)) {
        change(&mut self.machine);
        self.driver.set(&self.machine).expect("the script is written");
    }

    async fn sweep(&self) -> Sweep {
        self.inventory.sweep().await
    }

    /// The only device there is, of which nothing is wrong.
    async fn device(&self) -> GpuReading {
        let mut sweep = self.sweep().await;
        assert_eq!((&sweep.problems[..], sweep.devices.len()), (&[][..], 1));
        sweep.devices.remove(0)
    }
}

/// What a sweep complains of.
fn problems(sweep: &Sweep) -> Vec<&str> {
    sweep.problems.iter().map(|problem| problem.message.as_str()).collect()
}

/// The only problem there is.
fn problem(sweep: &Sweep) -> &str {
    let [problem] = &sweep.problems[..] else { panic!("not one problem: {sweep:#?}") };
    &problem.message
}

fn pids(device: &GpuReading) -> Option<Vec<(u32, Option<u64>)>> {
    let processes = device.processes.as_ref()?;
    Some(processes.iter().map(|process| (process.pid, process.used_mib)).collect())
}

/// A process that lives until its input ends.
fn sleeper() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat is there")
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
    child.wait().expect("it can be waited for");
}

#[tokio::test]
async fn devices_are_told_with_all_that_is_measured() {
    let mut machine = Machine::with_gpus(&[24_576, 8_192]);
    machine.gpus[1].reserved_mib = 192;
    machine.gpus[1].unlisted_mib = 1_000;
    machine.gpus[1].utilization = Some(37);
    machine.gpus[1].processes.push(Process::new(4_000_001, 500));
    let sweep = bench(machine).sweep().await;
    assert_eq!(problems(&sweep), [""; 0]);

    let [first, second] = &sweep.devices[..] else { panic!("not two devices: {sweep:#?}") };
    assert_eq!((first.index, second.index), (Some(0), Some(1)));
    assert_eq!((first.total_mib, first.used_mib), (Some(24_576), Some(0)));
    assert_eq!(pids(first), Some(vec![]));
    assert_eq!(second.id.as_str(), "GPU-00000000-0000-0000-0000-000000000001");
    assert_eq!((second.name.as_str(), second.vendor), ("NVIDIA Fake 4090", GpuVendor::Nvidia));
    assert_eq!(second.pci.as_deref(), Some("0000:02:00.0"));
    assert_eq!(second.memory, MemoryKind::Dedicated);
    // What the driver keeps for itself is no memory of programs.
    assert_eq!((second.total_mib, second.used_mib), (Some(8_000), Some(1_500)));
    assert_eq!(pids(second), Some(vec![(4_000_001, Some(500))]));
    assert_eq!(second.health, GpuHealth::Ok);
    assert_eq!((second.utilization_percent, second.temperature_celsius), (Some(37), Some(40)));
    let cdi = "nvidia.com/gpu=GPU-00000000-0000-0000-0000-000000000001";
    assert_eq!(second.cdi.as_deref(), Some(cdi));
}

#[tokio::test]
async fn a_real_process_is_told_with_its_name_and_family() {
    let bench = bench(Machine::with_gpus(&[24_576]));
    let mut child = sleeper();
    bench.driver.claim(child.id(), 0, 8_192).unwrap();
    let device = bench.device().await;
    let [process] = &device.processes.unwrap()[..] else { panic!("not one process") };
    assert_eq!((process.pid, process.used_mib), (child.id(), Some(8_192)));
    assert_eq!(process.name.as_deref(), Some("cat"));
    assert!(process.lineage.contains(&std::process::id()));
    end(&mut child);
}

#[tokio::test]
async fn memory_that_is_released_late_is_in_use_by_nobody() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    bench.change(|machine| machine.release_delay_ms = 3_600_000);
    let mut child = sleeper();
    bench.driver.claim(child.id(), 0, 8_192).unwrap();
    assert_eq!(bench.device().await.used_mib, Some(8_192));
    end(&mut child);
    let device = bench.device().await;
    assert_eq!((pids(&device), device.used_mib), (Some(vec![]), Some(8_192)));
    bench.change(|machine| machine.release_delay_ms = 0);
    assert_eq!(bench.device().await.used_mib, Some(0));
}

#[tokio::test]
async fn without_a_driver_there_is_one_problem_until_one_appears() {
    let folder = tempfile::tempdir().unwrap();
    let inventory = NvmlInventory::new(config(&folder.path().join("libnvidia-ml.so.1")));
    let sweep = inventory.sweep().await;
    assert_eq!(sweep.devices, []);
    assert!(problem(&sweep).starts_with("no NVIDIA driver is found"), "{sweep:?}");

    Driver::install(folder.path(), &Machine::with_gpus(&[24_576])).unwrap();
    let sweep = inventory.sweep().await;
    assert_eq!((problems(&sweep), sweep.devices.len()), (vec![], 1));
}

#[tokio::test]
async fn a_driver_that_does_not_start_is_told_with_its_cure_and_tried_again() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    for (code, cure) in [
        (code::DRIVER_NOT_LOADED, "modprobe nvidia"),
        (code::LIB_RM_VERSION_MISMATCH, "reboot"),
        (code::NO_PERMISSION, "/dev/nvidia*"),
        (code::UNKNOWN, "does not work"),
    ] {
        bench.change(|machine| machine.init = code);
        let sweep = bench.sweep().await;
        assert_eq!(sweep.devices, []);
        assert!(problem(&sweep).contains(cure), "{sweep:?}");
    }
    bench.change(|machine| machine.init = code::SUCCESS);
    assert_eq!(bench.device().await.health, GpuHealth::Ok);
}

#[tokio::test]
async fn a_driver_that_failed_is_left_alone_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder.path().join("libnvidia-ml.so.1"));
    config.retry = Duration::from_secs(3_600);
    let inventory = NvmlInventory::new(config);
    let before = inventory.sweep().await;
    Driver::install(folder.path(), &Machine::with_gpus(&[24_576])).unwrap();
    assert_eq!(inventory.sweep().await, before);
}

#[tokio::test]
async fn devices_of_a_driver_that_goes_are_unusable_and_come_back_with_it() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    let before = bench.device().await;
    bench.change(|machine| {
        machine.init = code::DRIVER_NOT_LOADED;
        machine.errors.insert("nvmlDeviceGetCount_v2".to_owned(), code::UNINITIALIZED);
    });
    for _ in 0..2 {
        let sweep = bench.sweep().await;
        assert_eq!(sweep.problems.len(), 1);
        assert_eq!((&sweep.devices[0].id, sweep.devices[0].total_mib), (&before.id, Some(24_576)));
        assert_eq!(sweep.devices[0].health, GpuHealth::Unusable("the driver is gone".to_owned()));
        assert_eq!((sweep.devices[0].used_mib, &sweep.devices[0].processes), (None, &None));
    }
    bench.change(|machine| {
        machine.init = code::SUCCESS;
        machine.errors.clear();
    });
    assert_eq!(bench.device().await, before);
}

#[tokio::test]
async fn while_the_driver_hangs_its_devices_are_in_doubt() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    let before = bench.device().await;
    let mut config = config(&bench.driver.library());
    config.deadline = Duration::from_millis(200);
    let impatient = NvmlInventory::new(config);
    // Patient until it is known that the driver works.
    while impatient.sweep().await.problems.len() == 1 {}

    bench.change(|machine| machine.hangs.push("nvmlDeviceGetMemoryInfo_v2".to_owned()));
    for _ in 0..5 {
        let sweep = impatient.sweep().await;
        assert_eq!(problem(&sweep), "the NVIDIA driver does not answer");
        let device = &sweep.devices[0];
        assert_eq!((&device.id, device.total_mib), (&before.id, Some(24_576)));
        assert!(matches!(&device.health, GpuHealth::Suspect(why) if why.contains("not answer")));
        assert_eq!((device.used_mib, &device.processes), (None, &None));
    }

    bench.change(|machine| machine.hangs.clear());
    // The next sweep that waits long enough has everything as it was.
    assert_eq!(bench.device().await, before);
    while impatient.sweep().await.problems.len() == 1 {}
    assert_eq!(impatient.sweep().await.devices, [before]);
}
