//! How much of the machine a process may use.

use std::fs;
use std::path::PathBuf;

use nanny_lib::ContainerId;
use nanny_lib::backend::{ContainerBackend as _, ContainerSpec, ErrorKind, Ulimit};

use crate::house::{House, kill, leaders, not_tested, shims, spec};

/// Creates it, unless no control groups can be made here.
async fn created(house: &House, spec: &ContainerSpec) -> Option<ContainerId> {
    match house.backend.create(spec).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            not_tested(&error.to_string());
            None
        }
        created => Some(created.unwrap()),
    }
}

pub(crate) async fn too_much_memory_ends_it_and_that_is_told() {
    let house = House::new();
    let mut wanted = spec("a", "head -c 200000000 /dev/zero | tail -n 1");
    wanted.limits.memory = 16 << 20;
    let Some(id) = created(&house, &wanted).await else { return };
    for _ in 0..2 {
        house.backend.start(&id).await.unwrap();
        let exit = house.ended(&id).await.exit.unwrap();
        assert_eq!((exit.code, exit.out_of_memory), (Some(137), true));
    }
    // One that ends for another reason does not blame it on memory.
    let mut wanted = spec("b", "kill -9 $$");
    wanted.limits.memory = 16 << 20;
    let id = house.backend.create(&wanted).await.unwrap();
    house.backend.start(&id).await.unwrap();
    let exit = house.ended(&id).await.exit.unwrap();
    assert_eq!((exit.code, exit.out_of_memory), (Some(137), false));
}

pub(crate) async fn a_limit_on_memory_holds_for_swap_too() {
    let house = House::new();
    let mut wanted = spec("a", "while :; do sleep 0.1; done");
    wanted.limits.memory = 16 << 20;
    let Some(id) = created(&house, &wanted).await else { return };
    house.backend.start(&id).await.unwrap();
    let read = |path: &str| {
        let path = path.replace("ID", id.as_str());
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let limit = (16 << 20).to_string();
    let both = read("/sys/fs/cgroup/memory/nanny/ID/memory.memsw.limit_in_bytes");
    let swap = read("/sys/fs/cgroup/nanny/ID/memory.swap.max");
    match (both, swap) {
        (None, None) => not_tested("this kernel keeps no account of swap"),
        (both, swap) => {
            assert_eq!(both.unwrap_or_else(|| limit.clone()), limit);
            assert_eq!(swap.unwrap_or_else(|| "0".to_owned()), "0");
        }
    }
    house.backend.kill(&id).await.unwrap();
}

pub(crate) async fn other_limits_are_kept() {
    let house = House::new();
    let script = "ulimit -n; cat /proc/self/oom_score_adj; \
                  for n in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait";
    let mut wanted = spec("a", script);
    wanted.ulimits = vec![Ulimit::new("nofile", 77, 99)];
    wanted.limits.pids = Some(5);
    wanted.limits.oom_score_adj = 123;
    wanted.limits.nano_cpus = 500_000_000;
    let Some(id) = created(&house, &wanted).await else { return };
    house.backend.start(&id).await.unwrap();
    house.logged(&id, |line| line.contains("fork")).await;
    house.logged(&id, |line| line == "123").await;
    // The complaints go to the other stream.
    let mut log = house.log(&id).await;
    log.retain(|line| !line.contains("fork"));
    assert_eq!(log, ["77", "123"]);
    house.backend.kill(&id).await.unwrap();
}

pub(crate) async fn a_shim_that_is_killed_leaves_no_control_group() {
    let house = House::new();
    let mut wanted = spec("a", "while :; do sleep 0.1; done");
    wanted.limits.pids = Some(50);
    let Some(id) = created(&house, &wanted).await else { return };
    let groups = || -> Vec<PathBuf> {
        let places = ["/sys/fs/cgroup/nanny", "/sys/fs/cgroup/pids/nanny"];
        let paths = places.map(|place| PathBuf::from(place).join(id.as_str()));
        paths.into_iter().filter(|path| path.exists()).collect()
    };
    for sees_the_end in [true, false] {
        house.starts(&id).await;
        assert_eq!(groups().len(), 1);
        kill(shims(&id)).await;
        if sees_the_end {
            kill(leaders(&id)).await;
            house.ended(&id).await;
        } else {
            house.backend.remove(&id).await.unwrap();
        }
        assert_eq!(groups(), Vec::<PathBuf>::new());
    }
}
