use super::*;

fn plain() -> ContainerSpec {
    let command = Some(vec!["true".to_owned()]);
    ContainerSpec { name: "a".to_owned(), command, ..ContainerSpec::default() }
}

fn refused(change: impl FnOnce(&mut ContainerSpec)) -> (ErrorKind, String) {
    let mut spec = plain();
    change(&mut spec);
    let error = to_saved(&spec, 1).unwrap_err();
    (error.kind(), error.message().to_owned())
}

fn gpus(device_ids: &[&str]) -> Vec<GpuDevices> {
    let device_ids = device_ids.iter().map(|id| (*id).to_owned()).collect();
    vec![GpuDevices { device_ids, ..GpuDevices::default() }]
}

fn set(spec: &mut ContainerSpec, name: &str, value: &str) {
    spec.environment.0.insert(name.to_owned(), Some(value.to_owned()));
}

#[test]
fn what_a_process_cannot_have_is_named() {
    for (named, change) in [
        ("image", (|spec| spec.image = Some("x".to_owned())) as fn(&mut ContainerSpec)),
        ("user", |spec| spec.user = Some("1".to_owned())),
        ("tty", |spec| spec.tty = true),
        ("restart", |spec| spec.restart = Some(RestartPolicy::Always)),
        ("network_mode", |spec| spec.network_mode = Some("none".to_owned())),
        ("cpu_shares", |spec| spec.limits.cpu_shares = 5),
        ("the ulimit x", |spec| spec.ulimits.push(Ulimit::new("x", 1, 1))),
    ] {
        let expected = format!("a plain process cannot have '{named}'");
        assert_eq!(refused(change), (ErrorKind::Unsupported, expected));
    }
}

#[test]
fn what_every_process_has_may_be_asked_for() {
    let mut spec = plain();
    spec.network_mode = Some("host".to_owned());
    spec.namespaces.pid = Some("host".to_owned());
    spec.restart = Some(RestartPolicy::No);
    spec.expose = vec!["80".to_owned()];
    to_saved(&spec, 1).unwrap();
}

#[test]
fn what_makes_no_sense_is_invalid() {
    for change in [
        (|spec| spec.name = String::new()) as fn(&mut ContainerSpec),
        |spec| spec.name = "a/b".to_owned(),
        |spec| spec.command = None,
        |spec| spec.command = Some(Vec::new()),
        |spec| spec.working_dir = Some("here".to_owned()),
        |spec| spec.stop_signal = Some("SIGNAL".to_owned()),
        |spec| set(spec, "A=B", "c"),
        |spec| set(spec, MARK, "c"),
    ] {
        assert_eq!(refused(change).0, ErrorKind::Invalid);
    }
}

#[test]
fn gpus_are_chosen_by_a_variable() {
    let mut spec = plain();
    spec.gpus = gpus(&["GPU-1", "GPU-2"]);
    let saved = to_saved(&spec, 1).unwrap();
    assert!(saved.names_gpus);
    assert_eq!(saved.environment.0[CHOICE].as_deref(), Some("GPU-1,GPU-2"));
    spec.gpus = vec![GpuDevices { count: Some(-1), ..GpuDevices::default() }];
    let saved = to_saved(&spec, 1).unwrap();
    assert!(saved.names_gpus);
    assert_eq!(saved.environment.0[CHOICE], None);
    spec.gpus[0].count = Some(1);
    assert_eq!(to_saved(&spec, 1).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn gpus_by_number_are_counted_as_everybody_counts_them() {
    let order = |ids: &[&str], own: Option<&str>| {
        let mut spec = plain();
        spec.gpus = gpus(ids);
        if let Some(own) = own {
            set(&mut spec, ORDER, own);
        }
        to_saved(&spec, 1).unwrap().environment.0.remove(ORDER).flatten()
    };
    assert_eq!(order(&["GPU-1"], None), None);
    assert_eq!(order(&["GPU-1", "0"], None).as_deref(), Some("PCI_BUS_ID"));
    assert_eq!(order(&["1"], Some("FASTEST_FIRST")).as_deref(), Some("FASTEST_FIRST"));
}

#[test]
fn a_gpu_by_address_is_refused_for_it_would_hide_all() {
    let (kind, message) = refused(|spec| spec.gpus = gpus(&["GPU-1", "0000:01:00.0"]));
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(message.contains("name an index or a UUID"), "{message}");
}

#[test]
fn a_choice_of_gpus_is_never_overridden_in_silence() {
    for name in CHOICES {
        let (kind, message) = refused(|spec| {
            spec.gpus = gpus(&["GPU-1"]);
            set(spec, name, "hunter2");
        });
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(message.contains(name) && !message.contains("hunter2"), "{message}");
    }
}
