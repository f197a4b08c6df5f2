//! The inventory of NVIDIA GPUs, on a driver that does what drivers do.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nanny_fake_nvml::{Driver, Gpu, Machine, Process, ProcessKind, code};
use nanny_gpu::{DetectConfig, NvmlConfig, NvmlInventory, detect};
use nanny_lib::gpu::{GpuHealth, GpuInventory, GpuReading, GpuVendor, MemoryKind, Sweep};
use tempfile::TempDir;

/// A driver of one test's own, and the inventory that asks it.
struct Bench {
    driver: Driver,
    machine: Machine,
    inventory: Arc<NvmlInventory>,
    folder: TempDir,
}

fn bench(machine: Machine) -> Bench {
    bench_without(&[], machine)
}

fn bench_without(symbols: &[&str], machine: Machine) -> Bench {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let driver = Driver::install_without(symbols, folder.path(), &machine)
        .expect("Cargo has built the library");
    let inventory = Arc::new(NvmlInventory::new(config(&driver.library())));
    Bench { driver, machine, inventory, folder }
}

/// A driver that failed is tried again at once.
fn config(library: &Path) -> NvmlConfig {
    let mut config = NvmlConfig::default();
    config.library = Some(library.to_owned());
    config.deadline = Duration::from_secs(60);
    config.opening = Duration::from_secs(60);
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
    // It has its name a moment after it was made.
    for _ in 0..6000 {
        if std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() == "cat\n" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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
    assert!(sweep.problems[0].is_absence);

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
        assert!(!sweep.problems[0].is_absence);
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
        assert!(problem(&sweep).contains("modprobe nvidia"), "{sweep:?}");
        assert_eq!((&sweep.devices[0].id, sweep.devices[0].total_mib), (&before.id, Some(24_576)));
        assert_eq!(sweep.devices[0].health, GpuHealth::Unusable("the driver is gone".to_owned()));
        assert_eq!((sweep.devices[0].used_mib, &sweep.devices[0].processes), (None, &None));
    }
    // With its files, too: of a machine that had a GPU one cannot say that it has no driver.
    std::fs::remove_file(bench.driver.library()).unwrap();
    let sweep = bench.sweep().await;
    assert!(problem(&sweep).starts_with("no NVIDIA driver is found"), "{sweep:?}");
    assert!(!sweep.problems[0].is_absence);

    bench.machine = Machine::with_gpus(&[24_576]);
    Driver::install(bench.folder.path(), &bench.machine).unwrap();
    assert_eq!(bench.device().await, before);
}

#[tokio::test]
async fn while_the_driver_hangs_its_devices_are_in_doubt() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    let mut config = config(&bench.driver.library());
    config.deadline = Duration::from_millis(100);
    let inventory = NvmlInventory::new(config);
    let before = until_it_answers(&inventory).await;

    bench.change(|machine| machine.hangs.push("nvmlDeviceGetMemoryInfo_v2".to_owned()));
    for _ in 0..5 {
        let sweep = inventory.sweep().await;
        assert!(problem(&sweep).contains("does not answer"), "{sweep:?}");
        let [device] = &sweep.devices[..] else { panic!("not one device: {sweep:#?}") };
        assert_eq!((&device.id, device.total_mib), (&before.id, Some(24_576)));
        assert!(matches!(&device.health, GpuHealth::Suspect(why) if why.contains("not answer")));
        assert_eq!((device.used_mib, &device.processes), (None, &None));
    }

    bench.change(|machine| machine.hangs.clear());
    assert_eq!(until_it_answers(&inventory).await, before);
}

#[tokio::test]
async fn a_device_that_was_lost_before_the_driver_hung_stays_unusable() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    let mut config = config(&bench.driver.library());
    config.deadline = Duration::from_millis(100);
    let inventory = NvmlInventory::new(config);
    until_it_answers(&inventory).await;
    bench.change(|machine| machine.gpus[0].lost = true);
    let mut health = GpuHealth::Ok;
    for _ in 0..600 {
        health = inventory.sweep().await.devices.remove(0).health;
        if matches!(health, GpuHealth::Unusable(_)) {
            break;
        }
    }
    bench.change(|machine| machine.hangs.push("nvmlDeviceGetCount_v2".to_owned()));
    let sweep = inventory.sweep().await;
    assert!(problem(&sweep).contains("does not answer"), "{sweep:?}");
    assert_eq!(sweep.devices[0].health, health);
    bench.change(|machine| machine.hangs.clear());
}

