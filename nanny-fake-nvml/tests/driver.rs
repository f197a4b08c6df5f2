//! The driver as its users see it: through the client that the real one is used with.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nanny_fake_nvml::{Driver, Gpu, Machine, Process, ProcessKind, code};
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// A driver of one test's own, and the client's view of it.
struct Bench {
    // Before the directory that it was loaded from.
    nvml: Nvml,
    driver: Driver,
    _folder: TempDir,
}

fn bench(machine: &Machine) -> Bench {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let driver = Driver::install(folder.path(), machine).expect("Cargo has built the library");
    let nvml = open(&driver).expect("the driver starts");
    Bench { nvml, driver, _folder: folder }
}

fn open(driver: &Driver) -> Result<Nvml, NvmlError> {
    Nvml::builder().lib_path(driver.library().as_os_str()).init()
}

impl Bench {
    fn set(&self, machine: &Machine) {
        self.driver.set(machine).expect("the script is written");
    }

    fn used_mib(&self, index: u32) -> u64 {
        let device = self.nvml.device_by_index(index).expect("the device is there");
        device.memory_info().expect("it tells its memory").used / MIB
    }

    fn pids(&self, index: u32) -> Vec<u32> {
        let device = self.nvml.device_by_index(index).expect("the device is there");
        let processes = device.running_compute_processes().expect("it tells its processes");
        processes.iter().map(|process| process.pid).collect()
    }
}

/// A process that lives until it is told to end, or its input does.
fn sleeper() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat is there")
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
    child.wait().expect("it can be waited for");
}

#[test]
fn a_device_tells_who_it_is_and_what_it_holds() {
    let mut machine = Machine::with_gpus(&[24_576, 8_192]);
    machine.gpus[1].reserved_mib = 192;
    machine.gpus[1].unlisted_mib = 1_000;
    machine.gpus[1].utilization = Some(37);
    machine.gpus[1].processes.push(Process::new(4711, 500));
    let bench = bench(&machine);

    assert_eq!(bench.nvml.sys_driver_version().unwrap(), "550.54.15");
    assert_eq!(bench.nvml.sys_nvml_version().unwrap(), "12.550.54.15");
    assert_eq!(bench.nvml.device_count().unwrap(), 2);
    let device = bench.nvml.device_by_index(1).unwrap();
    assert_eq!(device.uuid().unwrap(), machine.gpus[1].uuid);
    assert_eq!(device.name().unwrap(), "NVIDIA Fake 4090");
    assert_eq!((device.index().unwrap(), device.minor_number().unwrap()), (1, 1));
    assert_eq!(device.pci_info().unwrap().bus_id, "00000000:02:00.0");
    let memory = device.memory_info().unwrap();
    assert_eq!(memory.total, 8_192 * MIB);
    assert_eq!((memory.reserved, memory.used), (192 * MIB, 1_500 * MIB));
    assert_eq!(memory.free, (8_192 - 192 - 1_500) * MIB);
    assert_eq!(device.utilization_rates().unwrap().gpu, 37);
    assert_eq!(device.temperature(TemperatureSensor::Gpu).unwrap(), 40);
    assert!(matches!(device.mig_mode(), Err(NvmlError::NotSupported)));

    let by_uuid = bench.nvml.device_by_uuid(machine.gpus[0].uuid.as_str()).unwrap();
    assert_eq!(by_uuid.index().unwrap(), 0);
    let by_pci = bench.nvml.device_by_pci_bus_id("0000:02:00.0").unwrap();
    assert_eq!(by_pci.index().unwrap(), 1);
    assert!(matches!(bench.nvml.device_by_uuid("GPU-none"), Err(NvmlError::NotFound)));
    assert!(matches!(bench.nvml.device_by_index(2), Err(NvmlError::InvalidArg)));
}

#[test]
fn the_script_is_read_again_at_each_call() {
    let mut machine = Machine::with_gpus(&[1_000]);
    let bench = bench(&machine);
    let device = bench.nvml.device_by_index(0).unwrap();
    assert_eq!(device.memory_info().unwrap().used, 0);
    machine.gpus[0].unlisted_mib = 300;
    bench.set(&machine);
    assert_eq!(device.memory_info().unwrap().used, 300 * MIB);
}

