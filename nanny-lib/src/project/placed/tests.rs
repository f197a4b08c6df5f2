use super::*;
use crate::backend::{ContainerInfo, DeviceMapping};
use crate::name::ContainerId;
use crate::project::{Join, Namespace, has_drifted, spec_hash};

fn gpu(id: &str, vendor: GpuVendor, index: u32) -> PlacedGpu {
    PlacedGpu { index: Some(index), ..PlacedGpu::new(GpuId::new(id), vendor, 8192) }
}

fn nvidia() -> Vec<PlacedGpu> {
    vec![gpu("GPU-a", GpuVendor::Nvidia, 2), gpu("GPU-b", GpuVendor::Nvidia, 5)]
}

fn amd() -> Vec<PlacedGpu> {
    vec![gpu("GPU-00c0ffee00c0ffee", GpuVendor::Amd, 1)]
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn request(driver: &str, count: Option<i64>, ids: &[&str]) -> GpuDevices {
    GpuDevices {
        driver: driver.to_owned(),
        count,
        device_ids: words(ids),
        capabilities: if driver == "cdi" { Vec::new() } else { words(&["gpu"]) },
        ..GpuDevices::default()
    }
}

fn container(change: impl FnOnce(&mut ContainerSpec)) -> ContainerSpec {
    let mut spec = ContainerSpec::new("p-web-1", "image");
    change(&mut spec);
    spec
}

fn variable(spec: &mut ContainerSpec, name: &str, value: &str) {
    set(spec, name, value.to_owned());
}

/// What the container of a part is made from that is on `gpus`, and what is said about it.
fn placed(spec: ContainerSpec, gpus: &[PlacedGpu]) -> (ContainerSpec, Vec<String>) {
    let Placed { project, notices } = Project::single("p", spec).placed_on(gpus);
    let spec = project.parts["main"].resolved(|_| None).expect("it shares nothing");
    (spec, notices)
}

/// The same where nothing is to be said.
fn passed(spec: ContainerSpec, gpus: &[PlacedGpu]) -> ContainerSpec {
    let (spec, notices) = placed(spec, gpus);
    assert_eq!(notices, [""; 0]);
    spec
}

fn value<'a>(spec: &'a ContainerSpec, name: &str) -> Option<&'a str> {
    chosen(spec, name)
}