#[tokio::test]
async fn a_driver_may_take_longer_to_open_than_to_answer() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    let mut config = config(&bench.driver.library());
    config.deadline = Duration::ZERO;
    let inventory = NvmlInventory::new(config);
    assert_eq!(inventory.sweep().await.devices.len(), 1);
    bench.change(|machine| machine.hangs.push("nvmlDeviceGetCount_v2".to_owned()));
    assert!(problem(&inventory.sweep().await).contains("does not answer"));
    bench.change(|machine| machine.hangs.clear());
}

/// The device, once a sweep has been quick enough.
async fn until_it_answers(inventory: &NvmlInventory) -> GpuReading {
    for _ in 0..600 {
        let mut sweep = inventory.sweep().await;
        if sweep.problems.is_empty() {
            return sweep.devices.remove(0);
        }
    }
    panic!("the driver has not answered for a minute")
}

#[tokio::test]
async fn a_driver_that_hangs_from_the_beginning_has_no_devices_yet() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    bench.change(|machine| machine.hangs.push("nvmlInit_v2".to_owned()));
    let mut config = config(&bench.driver.library());
    config.opening = Duration::from_millis(100);
    let inventory = NvmlInventory::new(config);
    let sweep = inventory.sweep().await;
    assert!(problem(&sweep).contains("does not answer"), "{sweep:?}");
    assert_eq!(sweep.devices, []);
    bench.change(|machine| machine.hangs.clear());
    until_it_answers(&inventory).await;
}

#[tokio::test]
async fn a_sweep_is_of_after_it_was_asked_for_even_if_another_hangs() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    // Asked after the memory.
    bench.change(|machine| machine.hangs.push("nvmlDeviceGetTemperature".to_owned()));
    let early = tokio::time::timeout(Duration::from_millis(300), bench.sweep()).await;
    assert!(early.is_err(), "{early:?}");

    bench.change(|machine| machine.gpus[0].unlisted_mib = 500);
    let inventory = Arc::clone(&bench.inventory);
    let late: Vec<_> = (0..20)
        .map(|_| {
            let inventory = Arc::clone(&inventory);
            tokio::spawn(async move { inventory.sweep().await })
        })
        .collect();
    tokio::task::yield_now().await;
    bench.change(|machine| machine.hangs.clear());
    for sweep in late {
        assert_eq!(sweep.await.unwrap().devices[0].used_mib, Some(500));
    }
}

#[tokio::test]
async fn a_lost_device_is_unusable_and_comes_back_and_the_others_go_on() {
    let mut bench = bench(Machine::with_gpus(&[24_576, 8_192]));
    let before = bench.sweep().await;
    bench.change(|machine| {
        machine.gpus[0].lost = true;
        machine.gpus[1].unlisted_mib = 100;
    });
    for _ in 0..2 {
        let sweep = bench.sweep().await;
        let [lost, other] = &sweep.devices[..] else { panic!("not two devices: {sweep:#?}") };
        assert_eq!((&lost.id, &lost.pci), (&before.devices[0].id, &before.devices[0].pci));
        assert!(matches!(&lost.health, GpuHealth::Unusable(why) if why.contains("lost")));
        assert_eq!((lost.used_mib, &lost.processes), (None, &None));
        assert_eq!((&other.health, other.used_mib), (&GpuHealth::Ok, Some(100)));
        assert_eq!(sweep.problems[0].gpu.as_ref(), Some(&lost.id));
        assert!(problem(&sweep).contains("the GPU is lost"), "{sweep:?}");
    }
    bench.change(|machine| {
        machine.gpus[0].lost = false;
        machine.gpus[1].unlisted_mib = 0;
    });
    assert_eq!(bench.sweep().await, before);
}

#[tokio::test]
async fn a_device_that_vanishes_without_a_word_is_not_forgotten() {
    let mut bench = bench(Machine::with_gpus(&[24_576, 8_192]));
    let before = bench.sweep().await;
    let mut vanished = None;
    bench.change(|machine| vanished = Some(machine.gpus.remove(0)));
    let sweep = bench.sweep().await;
    let gone = sweep.devices.iter().find(|device| device.id == before.devices[0].id).unwrap();
    assert!(matches!(&gone.health, GpuHealth::Unusable(why) if why.contains("gone")));
    let other = sweep.devices.iter().find(|device| device.id == before.devices[1].id).unwrap();
    assert_eq!((&other.health, other.index), (&GpuHealth::Ok, Some(0)));
    assert!(problem(&sweep).contains("does not list it"), "{sweep:?}");

    bench.change(|machine| machine.gpus.insert(0, vanished.take().unwrap()));
    assert_eq!(bench.sweep().await, before);
}

