//! What the traits cannot ask for, and an engine does all the same.

use std::pin::Pin;
use std::time::Duration;

use bollard::Docker;
use libtest_mimic::{Failed, Trial};
use nanny_backend_docker::{DockerBackend, DockerConfig};
use nanny_lib::backend::{
    ContainerBackend as _, ContainerSpec, ContainerState, DeviceMapping, ErrorKind, EventKind,
    GpuDevices, Healthcheck, HealthcheckTest, LogOptions, Mount, MountKind, PortMapping, Selector,
    Ulimit, VolumeSpec,
};
use nanny_lib::gpu::GpuVendor;
use nanny_lib::project::{PlacedGpu, labels};
use nanny_lib::{ContainerId, GpuId};
use nanny_testkit::placing::placed;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Run = fn(Bench) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Our backend, the client beside it, and a name that nobody else uses.
#[derive(Clone)]
struct Bench {
    docker: DockerBackend,
    client: Docker,
    name: String,
}

const GRACE: Option<Duration> = Some(Duration::from_secs(1));

pub(crate) fn trials(config: &DockerConfig, docker: &DockerBackend) -> Vec<Trial> {
    let cases: [(&str, Run); 8] = [
        ("everything_in_a_spec_reaches_the_engine", |b| Box::pin(everything(b))),
        ("a_paused_container_can_be_stopped_killed_and_removed", |b| Box::pin(paused(b))),
        ("a_restarting_container_can_be_stopped_and_killed", |b| Box::pin(restarting(b))),
        ("health_and_pauses_are_told_as_changes", |b| Box::pin(changes(b))),
        ("b1_an_outage_is_survived_and_nothing_is_missed", |b| Box::pin(outage(b))),
        ("a_mount_whose_source_is_missing_is_refused", |b| Box::pin(missing_source(b))),
        ("gpus_that_a_service_was_placed_on_reach_the_engine", |b| Box::pin(placed_gpus(b))),
        ("a_changed_restart_policy_is_seen_at_the_next_inspect", |b| Box::pin(updated(b))),
    ];
    let trial = |(name, run): (&'static str, Run)| {
        let (config, docker) = (config.clone(), docker.clone());
        Trial::test(format!("docker::{name}"), move || {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(async {
                let name = format!(
                    "nanny-conf-{}-{}",
                    std::process::id(),
                    name.split('_').take(2).collect::<String>()
                );
                let client = Docker::connect_with_host(&config.host)?;
                let bench = Bench { docker, client, name };
                let ran = run(bench.clone()).await;
                bench.clean_up().await;
                ran.map_err(|error| Failed::from(error.to_string()))
            })
        })
    };
    cases.into_iter().map(trial).collect()
}

impl Bench {
    fn spec(&self, script: &str) -> ContainerSpec {
        let mut spec = ContainerSpec::new(&self.name, super::IMAGE);
        spec.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        spec
    }

    async fn started(&self, script: &str) -> Result<ContainerId, Box<dyn std::error::Error>> {
        let id = self.docker.create(&self.spec(script)).await?;
        self.docker.start(&id).await?;
        Ok(id)
    }

    async fn state(&self, id: &ContainerId) -> Result<ContainerState, Box<dyn std::error::Error>> {
        Ok(self.docker.inspect(id).await?.state)
    }

    async fn clean_up(&self) {
        for info in self.docker.list(&Selector::All).await.unwrap_or_default() {
            if info.name == self.name {
                drop(self.docker.remove(&info.id).await);
            }
        }
        let options = None::<bollard::query_parameters::RemoveVolumeOptions>;
        drop(self.client.remove_volume(&self.name, options).await);
    }
}

