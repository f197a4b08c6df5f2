//! The inventory on directories that look like a machine's.

use std::fs;
use std::os::unix::fs::symlink;

use nanny_lib::gpu::{GpuVendor, MemoryKind};
use tempfile::TempDir;

use super::*;

/// A machine whose files a test writes.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a directory") }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a directory of its")).expect("that directory");
        fs::write(path, text).expect("a file");
    }

    /// A card with these attributes.
    fn card(&self, number: u32, pci: &str, attributes: &[(&str, &str)]) {
        let device = format!("sys/class/drm/card{number}/device");
        let uevent = format!("DRIVER=amdgpu\nPCI_SLOT_NAME={pci}\nMODALIAS=pci:x\n");
        for (file, text) in [("vendor", "0x1002\n"), ("device", "0x73df\n"), ("uevent", &uevent)]
            .iter()
            .chain(attributes)
        {
            self.write(&format!("{device}/{file}"), text);
        }
    }

    /// A process that holds a device's file open, seen through `fdinfo`.
    fn opens(&self, pid: u32, file: u32, target: &str, info: &str) {
        self.write(&format!("proc/{pid}/stat"), &format!("{pid} (ollama) S 1 {pid} {pid} 0\n"));
        self.write(&format!("proc/{pid}/fdinfo/{file}"), info);
        let link = self.root.path().join(format!("proc/{pid}/fd"));
        fs::create_dir_all(&link).expect("a directory");
        symlink(target, link.join(file.to_string())).expect("a link");
    }

    fn sweep(&self) -> Sweep {
        read(self.root.path())
    }

    /// Pids and memory on the only card.
    fn users(&self) -> Vec<(u32, Option<u64>)> {
        let sweep = self.sweep();
        let users = sweep.devices[0].processes.as_ref().expect("users");
        users.iter().map(|process| (process.pid, process.used_mib)).collect()
    }
}

const RX_6700_XT: [(&str, &str); 8] = [
    ("mem_info_vram_total", "12868124672\n"),
    ("mem_info_vram_used", "1048577\n"),
    ("mem_info_vram_vendor", "samsung\n"),
    ("mem_info_gtt_total", "16668124160\n"),
    ("mem_info_gtt_used", "70000000\n"),
    ("unique_id", "2f8b5b4c3d2e1f00\n"),
    ("gpu_busy_percent", "17\n"),
    ("hwmon/hwmon4/temp1_input", "46000\n"),
];

fn info(client: u32, vram_kib: u64) -> String {
    format!(
        "pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t0000:03:00.0\n\
         drm-memory-vram:\t{vram_kib} KiB\ndrm-memory-gtt:\t1024 KiB\n"
    )
}

#[test]
fn a_machine_without_amd_has_no_devices_and_no_problem() {
    let machine = Machine::new();
    assert_eq!(machine.sweep(), Sweep::default());
    machine.write("sys/class/drm/card0/device/vendor", "0x10de\n");
    machine.write("sys/class/drm/version", "drm 1.1.0 20060810\n");
    assert_eq!(machine.sweep(), Sweep::default());
}

#[test]
fn a_card_tells_all_it_can() {
    let machine = Machine::new();
    machine.card(0, "0000:03:00.0", &RX_6700_XT);
    machine.write("sys/class/drm/card0-DP-1/status", "connected\n");
    let sweep = machine.sweep();
    let [device] = &sweep.devices[..] else { panic!("{sweep:?}") };
    assert_eq!(device.id.as_str(), "GPU-2f8b5b4c3d2e1f00");
    assert_eq!((device.vendor, device.memory), (GpuVendor::Amd, MemoryKind::Dedicated));
    assert_eq!((device.index, device.pci.as_deref()), (Some(0), Some("0000:03:00.0")));
    assert_eq!(device.name, "AMD GPU 73df");
    // Down to the MiB what there is, up what is used.
    assert_eq!((device.total_mib, device.used_mib), (Some(12_272), Some(2)));
    assert_eq!((device.utilization_percent, device.temperature_celsius), (Some(17), Some(46)));
    assert_eq!(device.processes, Some(Vec::new()));
    assert_eq!((&device.health, &sweep.problems), (&GpuHealth::Ok, &Vec::new()));
}

#[test]
fn what_a_card_does_not_tell_is_left_open() {
    let machine = Machine::new();
    machine.card(1, "0000:0A:00.0", &[("unique_id", "0000000000000000\n")]);
    let device = &machine.sweep().devices[0];
    assert_eq!(device.id.as_str(), "pci:0000:0a:00.0");
    assert_eq!((device.total_mib, device.used_mib), (None, None));
    assert_eq!((device.utilization_percent, device.temperature_celsius), (None, None));
}