#[tokio::test]
async fn a_device_that_was_lost_from_the_beginning_is_a_problem() {
    let mut machine = Machine::with_gpus(&[24_576, 8_192]);
    machine.gpus[1].lost = true;
    let sweep = bench(machine).sweep().await;
    assert_eq!(sweep.devices.len(), 1);
    assert!(problem(&sweep).contains("the NVIDIA GPU number 1 does not answer"), "{sweep:?}");
}

#[tokio::test]
async fn whatever_call_fails_for_one_device_the_sweep_has_all() {
    let calls = [
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetName",
        "nvmlDeviceGetPciInfo_v3",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetUtilizationRates",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetSupportedEventTypes",
        "nvmlDeviceRegisterEvents",
    ];
    let mut bench = bench(Machine::with_gpus(&[24_576, 8_192]));
    let before = bench.sweep().await;
    for call in calls {
        for code in [code::UNKNOWN, code::NO_PERMISSION, code::GPU_IS_LOST] {
            bench.change(|machine| {
                machine.gpus[0].errors = [(call.to_owned(), code)].into();
            });
            let sweep = bench.sweep().await;
            let ids: Vec<_> = sweep.devices.iter().map(|device| &device.id).collect();
            assert_eq!(ids, [&before.devices[0].id, &before.devices[1].id], "{call} {code}");
            assert_eq!(sweep.devices[1], before.devices[1], "{call} {code}");
            // Whichever call finds that out; those for events are not made again.
            if code == code::GPU_IS_LOST && !call.contains("Event") {
                let health = &sweep.devices[0].health;
                assert!(matches!(health, GpuHealth::Unusable(_)), "{call}: {health:?}");
            }
        }
    }
    bench.change(|machine| machine.gpus[0].errors.clear());
    assert_eq!(bench.sweep().await, before);
}

#[tokio::test]
async fn a_device_that_does_not_tell_its_memory_is_suspect() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    bench.change(|machine| {
        let errors = &mut machine.gpus[0].errors;
        errors.insert("nvmlDeviceGetMemoryInfo_v2".to_owned(), code::UNKNOWN);
    });
    let sweep = bench.sweep().await;
    let device = &sweep.devices[0];
    assert!(matches!(&device.health, GpuHealth::Suspect(why) if why.contains("its memory")));
    assert_eq!((device.total_mib, device.used_mib), (None, None));
    assert!(problem(&sweep).contains("its memory"), "{sweep:?}");
}

#[tokio::test]
async fn who_uses_a_device_is_left_open_where_it_is_not_told() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    let lists = ["Compute", "Graphics", "MPSCompute"];
    let symbols = lists.map(|list| format!("nvmlDeviceGet{list}RunningProcesses_v3"));
    bench.change(|machine| {
        machine.gpus[0].unlisted_mib = 100;
        machine.errors = symbols.map(|symbol| (symbol, code::NOT_SUPPORTED)).into();
    });
    let device = bench.device().await;
    assert_eq!((device.processes, device.used_mib), (None, Some(100)));
    assert_eq!(device.health, GpuHealth::Ok);

    bench.change(|machine| {
        machine.errors.values_mut().for_each(|error| *error = code::NO_PERMISSION);
    });
    let sweep = bench.sweep().await;
    assert_eq!((&sweep.devices[0].processes, sweep.devices[0].used_mib), (&None, Some(100)));
    assert!(problem(&sweep).contains("who uses it"), "{sweep:?}");
}

#[tokio::test]
async fn who_computes_is_told_even_if_who_draws_is_not() {
    let mut bench = bench(Machine::with_gpus(&[24_576]));
    bench.change(|machine| {
        machine.gpus[0].processes.push(Process::new(4_000_001, 500));
        for list in ["Graphics", "MPSCompute"] {
            let symbol = format!("nvmlDeviceGet{list}RunningProcesses_v3");
            machine.errors.insert(symbol, code::NOT_SUPPORTED);
        }
    });
    let computing = Some(vec![(4_000_001, Some(500))]);
    assert_eq!(pids(&bench.device().await), computing);

    let graphics = "nvmlDeviceGetGraphicsRunningProcesses_v3".to_owned();
    bench.change(|machine| {
        machine.errors.insert(graphics, code::NO_PERMISSION);
    });
    let sweep = bench.sweep().await;
    assert_eq!(pids(&sweep.devices[0]), computing);
    assert!(problem(&sweep).contains("does not tell all that use it"), "{sweep:?}");
}