#[test]
fn two_drivers_in_one_process_know_nothing_of_each_other() {
    let (one, other) = (bench(&Machine::with_gpus(&[1])), bench(&Machine::with_gpus(&[2, 3])));
    assert_eq!((one.nvml.device_count().unwrap(), other.nvml.device_count().unwrap()), (1, 2));
    drop(one);
    assert_eq!(other.nvml.device_count().unwrap(), 2);
}

#[test]
fn a_script_that_cannot_be_read_fails_every_call() {
    let bench = bench(&Machine::with_gpus(&[1_000]));
    std::fs::write(bench.driver.script(), r#"{"gpus": [{"totalmib": 1}]}"#).unwrap();
    assert!(matches!(bench.nvml.device_count(), Err(NvmlError::Unknown)));
    bench.set(&Machine::with_gpus(&[1_000]));
    assert_eq!(bench.nvml.device_count().unwrap(), 1);
}

#[test]
fn a_script_may_leave_out_whatever_has_a_default() {
    let bench = bench(&Machine::default());
    std::fs::write(bench.driver.script(), r#"{"gpus": [{"total_mib": 5}]}"#).unwrap();
    let memory = bench.nvml.device_by_index(0).unwrap().memory_info().unwrap();
    assert_eq!((memory.total, memory.used), (5 * MIB, 0));
}

#[test]
fn a_driver_that_does_not_start_says_why_and_may_later() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::with_gpus(&[1_000]);
    machine.init = code::DRIVER_NOT_LOADED;
    let driver = Driver::install(folder.path(), &machine).unwrap();
    assert!(matches!(open(&driver), Err(NvmlError::DriverNotLoaded)));
    machine.init = code::LIB_RM_VERSION_MISMATCH;
    driver.set(&machine).unwrap();
    assert!(matches!(open(&driver), Err(NvmlError::LibRmVersionMismatch)));
    machine.init = code::SUCCESS;
    driver.set(&machine).unwrap();
    assert_eq!(open(&driver).unwrap().device_count().unwrap(), 1);
}

#[test]
fn errors_are_injected_for_all_devices_or_for_one() {
    let mut machine = Machine::with_gpus(&[1_000, 1_000]);
    machine.errors.insert("nvmlDeviceGetName".to_owned(), code::UNKNOWN);
    machine.gpus[1].errors.insert("nvmlDeviceGetUUID".to_owned(), code::NO_PERMISSION);
    let bench = bench(&machine);
    let devices: Vec<_> = (0..2).map(|index| bench.nvml.device_by_index(index).unwrap()).collect();
    assert!(matches!(devices[0].name(), Err(NvmlError::Unknown)));
    assert!(matches!(devices[1].name(), Err(NvmlError::Unknown)));
    assert!(devices[0].uuid().is_ok());
    assert!(matches!(devices[1].uuid(), Err(NvmlError::NoPermission)));
}

#[test]
fn a_lost_device_is_counted_answers_nothing_and_may_come_back() {
    let mut machine = Machine::with_gpus(&[1_000, 1_000]);
    let bench = bench(&machine);
    let device = bench.nvml.device_by_index(0).unwrap();
    machine.gpus[0].lost = true;
    bench.set(&machine);
    assert_eq!(bench.nvml.device_count().unwrap(), 2);
    assert!(matches!(bench.nvml.device_by_index(0), Err(NvmlError::GpuLost)));
    assert!(matches!(device.memory_info(), Err(NvmlError::GpuLost)));
    assert!(bench.nvml.device_by_index(1).is_ok());
    machine.gpus[0].lost = false;
    bench.set(&machine);
    assert!(device.memory_info().is_ok());
}

#[test]
fn a_device_that_vanished_is_no_longer_counted() {
    let mut machine = Machine::with_gpus(&[1_000, 1_000]);
    let bench = bench(&machine);
    let device = bench.nvml.device_by_index(0).unwrap();
    let gone = machine.gpus.remove(0);
    bench.set(&machine);
    assert_eq!(bench.nvml.device_count().unwrap(), 1);
    assert!(matches!(bench.nvml.device_by_uuid(gone.uuid.as_str()), Err(NvmlError::NotFound)));
    assert!(matches!(device.memory_info(), Err(NvmlError::GpuLost)));
}

#[test]
fn a_hanging_call_returns_once_the_script_says_so() {
    let mut machine = Machine::with_gpus(&[1_000]);
    let bench = bench(&machine);
    machine.hangs.push("nvmlDeviceGetCount_v2".to_owned());
    bench.set(&machine);
    let (sender, answers) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(bench.nvml.device_count().unwrap()).unwrap());
        // Others go through meanwhile.
        assert!(bench.nvml.sys_driver_version().is_ok());
        assert!(answers.try_recv().is_err());
        machine.hangs.clear();
        bench.set(&machine);
        assert_eq!(answers.recv_timeout(Duration::from_secs(30)), Ok(1));
    });
}