#[test]
fn cards_are_numbered_by_their_slots() {
    let machine = Machine::new();
    machine.card(0, "0000:41:00.0", &[]);
    machine.card(12, "0000:03:00.0", &[]);
    let devices = machine.sweep().devices;
    let order: Vec<_> =
        devices.iter().map(|device| (device.index.unwrap(), device.id.as_str())).collect();
    assert_eq!(order, [(0, "pci:0000:03:00.0"), (1, "pci:0000:41:00.0")]);
}

#[test]
fn a_card_that_sleeps_is_not_woken() {
    let machine = Machine::new();
    machine.card(0, "0000:03:00.0", &RX_6700_XT);
    machine.write("sys/class/drm/card0/device/power/runtime_status", "suspended\n");
    let device = &machine.sweep().devices[0];
    assert_eq!((device.utilization_percent, device.temperature_celsius), (None, None));
    assert_eq!((device.total_mib, device.used_mib), (Some(12_272), Some(2)));
}

#[test]
fn an_apu_has_the_machines_memory() {
    let machine = Machine::new();
    let memory = [
        ("mem_info_vram_total", "536870912\n"),
        ("mem_info_vram_used", "104857600\n"),
        ("mem_info_gtt_total", "16106127360\n"),
        ("mem_info_gtt_used", "1073741824\n"),
    ];
    machine.card(0, "0000:03:00.0", &memory);
    machine.opens(40, 7, "/dev/dri/renderD128", &info(1, 2048));
    let device = &machine.sweep().devices[0];
    assert_eq!(device.memory, MemoryKind::Unified);
    assert_eq!((device.total_mib, device.used_mib), (Some(15_872), Some(1124)));
    assert_eq!(machine.users(), [(40, Some(3))], "memory of both kinds counts");
}

#[test]
fn who_holds_a_device_open_uses_it() {
    let machine = Machine::new();
    machine.card(0, "0000:03:00.0", &RX_6700_XT);
    machine.opens(40, 7, "/dev/dri/renderD128", &info(1, 2048));
    machine.opens(40, 9, "/dev/dri/renderD128", &info(2, 1024));
    machine.opens(50, 3, "/dev/null", &info(3, 4096));
    let elsewhere = info(4, 4096).replace("03:00", "09:00");
    machine.opens(60, 3, "/dev/dri/card1", &elsewhere);
    assert_eq!(machine.users(), [(40, Some(3))]);
    let sweep = machine.sweep();
    let process = &sweep.devices[0].processes.as_ref().unwrap()[0];
    assert_eq!(process.name.as_deref(), Some("ollama"));
}

#[test]
fn what_processes_share_counts_once() {
    let machine = Machine::new();
    machine.card(0, "0000:03:00.0", &RX_6700_XT);
    for (pid, file) in [(40, 7), (40, 8), (41, 7)] {
        machine.opens(pid, file, "/dev/dri/renderD128", &info(1, 2048));
    }
    assert_eq!(machine.users(), [(40, Some(2))]);
}

#[test]
fn who_computes_uses_it_and_counts_once() {
    let machine = Machine::new();
    machine.card(0, "0000:03:00.0", &RX_6700_XT);
    let kfd = "sys/class/kfd/kfd";
    machine.write(&format!("{kfd}/topology/nodes/0/gpu_id"), "0\n");
    machine.write(&format!("{kfd}/topology/nodes/0/properties"), "domain 0\nlocation_id 768\n");
    machine.write(&format!("{kfd}/topology/nodes/1/gpu_id"), "51138\n");
    let properties = "simd_count 80\nlocation_id 768\ndomain 0\n";
    machine.write(&format!("{kfd}/topology/nodes/1/properties"), properties);
    machine.opens(40, 7, "/dev/dri/renderD128", &info(1, 2048));
    machine.write(&format!("{kfd}/proc/40/vram_51138"), "8388608\n");
    machine.write(&format!("{kfd}/proc/50/vram_51138"), "1048576\n");
    machine.write(&format!("{kfd}/proc/60/vram_51138"), "0\n");
    assert_eq!(machine.users(), [(40, Some(8)), (50, Some(1))]);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_does_not_answer_makes_its_devices_suspect() {
    let machine = Machine::new();
    machine.card(0, "0000:03:00.0", &RX_6700_XT);
    let inventory = AmdInventory::at(machine.root.path());
    let seen = inventory.sweep().await;
    assert_eq!(seen.devices[0].health, GpuHealth::Ok);
    let reader = Arc::clone(&inventory.reader).acquire_owned().await.unwrap();
    let silent = inventory.sweep().await;
    assert_eq!(silent.devices[0].id, seen.devices[0].id);
    assert_eq!((silent.devices[0].total_mib, silent.devices[0].used_mib), (Some(12_272), None));
    assert!(matches!(silent.devices[0].health, GpuHealth::Suspect(_)));
    assert!(silent.problems[0].message.contains("amdgpu"));
    drop(reader);
    assert_eq!(inventory.sweep().await, seen);
}