#[test]
fn requests_become_one_for_exactly_these() {
    let asked = container(|spec| {
        let mut first = request("nvidia", Some(-1), &[]);
        first.options.insert("a".to_owned(), "1".to_owned());
        let mut second = request("nvidia", None, &["0"]);
        second.capabilities = words(&["gpu", "utility"]);
        second.options.insert("b".to_owned(), "2".to_owned());
        spec.gpus = vec![first, second];
    });
    let spec = passed(asked, &nvidia());
    let [one] = &spec.gpus[..] else { panic!("{:?}", spec.gpus) };
    assert_eq!((one.driver.as_str(), one.count), ("nvidia", None));
    assert_eq!(one.device_ids, ["GPU-a", "GPU-b"]);
    assert_eq!(one.capabilities, ["gpu", "utility"]);
    assert_eq!(one.options.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(spec.environment.0.is_empty());
    // Whichever driver the engine has.
    let any = container(|spec| spec.gpus = vec![request("", Some(1), &[])]);
    assert_eq!(passed(any, &nvidia()).gpus, [request("", None, &["GPU-a", "GPU-b"])]);
}

#[test]
fn cdi_devices_are_named_as_their_specs_name_them() {
    let by_name = |names: &[&str]| container(|spec| spec.gpus = vec![request("cdi", None, names)]);
    let cdi = |names: &[&str]| request("cdi", None, names);
    let all = by_name(&["nvidia.com/gpu=all"]);
    let wanted = cdi(&["nvidia.com/gpu=GPU-a", "nvidia.com/gpu=GPU-b"]);
    assert_eq!(passed(all.clone(), &nvidia()).gpus, [wanted]);
    // The inventory knows better.
    let mut known = nvidia();
    known.truncate(1);
    known[0].cdi = Some("vendor.example/gpu=x".to_owned());
    assert_eq!(passed(all.clone(), &known).gpus, [cdi(&["vendor.example/gpu=x"])]);
    let declared = [gpu("declared-0", GpuVendor::Declared, 0)];
    assert_eq!(passed(by_name(&["amd.com/gpu=all"]), &declared).gpus, [cdi(&["amd.com/gpu=0"])]);
    let on_amd = cdi(&["amd.com/gpu=GPU-00c0ffee00c0ffee"]);
    assert_eq!(passed(all, &amd()).gpus, [on_amd]);
    // What else it asks for stays.
    let spec = passed(by_name(&["vendor.example/nic=1", "nvidia.com/gpu=0"]), &known);
    assert_eq!(spec.gpus, [cdi(&["vendor.example/nic=1"]), cdi(&["vendor.example/gpu=x"])]);
}

#[test]
fn who_asks_for_other_devices_asks_for_no_gpu() {
    let tpu = GpuDevices { capabilities: words(&["tpu"]), ..request("tpu", Some(1), &[]) };
    let nic = request("cdi", None, &["vendor.example/nic=1"]);
    let decoder = DeviceMapping::new("/dev/dri");
    let asked = container(|spec| {
        spec.gpus = vec![tpu, nic];
        spec.devices = vec![decoder, DeviceMapping::new("/dev/nvidiactl")];
    });
    let (spec, notices) = placed(asked.clone(), &nvidia());
    assert_eq!((&spec.gpus, &spec.devices), (&asked.gpus, &asked.devices));
    assert_eq!(notices.len(), 1, "{notices:?}");
}

#[test]
fn the_runtime_is_told_by_its_variable() {
    let by_runtime = |value: Option<&str>| {
        container(|spec| {
            spec.runtime = Some("nvidia".to_owned());
            value.into_iter().for_each(|value| variable(spec, NVIDIA, value));
        })
    };
    // Without it, the image's own would count.
    for before in [None, Some("all")] {
        let spec = passed(by_runtime(before), &nvidia());
        assert_eq!(value(&spec, NVIDIA), Some("GPU-a,GPU-b"), "{before:?}");
    }
    // It may be the engine's default.
    let by_variable = container(|spec| variable(spec, NVIDIA, "all"));
    assert_eq!(value(&passed(by_variable, &nvidia()), NVIDIA), Some("GPU-a,GPU-b"));
    // The same choice, in the words of the file.
    for same in ["GPU-b,GPU-a", "5, 2"] {
        assert_eq!(value(&passed(by_runtime(Some(same)), &nvidia()), NVIDIA), Some(same));
    }
    for nothing in ["", "void", "none"] {
        let (spec, notices) = placed(by_runtime(Some(nothing)), &nvidia());
        assert_eq!(value(&spec, NVIDIA), Some(nothing));
        assert!(notices[0].contains("asks for no GPU"), "{notices:?}");
    }
}

#[test]
fn a_choice_of_the_files_is_left_and_told() {
    let set = |names: &[&str], change: fn(&mut ContainerSpec)| {
        container(|spec| {
            change(spec);
            names.iter().for_each(|name| variable(spec, name, "7"));
        })
    };
    let by_runtime: fn(&mut ContainerSpec) = |spec| spec.runtime = Some("nvidia".to_owned());
    let by_request: fn(&mut ContainerSpec) = |spec| spec.gpus = vec![request("", Some(1), &[])];
    let by_device: fn(&mut ContainerSpec) = |spec| spec.devices = vec![DeviceMapping::new(KFD)];
    let command: fn(&mut ContainerSpec) = |spec| spec.image = None;
    let cases = [
        (NVIDIA, by_runtime, nvidia()),
        (CUDA, by_request, nvidia()),
        (HIP, by_request, nvidia()),
        (ROCR, by_device, amd()),
        (HIP, by_device, amd()),
        (CUDA, by_device, amd()),
        (CUDA, command, nvidia()),
        (HIP, command, amd()),
        (ROCR, command, amd()),
    ];
    for (name, change, gpus) in cases {
        let (spec, notices) = placed(set(&[name], change), &gpus);
        assert_eq!(value(&spec, name), Some("7"));
        let begins = format!("part 'main' sets {name} itself, which is left as it is");
        let [notice] = &notices[..] else { panic!("{name}: {notices:?}") };
        assert!(notice.starts_with(&begins), "{notice}");
        assert!(notice.contains(gpus[0].id.as_str()) && !notice.contains('7'), "{notice}");
        assert_eq!(spec.environment.0.len(), 1, "{:?}", spec.environment);
    }
    // The request is for the right ones all the same.
    let (spec, _) = placed(set(&[CUDA], by_request), &nvidia());
    assert_eq!(spec.gpus[0].device_ids, ["GPU-a", "GPU-b"]);
}

#[test]
fn a_choice_within_what_a_container_gets_hides_nothing() {
    for (own, hides) in [("0", false), ("1,0", false), ("GPU-b", false), ("2", true), ("", true)] {
        let asked = container(|spec| {
            spec.gpus = vec![request("", Some(1), &[])];
            variable(spec, CUDA, own);
        });
        assert_eq!(placed(asked, &nvidia()).1.len(), usize::from(hides), "{own:?}");
    }
    // All of AMD's are in the container, so there they are counted as everywhere.
    for (own, is_same) in [("0", false), ("1", true)] {
        let asked = container(|spec| {
            spec.devices = vec![DeviceMapping::new(KFD), DeviceMapping::new("/dev/dri")];
            variable(spec, HIP, own);
        });
        assert_eq!(placed(asked, &amd()).1.is_empty(), is_same, "{own:?}");
    }
}

#[test]
fn rocm_is_told_by_its_variable() {
    let asked = || container(|spec| spec.devices = vec![DeviceMapping::new(KFD)]);
    let spec = passed(asked(), &amd());
    assert_eq!(value(&spec, ROCR), Some("GPU-00c0ffee00c0ffee"));
    let by_number = [gpu("pci:0000:0b:00.0", GpuVendor::Amd, 1)];
    assert_eq!(value(&passed(asked(), &by_number), ROCR), Some("1"));
}

#[test]
fn what_cannot_be_passed_on_is_told_and_left() {
    let says = |asked: ContainerSpec, gpus: &[PlacedGpu], words: &str| {
        let (spec, notices) = placed(asked.clone(), gpus);
        assert_eq!((&spec.gpus, &spec.environment), (&asked.gpus, &asked.environment));
        assert!(matches!(&notices[..], [notice] if notice.contains(words)), "{notices:?}");
        // Where it was placed is known all the same.
        assert!(spec.labels.contains_key(labels::PLACEMENT));
    };
    let kfd = || container(|spec| spec.devices = vec![DeviceMapping::new(KFD)]);
    let driver = |name| container(|spec| spec.gpus = vec![request(name, Some(1), &[])]);
    let runtime = container(|spec| spec.runtime = Some("nvidia".to_owned()));
    let node = container(|spec| spec.devices = vec![DeviceMapping::new("/dev/nvidia0")]);
    says(kfd(), &nvidia(), "by /dev/kfd, which cannot give it GPU-a");
    says(
        driver("nvidia"),
        &amd(),
        "by the driver 'nvidia', which cannot give it GPU-00c0ffee00c0ffee",
    );
    says(driver("amd"), &nvidia(), "by the driver 'amd', which cannot give it GPU-a");
    says(runtime, &amd(), "by NVIDIA_VISIBLE_DEVICES, which cannot give it GPU-00c0ffee00c0ffee");
    says(node, &nvidia(), "among its 'devices'");
    let nameless = [PlacedGpu::new(GpuId::new("somewhere"), GpuVendor::Declared, 1)];
    says(driver(""), &nameless, "somewhere has neither a UUID nor a number");
    says(container(|_| {}), &nvidia(), "asks for no GPU: the placement cannot be passed on");
}

#[test]
fn a_command_is_told_by_variables() {
    let command = |change: fn(&mut ContainerSpec)| {
        container(|spec| {
            spec.image = None;
            change(spec);
        })
    };
    let spec = passed(command(|_| {}), &nvidia());
    assert_eq!(value(&spec, CUDA), Some("GPU-a,GPU-b"));
    assert_eq!(value(&spec, ORDER), Some("PCI_BUS_ID"));
    assert_eq!(value(&spec, ROCR), None);
    let spec = passed(command(|_| {}), &amd());
    assert_eq!(value(&spec, ROCR), Some("GPU-00c0ffee00c0ffee"));
    assert_eq!((value(&spec, CUDA), value(&spec, ORDER)), (None, None));
    // The manifest's devices were a wish, and this is the answer.
    let wished = |spec: &mut ContainerSpec| {
        spec.gpus = vec![GpuDevices { device_ids: words(&["0"]), ..GpuDevices::default() }];
    };
    let spec = passed(command(wished), &[gpu("declared-1", GpuVendor::Declared, 1)]);
    assert_eq!((value(&spec, CUDA), spec.gpus.len()), (Some("1"), 0));
    // How it counts is its own affair, if it says so.
    let spec = passed(command(|spec| variable(spec, ORDER, "FASTEST_FIRST")), &nvidia());
    assert_eq!(value(&spec, ORDER), Some("FASTEST_FIRST"));
    let own = |spec: &mut ContainerSpec| variable(spec, CUDA, "GPU-b,GPU-a");
    assert_eq!(value(&passed(command(own), &nvidia()), CUDA), Some("GPU-b,GPU-a"));
}

#[test]
fn parts_that_ask_for_none_are_left_as_they_are() {
    let web = container(|spec| spec.gpus = vec![request("", Some(1), &[])]);
    let project = Project::new("p")
        .with_part("web", web)
        .with_part("db", ContainerSpec::new("p-db-1", "image"));
    let Placed { project: placed, notices } = project.placed_on(&nvidia());
    assert_eq!(notices, [""; 0]);
    assert_eq!(placed.parts["db"], project.parts["db"]);
    let spec = placed.parts["web"].resolved(|_| None).unwrap();
    assert_eq!(spec.labels[labels::PLACEMENT], "GPU-a=8192,GPU-b=8192");
    // Placed nowhere, it is what its files say.
    assert_eq!(placed.placed_on(&[]), Placed { project, notices: Vec::new() });
}

#[test]
fn the_label_tells_where_a_container_was_placed() {
    let of = |text: &str| {
        let mut container = ContainerInfo::new(ContainerId::new("1"), "p-web-1", "image");
        container.labels.insert(labels::PLACEMENT.to_owned(), text.to_owned());
        labels::placement_of(&container)
    };
    let mib = [("GPU-a", 8192), ("pci:0000:01:00.0", 0), ("x=y", u64::MAX)];
    let mib = mib.into_iter().map(|(id, mib)| (GpuId::new(id), mib)).collect();
    let placement = Placement { mib };
    let text = labels::placement(&placement);
    assert_eq!(text, "GPU-a=8192,pci:0000:01:00.0=0,x=y=18446744073709551615");
    assert_eq!(of(&text), Some(placement));
    for damaged in ["", "GPU-a", "GPU-a=", "=1", "GPU-a=-1", "GPU-a=1,", "GPU-a=1,b"] {
        assert_eq!(of(damaged), None, "{damaged}");
    }
    let bare = ContainerInfo::new(ContainerId::new("1"), "p-web-1", "image");
    assert_eq!(labels::placement_of(&bare), None);
}

#[test]
fn where_it_is_placed_is_no_change_of_its_files() {
    let web = container(|spec| spec.gpus = vec![request("", Some(1), &[])]);
    let mut project = Project::new("p")
        .with_part("db", ContainerSpec::new("p-db-1", "image"))
        .with_part("web", web);
    for part in project.parts.values_mut() {
        let hash = spec_hash(&part.spec);
        part.spec.labels.insert(labels::SPEC_HASH.to_owned(), hash);
    }
    for joins in [Vec::new(), vec![Join::new(Namespace::Network, "db")]] {
        project.parts.get_mut("web").unwrap().joins = joins;
        let db = ContainerId::new("db");
        let mut info = ContainerInfo::new(ContainerId::new("1"), "p-web-1", "image");
        let mut other = ContainerInfo::new(db.clone(), "p-db-1", "image");
        other.labels.clone_from(&project.parts["db"].spec.labels);
        let placed = project.placed_on(&nvidia()).project;
        info.labels = placed.parts["web"].resolved(|_| Some(&db)).unwrap().labels;
        for project in [&project, &placed, &project.placed_on(&amd()).project] {
            assert!(!has_drifted(project, &[&info, &other], &info));
        }
    }
}

#[test]
fn a_placement_becomes_gpus_as_far_as_they_are_known() {
    let reading = GpuReading {
        index: Some(3),
        cdi: Some("nvidia.com/gpu=3".to_owned()),
        ..GpuReading::new(GpuId::new("GPU-a"), GpuVendor::Nvidia)
    };
    let mib = [("GPU-a", 1), ("gone", 2)].map(|(id, mib)| (GpuId::new(id), mib));
    let gpus = PlacedGpu::of(&Placement { mib: mib.into() }, &[reading]);
    let [known, gone] = &gpus[..] else { panic!("{gpus:?}") };
    assert_eq!((known.index, known.mib, known.vendor), (Some(3), 1, GpuVendor::Nvidia));
    assert_eq!(known.cdi.as_deref(), Some("nvidia.com/gpu=3"));
    assert_eq!(*gone, PlacedGpu::new(GpuId::new("gone"), GpuVendor::Declared, 2));
}