#[tokio::test]
async fn old_drivers_are_asked_in_their_own_words() {
    let v2 = ["nvmlDeviceGetMemoryInfo_v2"];
    let lists = |version: &str| {
        let list = |kind| format!("nvmlDeviceGet{kind}RunningProcesses{version}");
        ["Compute", "Graphics", "MPSCompute"].map(list)
    };
    let (third, second, first) = (lists("_v3"), lists("_v2"), lists(""));
    let of = |lists: &[String]| lists.iter().map(String::clone).collect::<Vec<_>>();
    let r470 = [of(&third), vec![v2[0].to_owned()]].concat();
    let r390 = [of(&r470), of(&second)].concat();
    // The first list of all is that of computing processes alone.
    let r300 = [of(&r390), of(&first[1..])].concat();
    for missing in [r470, r390, r300] {
        let mut machine = Machine::with_gpus(&[24_576]);
        machine.gpus[0].processes = vec![Process::new(4_000_001, 500), Process::new(4_000_002, 7)];
        let symbols: Vec<&str> = missing.iter().map(String::as_str).collect();
        let absent = bench_without(&symbols, machine.clone());
        // R510.39 had the symbols, and nothing behind them.
        machine.errors = missing.iter().map(|it| (it.clone(), code::FUNCTION_NOT_FOUND)).collect();
        let empty = bench(machine.clone());
        machine.errors.values_mut().for_each(|error| *error = code::ARGUMENT_VERSION_MISMATCH);
        let other = bench(machine);
        for bench in [absent, empty, other] {
            let device = bench.device().await;
            assert_eq!((device.total_mib, device.used_mib), (Some(24_576), Some(507)));
            let both = vec![(4_000_001, Some(500)), (4_000_002, Some(7))];
            assert_eq!(pids(&device), Some(both), "{missing:?}");
        }
    }
}

#[tokio::test]
async fn lists_are_read_whatever_their_length_and_the_size_of_their_entries() {
    for bytes in [24, 32] {
        for length in [0, 1, 15, 16, 64, 65, 1_000] {
            let mut machine = Machine::with_gpus(&[24_576]);
            machine.process_entry_bytes = bytes;
            machine.gpus[0].processes =
                (0..length).map(|n| Process::new(4_000_001 + n, u64::from(n % 9))).collect();
            let told = pids(&bench(machine).device().await).unwrap();
            let expected: Vec<_> =
                (0..length).map(|n| (4_000_001 + n, Some(u64::from(n % 9)))).collect();
            assert_eq!(told, expected, "{length} entries of {bytes} bytes");
        }
    }
}

#[tokio::test]
async fn a_process_in_several_lists_is_told_once_with_the_most_it_uses() {
    let mut machine = Machine::with_gpus(&[24_576]);
    let process = Process::new(4_000_001, 500);
    machine.gpus[0].processes = vec![
        process.clone(),
        Process { kind: ProcessKind::Graphics, mib: 700, ..process.clone() },
        Process { kind: ProcessKind::Mps, mib: 600, ..process },
        Process { kind: ProcessKind::Graphics, ..Process::new(4_000_002, 30) },
    ];
    let device = bench(machine).device().await;
    let merged = vec![(4_000_001, Some(700)), (4_000_002, Some(30))];
    assert_eq!(pids(&device), Some(merged));
}

#[tokio::test]
async fn a_process_whose_memory_is_hidden_is_told_without_it() {
    let mut machine = Machine::with_gpus(&[24_576]);
    machine.gpus[0].hides_process_memory = true;
    machine.gpus[0].processes.push(Process::new(4_000_001, 500));
    let device = bench(machine).device().await;
    assert_eq!(pids(&device), Some(vec![(4_000_001, None)]));
    assert_eq!(device.used_mib, Some(500));
}

#[tokio::test]
async fn a_device_with_the_machines_memory_is_measured_by_that() {
    let gpu = Gpu { name: "NVIDIA GB10".to_owned(), unified: true, ..Gpu::new(0, 0) };
    let device = bench(Machine { gpus: vec![gpu], ..Machine::default() }).device().await;
    assert_eq!((device.memory, device.health), (MemoryKind::Unified, GpuHealth::Ok));
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().next().unwrap().split_whitespace().nth(1).unwrap();
    assert_eq!(device.total_mib, Some(total.parse::<u64>().unwrap() / 1024));
    assert!(device.used_mib > Some(0) && device.used_mib < device.total_mib);
}

