//! Which GPUs a process uses, and which processes those are that use a GPU.

use std::collections::BTreeMap;
use std::fs;

use nanny_lib::GpuId;
use nanny_lib::backend::{ContainerBackend as _, Selector};
use nanny_lib::gpu::GpuVendor;
use nanny_lib::project::{PlacedGpu, labels};
use nanny_testkit::placing::placed;

use crate::house::{House, spec, until};

fn gpu(id: &str, vendor: GpuVendor) -> PlacedGpu {
    PlacedGpu::new(GpuId::new(id), vendor, 8192)
}

/// The variables of a process, as it was started.
fn environment(pid: u32) -> BTreeMap<String, String> {
    let bytes = fs::read(format!("/proc/{pid}/environ")).expect("it runs, and is ours");
    let lines = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    lines
        .filter_map(|line| Some(line.split_once('=')?).map(|(k, v)| (k.into(), v.into())))
        .collect()
}

pub(crate) async fn a_program_is_told_the_gpus_it_was_placed_on() {
    // Whoever placed it knows the GPUs: nobody asks for signs of a driver.
    let house = House::with(|config| config.gpu_signs = vec!["/nonexistent".into()]);
    let nvidia = [gpu("GPU-b", GpuVendor::Nvidia), gpu("GPU-a", GpuVendor::Nvidia)];
    let amd = [gpu("GPU-00c0ffee00c0ffee", GpuVendor::Amd)];
    let cases = [
        (
            &nvidia[..],
            [("CUDA_VISIBLE_DEVICES", "GPU-b,GPU-a"), ("CUDA_DEVICE_ORDER", "PCI_BUS_ID")],
        ),
        (&amd, [("ROCR_VISIBLE_DEVICES", "GPU-00c0ffee00c0ffee"), ("NO_MORE", "")]),
    ];
    for (number, (gpus, variables)) in cases.into_iter().enumerate() {
        let mut wanted = spec(&format!("placed-{number}"), "exec sleep 1000");
        wanted.labels.insert(labels::GPU.to_owned(), "required".to_owned());
        let wanted = placed(wanted, gpus);
        let id = house.backend.create(&wanted).await.unwrap();
        house.backend.start(&id).await.unwrap();
        let info = house.inspect(&id).await;
        let [main, ..] = info.processes[..] else { panic!("{info:?}") };
        // A moment before, it is still ours.
        let program = || fs::read_to_string(format!("/proc/{main}/comm")).ok();
        let begun = || {
            program().filter(|name| name.trim() == "sleep")?;
            Some(environment(main)).filter(|told| !told.is_empty())
        };
        let told = until("its program has begun", async || begun()).await;
        for (name, value) in variables {
            assert_eq!(told.get(name).map_or("", String::as_str), value, "{name}");
        }
        assert!(info.uses_gpu);
        assert_eq!(info.gpus, gpus.iter().map(|gpu| gpu.id.clone()).collect::<Vec<_>>());
        let placement = labels::placement_of(&info).unwrap();
        assert!(gpus.iter().all(|gpu| placement.mib[&gpu.id] == gpu.mib), "{placement:?}");
        house.backend.kill(&id).await.unwrap();
    }
}

pub(crate) async fn every_process_of_a_run_descends_from_those_that_are_told() {
    let house = House::new();
    let file = house.directory.path().join("pid");
    // In a session of its own, and its parent has ended.
    let script = format!(
        "(setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; sleep 1000' &); sleep 1000",
        file.display()
    );
    let id = house.started("a", &script).await;
    let read = || fs::read_to_string(&file).ok()?.trim().parse::<u32>().ok();
    let stray = until("the stray has begun", async || read()).await;
    let info = house.inspect(&id).await;
    let [main, shim] = info.processes[..] else { panic!("{info:?}") };
    let is_alone = || (!ancestors(stray).contains(&main)).then_some(());
    until("its parent has ended", async || is_alone()).await;
    assert!(ancestors(stray).contains(&shim), "{info:?}");
    assert_eq!(ancestors(main).get(1), Some(&shim));
    let list = house.backend.list(&Selector::All).await.unwrap();
    let [listed] = &list[..] else { panic!("there is one") };
    assert_eq!(listed.processes, info.processes);
    house.backend.kill(&id).await.unwrap();
    assert_eq!(house.inspect(&id).await.processes, [0; 0]);
}

/// A process and those above it.
fn ancestors(pid: u32) -> Vec<u32> {
    let above = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    };
    std::iter::successors(Some(pid), above).take_while(|pid| *pid > 0).collect()
}