async fn everything(bench: Bench) -> Outcome {
    let folder = tempfile::tempdir()?;
    let made = folder.path().join("made/by/engine");
    let volume = VolumeSpec { name: bench.name.clone(), ..VolumeSpec::default() };
    bench.docker.volumes().ok_or("no volumes")?.create(&volume).await?;

    let mut spec = bench.spec(
        "cat /proc/self/limits | grep 'open files'; ls -d /made /vol /tmpfs /anon /ro; \
         df /scratch | tail -1; cat /proc/sys/net/core/somaxconn /etc/resolv.conf \
         /sys/class/net/eth0/address; \
         touch /ro/x 2>/dev/null || echo read-only; df /dev/shm | tail -1; hostname; pwd; id -u; \
         ls /dev/null2; sleep 20",
    );
    let bind =
        |source: &std::path::Path, create| MountKind::bind(source.display().to_string(), create);
    let mut read_only = Mount::new("/ro", bind(folder.path(), false));
    read_only.read_only = true;
    let fresh = MountKind::Volume { name: bench.name.clone(), no_copy: true, subpath: None };
    spec.mounts = vec![
        Mount::new("/made", bind(&made, true)),
        read_only,
        Mount::new("/vol", fresh),
        Mount::new("/tmpfs", MountKind::Tmpfs { size: Some(1 << 20), mode: None }),
        Mount::new("/anon", MountKind::Anonymous),
    ];
    let mut device = DeviceMapping::new("/dev/null");
    "/dev/null2".clone_into(&mut device.container);
    spec.devices = vec![device];
    spec.ports = vec![PortMapping::new(8000)];
    spec.expose = vec!["9000/udp".to_owned()];
    spec.ulimits = vec![Ulimit::new("nofile", 100, 200)];
    spec.shm_size = Some(32 << 20);
    spec.hostname = Some("inside".to_owned());
    spec.working_dir = Some("/tmp".to_owned());
    spec.user = Some("65534".to_owned());
    spec.cap_add = vec!["sys_nice".to_owned()];
    spec.security_opt = vec!["seccomp:unconfined".to_owned()];
    spec.group_add = vec!["44".to_owned()];
    spec.extra_hosts = vec!["other:10.0.0.1".to_owned()];
    spec.stop_signal = Some("SIGINT".to_owned());
    spec.stop_grace = Some(Duration::from_secs(2));
    let mut check = Healthcheck::new(HealthcheckTest::Command(vec!["true".to_owned()]));
    check.interval = Some(Duration::from_secs(60));
    spec.healthcheck = Some(check);
    spec.tmpfs.insert("/scratch".to_owned(), "size=64k".to_owned());
    spec.sysctls.insert("net.core.somaxconn".to_owned(), "1234".to_owned());
    spec.limits.memory = 64 << 20;
    spec.limits.pids = Some(50);
    spec.dns.search = vec!["nanny.example".to_owned()];
    // Whether the engine is old or new, it comes another way.
    spec.mac_address = Some("02:42:ac:11:65:43".to_owned());

    let id = bench.docker.create(&spec).await?;
    bench.docker.start(&id).await?;
    assert!(made.is_dir(), "the engine did not make the source of a mount");
    let seen = bench.client.inspect_container(id.as_str(), None).await?;
    let host = seen.host_config.ok_or("no host config")?;
    assert_eq!(host.cap_add, Some(vec!["CAP_SYS_NICE".to_owned()]));
    assert_eq!(host.security_opt, Some(vec!["seccomp:unconfined".to_owned()]));
    assert_eq!(host.extra_hosts, Some(vec!["other:10.0.0.1".to_owned()]));
    assert_eq!(host.device_requests, None);
    assert_eq!((host.memory, host.pids_limit), (Some(64 << 20), Some(50)));
    let config = seen.config.ok_or("no config")?;
    assert_eq!((config.stop_signal.as_deref(), config.stop_timeout), (Some("SIGINT"), Some(2)));
    let ports = seen.network_settings.and_then(|n| n.ports).ok_or("no ports")?;
    assert!(ports.get("8000/tcp").is_some_and(Option::is_some), "{ports:?}");
    assert!(ports.get("9000/udp").is_some_and(Option::is_none), "{ports:?}");

    let log = read(&bench, &id).await?;
    for expected in [
        "100",
        "200",
        "/made",
        "/vol",
        "/tmpfs",
        "/anon",
        "read-only",
        "32768",
        "inside",
        "/tmp",
        "65534",
        "/dev/null2",
        "/scratch",
        "1234",
        "search nanny.example",
        "02:42:ac:11:65:43",
    ] {
        assert!(log.contains(expected), "{expected:?} is not in:\n{log}");
    }
    Ok(())
}