#[test]
fn each_list_has_its_own_processes() {
    let mut machine = Machine::with_gpus(&[10_000]);
    machine.gpus[0].processes = vec![
        Process::new(11, 100),
        Process { kind: ProcessKind::Graphics, ..Process::new(12, 200) },
        Process { kind: ProcessKind::Mps, ..Process::new(13, 300) },
    ];
    let bench = bench(&machine);
    let device = bench.nvml.device_by_index(0).unwrap();
    let lists = [
        device.running_compute_processes().unwrap(),
        device.running_graphics_processes().unwrap(),
        device.mps_running_compute_processes().unwrap(),
        device.running_compute_processes_v2().unwrap(),
        device.running_graphics_processes_v2().unwrap(),
    ];
    let flat: Vec<Vec<u32>> =
        lists.iter().map(|list| list.iter().map(|process| process.pid).collect()).collect();
    assert_eq!(flat, [[11], [12], [13], [11], [12]]);
    assert_eq!(bench.used_mib(0), 600);
}

#[test]
fn asking_for_the_number_of_processes_is_answered_by_an_insufficient_size() {
    let mut machine = Machine::with_gpus(&[10_000]);
    machine.gpus[0].processes = (1..=20).map(|pid| Process::new(pid, 1)).collect();
    let bench = bench(&machine);
    let device = bench.nvml.device_by_index(0).unwrap();
    let ask = bench.nvml.lib().nvmlDeviceGetComputeRunningProcesses_v3.as_ref().unwrap();
    let mut count = 0;
    // SAFETY: the symbol is that of a driver that is loaded, and a list may be null.
    let returned = unsafe { ask(device.handle(), &raw mut count, std::ptr::null_mut()) };
    assert_eq!((returned, count), (code::INSUFFICIENT_SIZE, 20));
    // The client takes any other answer for an empty list.
    assert_eq!(bench.pids(0).len(), 20);

    machine.gpus[0].processes.clear();
    bench.set(&machine);
    // SAFETY: as above.
    let returned = unsafe { ask(device.handle(), &raw mut count, std::ptr::null_mut()) };
    assert_eq!((returned, count), (code::SUCCESS, 0));
}

#[test]
fn memory_is_told_only_to_who_names_the_version_of_its_struct() {
    let bench = bench(&Machine::with_gpus(&[10_000]));
    let device = bench.nvml.device_by_index(0).unwrap();
    let ask = bench.nvml.lib().nvmlDeviceGetMemoryInfo_v2.as_ref().unwrap();
    for (version, expected) in [
        (0x0200_0028, code::SUCCESS),
        (0, code::ARGUMENT_VERSION_MISMATCH),
        (0x0100_0028, code::ARGUMENT_VERSION_MISMATCH),
    ] {
        let mut memory = nvml_wrapper_sys::bindings::nvmlMemory_v2_t {
            version,
            total: 0,
            reserved: 0,
            free: 0,
            used: 0,
        };
        // SAFETY: the symbol is that of a driver that is loaded, and the struct is ours.
        let returned = unsafe { ask(device.handle(), &raw mut memory) };
        assert_eq!((returned, memory.version), (expected, version));
    }
}