#[tokio::test]
async fn a_device_that_tells_no_memory_and_has_its_own_is_not_given_the_machines() {
    let gpu = Gpu { unified: true, ..Gpu::new(0, 0) };
    let device = bench(Machine { gpus: vec![gpu], ..Machine::default() }).device().await;
    assert_eq!(device.memory, MemoryKind::Dedicated);
    assert_eq!((device.total_mib, device.used_mib), (None, None));
}

#[tokio::test]
async fn errors_that_programs_cause_leave_a_device_in_order_and_others_do_not() {
    let mut bench = bench(Machine::with_gpus(&[24_576, 8_192]));
    // One listens from the first sweep on.
    assert_eq!(bench.sweep().await.devices[0].health, GpuHealth::Ok);
    let hears = async |bench: &mut Bench, xids: &[u64]| {
        bench.change(|machine| machine.gpus[0].xids.extend(xids));
        let sweep = bench.sweep().await;
        assert_eq!(sweep.devices[1].health, GpuHealth::Ok);
        sweep.devices[0].health.clone()
    };
    assert_eq!(hears(&mut bench, &[13, 31, 43, 45, 68, 94, 109]).await, GpuHealth::Ok);
    let health = hears(&mut bench, &[31, 62]).await;
    assert!(matches!(&health, GpuHealth::Suspect(why) if why.contains("XID 62")), "{health:?}");
    // It is told once, and remembered.
    assert_eq!(hears(&mut bench, &[]).await, health);
    let health = hears(&mut bench, &[79, 62]).await;
    assert!(matches!(&health, GpuHealth::Unusable(why) if why.contains("XID 79")), "{health:?}");

    // One call that fails is no proof that it was away; that it was lost is.
    let uuid = "nvmlDeviceGetUUID".to_owned();
    bench.change(|machine| machine.gpus[0].errors = [(uuid, code::UNKNOWN)].into());
    bench.sweep().await;
    bench.change(|machine| machine.gpus[0].errors.clear());
    assert_eq!(bench.sweep().await.devices[0].health, health);
    bench.change(|machine| machine.gpus[0].lost = true);
    bench.sweep().await;
    bench.change(|machine| machine.gpus[0].lost = false);
    assert_eq!(bench.sweep().await.devices[0].health, GpuHealth::Ok);
    // It is listened to again.
    assert!(matches!(hears(&mut bench, &[48]).await, GpuHealth::Unusable(_)));
}

#[tokio::test]
async fn a_device_that_is_split_into_instances_is_suspect() {
    let mut machine = Machine::with_gpus(&[24_576]);
    machine.gpus[0].mig = Some(false);
    let mut bench = bench(machine);
    assert_eq!(bench.device().await.health, GpuHealth::Ok);
    bench.change(|machine| machine.gpus[0].mig = Some(true));
    let sweep = bench.sweep().await;
    assert!(matches!(&sweep.devices[0].health, GpuHealth::Suspect(why) if why.contains("MIG")));
    assert!(problem(&sweep).contains("nvidia-smi -mig 0"), "{sweep:?}");
}

#[tokio::test]
async fn a_broken_library_is_a_problem_and_not_our_end() {
    let machine = Machine::with_gpus(&[24_576]);
    let bench = bench_without(&["nvmlShutdown"], machine.clone());
    let sweep = bench.sweep().await;
    assert!(problem(&sweep).contains("incomplete"), "{sweep:?}");
    drop(bench);

    let bench = bench_without(&["nvmlDeviceGetCount_v2"], machine.clone());
    let sweep = bench.sweep().await;
    assert!(problem(&sweep).contains("does not work"), "{sweep:?}");

    // Without events, errors go unheard; the rest works, to the end.
    let mut bench = bench_without(&["nvmlEventSetFree"], machine);
    assert_eq!(bench.device().await.health, GpuHealth::Ok);
    bench.change(|machine| {
        machine.errors.insert("nvmlDeviceGetCount_v2".to_owned(), code::UNKNOWN);
    });
    let sweep = bench.sweep().await;
    assert!(problem(&sweep).contains("does not work"), "{sweep:?}");

    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libnvidia-ml.so.1");
    std::fs::write(&library, "no library at all").unwrap();
    let sweep = NvmlInventory::new(config(&library)).sweep().await;
    assert!(problem(&sweep).contains("no NVIDIA driver is found"), "{sweep:?}");
}

#[tokio::test]
async fn a_look_at_all_vendors_finds_nvidias() {
    let bench = bench(Machine::with_gpus(&[24_576]));
    let all = detect(&DetectConfig::default().nvml_library(bench.driver.library()));
    let sweep = all.sweep().await;
    assert!(sweep.devices.contains(&bench.device().await), "{sweep:?}");
}