async fn read(bench: &Bench, id: &ContainerId) -> Result<String, Box<dyn std::error::Error>> {
    use futures_util::TryStreamExt as _;
    let lines: Vec<_> = bench.docker.logs(id, LogOptions::default().follow()).try_collect().await?;
    Ok(lines.iter().map(|line| String::from_utf8_lossy(&line.bytes) + "\n").collect())
}

async fn paused(bench: Bench) -> Outcome {
    let id = bench.started("trap 'exit 0' TERM; sleep 3600 & wait").await?;
    bench.client.pause_container(id.as_str()).await?;
    assert_eq!(bench.state(&id).await?, ContainerState::Paused);
    bench.docker.stop(&id, GRACE).await?;
    assert_eq!(bench.state(&id).await?, ContainerState::Exited);

    bench.docker.start(&id).await?;
    bench.client.pause_container(id.as_str()).await?;
    bench.docker.kill(&id).await?;
    assert_eq!(bench.state(&id).await?, ContainerState::Exited);

    bench.docker.start(&id).await?;
    bench.client.pause_container(id.as_str()).await?;
    bench.docker.remove(&id).await?;
    Ok(())
}

async fn restarting(bench: Bench) -> Outcome {
    let mut spec = bench.spec("exit 1");
    spec.restart = Some(nanny_lib::backend::RestartPolicy::Always);
    let id = bench.docker.create(&spec).await?;
    for kill in [false, true] {
        bench.docker.start(&id).await?;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        if kill {
            bench.docker.kill(&id).await?;
        } else {
            bench.docker.stop(&id, GRACE).await?;
        }
        // A run that began beside it may have to end first.
        let ended = async {
            while bench.state(&id).await? != ContainerState::Exited {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Outcome::Ok(())
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await??;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(bench.state(&id).await?, ContainerState::Exited);
    }
    Ok(())
}

async fn changes(bench: Bench) -> Outcome {
    use futures_util::StreamExt as _;
    let mut events = bench.docker.watch();
    assert_eq!(events.next().await.ok_or("ended")?.kind, EventKind::Resync);
    let mut spec = bench.spec("trap 'exit 0' TERM; sleep 3600 & wait");
    let mut check = Healthcheck::new(HealthcheckTest::Shell("true".to_owned()));
    check.interval = Some(Duration::from_secs(1));
    spec.healthcheck = Some(check);
    let id = bench.docker.create(&spec).await?;
    bench.docker.start(&id).await?;
    for pause in [false, true] {
        if pause {
            bench.client.pause_container(id.as_str()).await?;
        }
        let changed = async {
            while let Some(event) = events.next().await {
                if event.kind == EventKind::Changed && event.container.as_ref() == Some(&id) {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), changed).await?;
    }
    Ok(())
}

/// A socket that leads to the engine, until it is cut.
struct Wire {
    path: std::path::PathBuf,
    tasks: JoinSet<()>,
}

impl Wire {
    fn new(path: std::path::PathBuf) -> Self {
        Self { path, tasks: JoinSet::new() }
    }

    fn mend(&mut self, engine: String) -> std::io::Result<()> {
        let listener = UnixListener::bind(&self.path)?;
        self.tasks.spawn(async move {
            let mut wires = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let engine = engine.clone();
                wires.spawn(async move {
                    if let Ok(mut far) = UnixStream::connect(engine).await {
                        drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
                    }
                });
            }
        });
        Ok(())
    }

    async fn cut(&mut self) -> std::io::Result<()> {
        self.tasks.shutdown().await;
        std::fs::remove_file(&self.path)
    }
}

async fn outage(bench: Bench) -> Outcome {
    use futures_util::StreamExt as _;
    let endpoint = bench.docker.info().endpoint.clone();
    let Some(engine) = endpoint.strip_prefix("unix://").map(str::to_owned) else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let mut wire = Wire::new(folder.path().join("wire.sock"));
    wire.mend(engine.clone())?;
    let config = DockerConfig::new(format!("unix://{}", wire.path.display()));
    let remote = DockerBackend::new(config)?;
    let mut events = remote.watch();
    assert_eq!(events.next().await.ok_or("ended")?.kind, EventKind::Resync);
    let id = bench.started("trap 'exit 7' TERM; echo ready; sleep 3600 & wait").await?;
    // Before its `trap` it does not hear.
    let ready = bench.docker.logs(&id, LogOptions::default().follow()).next().await;
    ready.ok_or("it says nothing")??;
    while events.next().await.ok_or("ended")?.kind != EventKind::Started {}

    wire.cut().await?;
    let error = remote.list(&Selector::All).await.err().ok_or("a list through a cut wire")?;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    bench.docker.stop(&id, Some(Duration::from_secs(30))).await?;
    wire.mend(engine)?;

    let told = async {
        let mut resynced = false;
        while let Some(event) = events.next().await {
            resynced |= event.kind == EventKind::Resync;
            if matches!(event.kind, EventKind::Exited(_)) && event.container.as_ref() == Some(&id) {
                return resynced;
            }
        }
        false
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(60), told).await?,
        "no Resync before the exit"
    );
    let listed = remote.list(&Selector::All).await?;
    let info = listed.into_iter().find(|info| info.id == id).ok_or("not listed")?;
    assert_eq!(
        (info.state, info.exit.and_then(|exit| exit.code)),
        (ContainerState::Exited, Some(7))
    );
    Ok(())
}

async fn missing_source(bench: Bench) -> Outcome {
    let mut spec = bench.spec("true");
    let kind = MountKind::bind("/nonexistent/nanny", false);
    spec.mounts = vec![Mount::new("/x", kind)];
    let error = bench.docker.create(&spec).await.err().ok_or("it was created")?;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("/nonexistent/nanny"), "{error}");
    Ok(())
}