#[test]
fn the_first_version_of_the_memory_counts_what_is_reserved_as_used() {
    let mut machine = Machine::with_gpus(&[10_000]);
    machine.gpus[0].reserved_mib = 500;
    machine.gpus[0].unlisted_mib = 1_000;
    let bench = bench(&machine);
    let device = bench.nvml.device_by_index(0).unwrap();
    let ask = bench.nvml.lib().nvmlDeviceGetMemoryInfo.as_ref().unwrap();
    let mut memory = nvml_wrapper_sys::bindings::nvmlMemory_t { total: 0, free: 0, used: 0 };
    // SAFETY: the symbol is that of a driver that is loaded, and the struct is ours.
    let returned = unsafe { ask(device.handle(), &raw mut memory) };
    assert_eq!(returned, code::SUCCESS);
    let mib = [memory.total, memory.free, memory.used].map(|bytes| bytes / MIB);
    assert_eq!(mib, [10_000, 8_500, 1_500]);
}

#[test]
fn an_old_driver_does_not_have_newer_symbols() {
    let folder = tempfile::tempdir().unwrap();
    let symbols = ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetComputeRunningProcesses_v3"];
    let machine = Machine::with_gpus(&[10_000]);
    let driver = Driver::install_without(&symbols, folder.path(), &machine).unwrap();
    let nvml = open(&driver).unwrap();
    let device = nvml.device_by_index(0).unwrap();
    assert!(matches!(device.memory_info(), Err(NvmlError::FailedToLoadSymbol(_))));
    let processes = device.running_compute_processes();
    assert!(matches!(processes, Err(NvmlError::FailedToLoadSymbol(_))));
    assert!(device.running_compute_processes_v2().is_ok());
    assert!(nvml.lib().nvmlDeviceGetMemoryInfo.is_ok());
    assert!(Driver::install_without(&["nvmlNoSuch"], folder.path(), &machine).is_err());
}

#[test]
fn long_entries_are_misread_by_who_does_not_expect_them() {
    let mut machine = Machine::with_gpus(&[10_000]);
    machine.process_entry_bytes = 32;
    machine.gpus[0].processes = (1000..1004).map(|pid| Process::new(pid, 100)).collect();
    let bench = bench(&machine);
    assert_eq!(bench.pids(0)[..2], [1000, 0]);
}

#[test]
fn memory_of_processes_can_be_hidden() {
    let mut machine = Machine::with_gpus(&[10_000]);
    machine.gpus[0].hides_process_memory = true;
    machine.gpus[0].processes.push(Process::new(11, 100));
    let bench = bench(&machine);
    let processes = bench.nvml.device_by_index(0).unwrap().running_compute_processes().unwrap();
    assert_eq!(processes[0].used_gpu_memory, UsedGpuMemory::Unavailable);
    assert_eq!(bench.used_mib(0), 100);
}

#[test]
fn each_xid_is_told_once_and_none_from_before_one_listens() {
    let mut machine = Machine::with_gpus(&[1_000, 1_000]);
    machine.gpus[1].xids.push(13);
    let bench = bench(&machine);
    let device = bench.nvml.device_by_index(1).unwrap();
    assert!(device.supported_event_types().unwrap().contains(EventTypes::CRITICAL_XID_ERROR));
    let set = bench.nvml.create_event_set().unwrap();
    let set = device.register_events(EventTypes::CRITICAL_XID_ERROR, set).unwrap();
    assert!(matches!(set.wait(0), Err(NvmlError::Timeout)));

    machine.gpus[1].xids.extend([79, 48]);
    bench.set(&machine);
    let mut heard = Vec::new();
    while let Ok(event) = set.wait(0) {
        assert_eq!(event.device.uuid().unwrap(), machine.gpus[1].uuid);
        heard.push(event.event_data);
    }
    assert_eq!(heard, [Some(XidError::Value(79)), Some(XidError::Value(48))]);
    set.release_events().unwrap();
}