async fn updated(bench: Bench) -> Outcome {
    let id = bench.started("trap 'exit 0' TERM; sleep 3600 & wait").await?;
    let policy = bollard::models::RestartPolicy {
        name: Some(bollard::models::RestartPolicyNameEnum::UNLESS_STOPPED),
        maximum_retry_count: None,
    };
    let update = bollard::models::ContainerUpdateBody {
        restart_policy: Some(policy),
        ..bollard::models::ContainerUpdateBody::default()
    };
    bench.client.update_container(id.as_str(), update).await?;
    let restart = bench.docker.inspect(&id).await?.restart;
    assert_eq!(restart, nanny_lib::backend::RestartPolicy::UnlessStopped);
    Ok(())
}

async fn placed_gpus(bench: Bench) -> Outcome {
    let gpus = ["GPU-nanny-a", "GPU-nanny-b"]
        .map(|id| PlacedGpu::new(GpuId::new(id), GpuVendor::Nvidia, 8192));
    // As a file says it that knows nothing of placements.
    let mut wanted = bench.spec("sleep 100");
    wanted.gpus = vec![GpuDevices {
        count: Some(-1),
        capabilities: vec!["gpu".to_owned()],
        ..GpuDevices::default()
    }];
    let id = bench.docker.create(&placed(wanted, &gpus)).await?;
    let options = None::<bollard::query_parameters::InspectContainerOptions>;
    let told = bench.client.inspect_container(id.as_str(), options).await?;
    let requests = told.host_config.and_then(|host| host.device_requests).unwrap_or_default();
    let [request] = &requests[..] else { return Err(format!("{requests:?}").into()) };
    let ids = gpus.each_ref().map(|gpu| gpu.id.to_string());
    assert_eq!(request.device_ids.as_deref(), Some(&ids[..]));
    assert_eq!(request.count.unwrap_or_default(), 0);
    assert_eq!(request.capabilities, Some(vec![vec!["gpu".to_owned()]]));
    let info = bench.docker.inspect(&id).await?;
    assert!(info.uses_gpu);
    assert_eq!(info.gpus, gpus.each_ref().map(|gpu| gpu.id.clone()));
    let placement = labels::placement_of(&info).ok_or("it says nothing of its placement")?;
    assert!(placement.devices().eq(info.gpus.iter()));
    // Nobody has a GPU of that name: it must not run without.
    let error = bench.docker.start(&id).await.expect_err("there is no such GPU");
    assert!(!bench.docker.inspect(&id).await?.state.holds());
    // Most machines that run this have no driver at all.
    if !std::path::Path::new("/proc/driver/nvidia").exists() {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.message().contains("could not select device driver"), "{error}");
    }
    Ok(())
}