#[test]
fn a_process_holds_what_it_claims_while_it_lives() {
    let bench = bench(&Machine::with_gpus(&[24_576, 24_576]));
    let mut child = sleeper();
    bench.driver.claim(child.id(), 1, 8_192).unwrap();
    assert_eq!((bench.pids(0), bench.pids(1)), (vec![], vec![child.id()]));
    assert_eq!((bench.used_mib(0), bench.used_mib(1)), (0, 8_192));
    end(&mut child);
    assert_eq!((bench.pids(1), bench.used_mib(1)), (vec![], 0));
}

#[test]
fn a_shell_claims_memory_with_one_line() {
    let bench = bench(&Machine::with_gpus(&[24_576]));
    let mut shell = Command::new("sh")
        .args(["-c", r#"printf '0 8192\n' >"$CLAIMS/$$"; read -r line"#])
        .env("CLAIMS", bench.driver.claims())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..3_000 {
        if bench.used_mib(0) > 0 {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert_eq!((bench.pids(0), bench.used_mib(0)), (vec![shell.id()], 8_192));
    shell.stdin.take().unwrap().write_all(b"\n").unwrap();
    shell.wait().unwrap();
    assert_eq!(bench.used_mib(0), 0);
}

#[test]
fn memory_of_the_dead_is_released_late_and_listed_for_nobody() {
    let mut machine = Machine::with_gpus(&[24_576]);
    machine.release_delay_ms = 3_600_000;
    let bench = bench(&machine);
    let mut child = sleeper();
    bench.driver.claim(child.id(), 0, 8_192).unwrap();
    assert_eq!(bench.used_mib(0), 8_192);
    end(&mut child);
    assert_eq!((bench.pids(0), bench.used_mib(0)), (vec![], 8_192));
    assert_eq!(bench.driver.taken_mib(0).unwrap(), 8_192);
    // An hour later, as it were.
    machine.release_delay_ms = 0;
    bench.set(&machine);
    assert_eq!(bench.used_mib(0), 0);
}

#[test]
fn a_zombie_holds_nothing() {
    let bench = bench(&Machine::with_gpus(&[24_576]));
    let mut child = sleeper();
    bench.driver.claim(child.id(), 0, 8_192).unwrap();
    drop(child.stdin.take());
    let stat = format!("/proc/{}/stat", child.id());
    for _ in 0..3_000 {
        if std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert_eq!((bench.pids(0), bench.used_mib(0)), (vec![], 0));
    child.wait().unwrap();
}

#[test]
fn a_process_that_has_the_number_of_a_dead_one_holds_nothing() {
    let bench = bench(&Machine::with_gpus(&[24_576]));
    let mut child = sleeper();
    let file = bench.driver.claims().join(child.id().to_string());
    // As if it had been written by an earlier process of that number.
    std::fs::write(&file, "0 8192 1\n").unwrap();
    assert_eq!((bench.pids(0), bench.used_mib(0)), (vec![], 0));
    // Its own claim counts, although the earlier one of its name is known to be over.
    bench.driver.claim(child.id(), 0, 4_096).unwrap();
    assert_eq!((bench.pids(0), bench.used_mib(0)), (vec![child.id()], 4_096));
    end(&mut child);
}

#[test]
fn users_may_overrun_a_device_and_it_shows() {
    let mut machine = Machine::with_gpus(&[1_000]);
    machine.gpus[0].processes = vec![Process::new(11, 800), Process::new(12, 700)];
    let bench = bench(&machine);
    assert_eq!(bench.driver.taken_mib(0).unwrap(), 1_500);
    assert_eq!(bench.used_mib(0), 1_000);
}

#[test]
fn a_device_with_the_memory_of_the_machine_tells_none() {
    let machine =
        Machine { gpus: vec![Gpu { unified: true, ..Gpu::default() }], ..Machine::default() };
    let bench = bench(&machine);
    let memory = bench.nvml.device_by_index(0).unwrap().memory_info();
    assert!(matches!(memory, Err(NvmlError::NotSupported)));
}
