//! Where Podman has words and ways of its own, and what the traits cannot ask for.

use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use libtest_mimic::{Failed, Trial};
use nanny_backend_podman::{PodmanBackend, PodmanConfig};
use nanny_lib::backend::{
    BuildSpec, ContainerBackend as _, ContainerInfo, ContainerSpec, ContainerState, DeviceMapping,
    EngineHealth, ErrorKind, GpuDevices, Healthcheck, HealthcheckTest, LogOptions, Mount,
    MountKind, NetworkAttachment, NetworkSpec, PortMapping, Selector, Ulimit, VolumeSpec,
};
use nanny_lib::gpu::GpuVendor;
use nanny_lib::project::{PlacedGpu, labels};
use nanny_lib::{ContainerId, GpuId};
use nanny_testkit::placing::placed;
use serde_json::json;

use super::cli;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
type Run = fn(Bench) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Our backend, the command line beside it, and a name that nobody else uses.
#[derive(Clone)]
struct Bench {
    podman: PodmanBackend,
    config: PodmanConfig,
    name: String,
}

const GRACE: Option<Duration> = Some(Duration::from_secs(1));
/// A bound on waiting, and no measure.
const SOON: Duration = Duration::from_secs(30);

pub(crate) fn trials(config: &PodmanConfig, podman: &PodmanBackend) -> Vec<Trial> {
    let cases: [(&str, Run); _] = [
        ("everything_in_a_spec_reaches_the_engine", |b| Box::pin(everything(b))),
        ("what_podman_has_not_is_refused_by_name", |b| Box::pin(refusals(b))),
        ("b18_a_mount_whose_source_cannot_be_made_is_named", |b| Box::pin(no_source(b))),
        ("b11_a_stop_on_its_way_shows_and_a_start_then_is_a_conflict", |b| Box::pin(stopping(b))),
        ("a_paused_container_can_be_stopped_killed_and_removed", |b| Box::pin(paused(b))),
        ("a_health_check_goes_up_and_down_without_systemd", |b| Box::pin(health(b))),
        ("a_new_run_is_unhealthy_by_its_own_failures_alone", |b| Box::pin(failing_anew(b))),
        ("a_check_of_the_images_own_is_taken_with_what_it_leaves_open", |b| {
            Box::pin(images_check(b))
        }),
        ("an_unknown_cdi_name_fails_the_start_and_is_kept", |b| Box::pin(unknown_cdi(b))),
        ("a_known_cdi_name_brings_its_devices", |b| Box::pin(known_cdi(b))),
        ("a_service_gets_the_gpus_it_was_placed_on_and_no_others", |b| Box::pin(placed_gpus(b))),
        ("gpu_containers_of_other_hands_are_told", |b| Box::pin(other_hands(b))),
        ("images_have_the_names_that_podman_gives_them", |b| Box::pin(names(b))),
        ("a_line_in_pieces_is_one_line_in_any_tail", |b| Box::pin(pieces(b))),
        ("a_build_has_the_network_that_it_asks_for", |b| Box::pin(builds(b))),
        ("the_hosts_address_is_that_of_the_containers_network", |b| Box::pin(gateway(b))),
        ("an_image_for_another_platform_is_not_taken", |b| Box::pin(platform(b))),
        ("whose_namespaces_are_joined_is_not_started_along_nor_removed", |b| Box::pin(joined(b))),
    ];
    let trial = |(number, (name, run)): (usize, (&'static str, Run))| {
        let (config, podman) = (config.clone(), podman.clone());
        Trial::test(format!("podman::{name}"), move || {
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(async {
                let name = format!("nanny-conf-{}-podman{number:02}", std::process::id());
                let bench = Bench { podman, config, name };
                let ran = tokio::time::timeout(SOON * 6, run(bench.clone())).await;
                bench.clean_up().await;
                match ran {
                    Ok(ran) => ran.map_err(|error| Failed::from(error.to_string())),
                    Err(_) => Err("took too long".into()),
                }
            })
        })
    };
    cases.into_iter().enumerate().map(trial).collect()
}

impl Bench {
    fn spec(&self, script: &str) -> ContainerSpec {
        let mut spec = ContainerSpec::new(&self.name, super::IMAGE);
        spec.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        spec
    }

    async fn start_spec(&self, spec: &ContainerSpec) -> Outcome<ContainerId> {
        let id = self.podman.create(spec).await?;
        self.podman.start(&id).await?;
        Ok(id)
    }

    async fn started(&self, script: &str) -> Outcome<ContainerId> {
        self.start_spec(&self.spec(script)).await
    }

    async fn until(
        &self,
        id: &ContainerId,
        is_so: impl Fn(&ContainerInfo) -> bool,
    ) -> Outcome<ContainerInfo> {
        for _ in 0..400 {
            match self.podman.inspect(id).await {
                Ok(info) if is_so(&info) => return Ok(info),
                // Podman has it in hand.
                Err(error) if error.kind() == ErrorKind::Timeout => {}
                looked => drop(looked?),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("it never was so: {:?}", self.podman.inspect(id).await).into())
    }

    /// Runs `podman` by hand.
    async fn by_hand(&self, arguments: &[&str]) -> Outcome<String> {
        Ok(cli::podman(&self.config, arguments).await?)
    }

    async fn log(&self, id: &ContainerId, options: LogOptions) -> Outcome<String> {
        let lines: Vec<_> = self.podman.logs(id, options).try_collect().await?;
        let texts = lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned());
        Ok(texts.collect::<Vec<_>>().join("\n"))
    }

    async fn clean_up(&self) {
        for info in self.podman.list(&Selector::All).await.unwrap_or_default() {
            if info.name.starts_with(&self.name) {
                drop(self.podman.remove(&info.id).await);
            }
        }
        cli::remove_images_and_volumes(&self.config, &self.name).await;
    }
}

async fn everything(bench: Bench) -> Outcome {
    let folder = tempfile::tempdir()?;
    let made = folder.path().join("made/by/us");
    let volume = VolumeSpec { name: bench.name.clone(), ..VolumeSpec::default() };
    bench.podman.volumes().ok_or("no volumes")?.create(&volume).await?;

    let mut spec = bench.spec(
        "grep 'open files' /proc/self/limits; ls -d /made /vol /tmpfs /anon /ro; \
         grep -E ' (/scratch|/tmpfs|/dev/shm) ' /proc/mounts; cat /proc/sys/net/core/somaxconn \
         /etc/resolv.conf /etc/hosts /sys/class/net/eth0/address; \
         touch /ro/x 2>/dev/null || echo read-only; hostname; pwd; id -u; id -G; \
         ls /dev/null2; grep NoNewPrivs /proc/self/status; grep -w Seccomp /proc/self/status; \
         echo \"given=$GIVEN taken=$PATH\"; sleep 1",
    );
    let bind = |source: &Path, create| MountKind::bind(source.display().to_string(), create);
    let mut read_only = Mount::new("/ro", bind(folder.path(), false));
    read_only.read_only = true;
    let fresh = MountKind::Volume { name: bench.name.clone(), no_copy: true, subpath: None };
    spec.mounts = vec![
        Mount::new("/made", bind(&made, true)),
        read_only,
        Mount::new("/vol", fresh),
        Mount::new("/anon", MountKind::Anonymous),
        Mount::new("/tmpfs", MountKind::Tmpfs { size: Some(1 << 20), mode: Some(0o700) }),
    ];
    spec.tmpfs = [("/scratch".to_owned(), "size=2m".to_owned())].into();
    spec.ulimits = vec![Ulimit::new("nofile", 600, 700)];
    spec.sysctls = [("net.core.somaxconn".to_owned(), "1024".to_owned())].into();
    spec.dns.servers = vec!["9.9.9.9".to_owned()];
    spec.dns.search = vec!["example.test".to_owned()];
    spec.extra_hosts = vec!["far:1.2.3.4".to_owned(), "gate:host-gateway".to_owned()];
    spec.mac_address = Some("02:42:ac:11:65:43".to_owned());
    spec.shm_size = Some(3 << 20);
    spec.hostname = Some("somebody".to_owned());
    spec.working_dir = Some("/tmpfs".to_owned());
    spec.user = Some("0:0".to_owned());
    spec.group_add = vec!["4242".to_owned()];
    spec.devices = vec![DeviceMapping {
        host: "/dev/null".to_owned(),
        container: "/dev/null2".to_owned(),
        permissions: "rw".to_owned(),
    }];
    spec.security_opt = vec!["seccomp=unconfined".to_owned(), "no-new-privileges:true".to_owned()];
    spec.environment.0.insert("GIVEN".to_owned(), Some("a b".to_owned()));
    spec.environment.0.insert("PATH".to_owned(), Some("/bin:/elsewhere".to_owned()));
    spec.stop_signal = Some("SIGINT".to_owned());
    spec.stop_grace = Some(Duration::from_secs(3));
    spec.limits.memory = 64 << 20;
    spec.limits.nano_cpus = 500_000_000;
    spec.limits.pids = Some(99);
    spec.cap_add = vec!["sys_nice".to_owned()];
    spec.cap_drop = vec!["MKNOD".to_owned()];
    spec.init = Some(true);
    spec.expose = vec!["9000-9001".to_owned()];
    spec.ports = vec![PortMapping::new(8000)];
    spec.logging = Some(nanny_lib::backend::Logging {
        driver: Some("json-file".to_owned()),
        options: [("max-size", "1m"), ("max-file", "3")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    });
    let id = bench.start_spec(&spec).await?;
    let info = bench.until(&id, |info| !info.state.holds()).await?;
    assert!(info.volumes.contains_key("/anon"), "{info:?}");
    assert_eq!(info.volumes.get("/vol"), Some(&bench.name));

    let log = bench.log(&id, LogOptions::default()).await?;
    for wanted in [
        "600 700",
        "/made",
        "/vol",
        "/anon",
        "/ro",
        "size=2048k",
        "size=3072k",
        "1024",
        "9.9.9.9",
        "example.test",
        "1.2.3.4\tfar",
        "02:42:ac:11:65:43",
        "read-only",
        "somebody",
        "/tmpfs",
        "4242",
        "/dev/null2",
        "given=a b taken=/bin:/elsewhere",
    ] {
        let (log, wanted) = (squeezed(&log), squeezed(wanted));
        assert!(log.contains(&wanted), "no {wanted:?} in {log}");
    }
    let gateway = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        address.is_some() && words.next() == Some("gate")
    };
    assert!(log.lines().any(gateway), "{log}");
    for tmpfs in [" /tmpfs tmpfs ", " /scratch tmpfs "] {
        let runs_nothing = |line: &str| line.contains(tmpfs) && line.contains("noexec");
        assert!(log.lines().any(runs_nothing), "{log}");
    }
    assert!(log.contains("NoNewPrivs:\t1") && log.contains("Seccomp:\t0"), "{log}");
    assert!(made.is_dir(), "the source of a bind mount was not made");

    let format = "{{.Config.StopSignal}} {{.Config.StopTimeout}} {{.HostConfig.Memory}} \
                  {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.LogConfig.Type}} \
                  {{.HostConfig.LogConfig.Size}} {{.EffectiveCaps}} {{.Path}}";
    let told = bench.by_hand(&["inspect", "--format", format, id.as_str()]).await?;
    assert!(told.starts_with("2 3 67108864 500000000 99 k8s-file 3.1"), "{told}");
    assert!(told.contains("CAP_SYS_NICE") && !told.contains("CAP_MKNOD"), "{told}");
    Ok(())
}

/// With one space where there are several, or tabs.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn refusals(bench: Bench) -> Outcome {
    let refused = async |word: &str, change: &(dyn Fn(&mut ContainerSpec) + Sync)| {
        let mut spec = bench.spec("sleep 1");
        change(&mut spec);
        match bench.podman.create(&spec).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                assert!(error.message().contains(word), "{error} does not name {word}");
                Ok(())
            }
            other => Err(format!("{word}: {other:?}")),
        }
    };
    refused("domainname", &|spec| spec.domainname = Some("d".to_owned())).await?;
    refused("links", &|spec| spec.links = vec!["a:b".to_owned()]).await?;
    refused("runtime", &|spec| spec.runtime = Some("nvidia".to_owned())).await?;
    refused("host-gateway", &|spec| {
        spec.network_mode = Some("none".to_owned());
        spec.extra_hosts = vec!["gate:host-gateway".to_owned()];
    })
    .await?;
    refused("seccomp", &|spec| spec.security_opt = vec!["seccomp={}".to_owned()]).await?;
    refused("syslog", &|spec| {
        let driver = Some("syslog".to_owned());
        spec.logging = Some(nanny_lib::backend::Logging { driver, ..Default::default() });
    })
    .await?;
    // Nothing is left behind.
    let all = bench.podman.list(&Selector::All).await?;
    assert!(all.iter().all(|info| info.name != bench.name), "{all:?}");
    Ok(())
}

async fn no_source(bench: Bench) -> Outcome {
    let mut spec = bench.spec("true");
    spec.mounts = vec![Mount::new("/x", MountKind::bind("/etc/passwd/nothing", true))];
    let error = bench.podman.create(&spec).await.err().ok_or("it was created")?;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("'/etc/passwd/nothing'"), "{error}");
    Ok(())
}

async fn stopping(bench: Bench) -> Outcome {
    let id = bench.started("trap '' TERM; while :; do sleep 1; done").await?;
    // With other hands: what they do is told by the engine alone.
    let arguments = ["stop", "--time", "20", id.as_str()];
    let stop = bench.by_hand(&arguments);
    let meanwhile = async {
        bench.until(&id, |info| info.state == ContainerState::Stopping).await?;
        let listed = bench.podman.list(&Selector::All).await?;
        let listed = listed.into_iter().find(|info| info.id == id).ok_or("it is not listed")?;
        assert_eq!(listed.state, ContainerState::Stopping);
        match bench.podman.start(&id).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            other => return Err(format!("a start during a stop: {other:?}").into()),
        }
        Ok(bench.podman.kill(&id).await?)
    };
    let (stopped, met): (_, Outcome) = tokio::join!(stop, meanwhile);
    stopped?;
    met?;
    let info = bench.podman.inspect(&id).await?;
    assert_eq!((info.state, info.exit.and_then(|e| e.code)), (ContainerState::Exited, Some(137)));
    Ok(())
}

async fn paused(bench: Bench) -> Outcome {
    let id = bench.started("trap 'exit 0' TERM; sleep 100 & wait").await?;
    let pause = async || bench.by_hand(&["pause", id.as_str()]).await;
    pause().await?;
    assert_eq!(bench.podman.inspect(&id).await?.state, ContainerState::Paused);
    bench.podman.stop(&id, GRACE).await?;
    assert_eq!(bench.podman.inspect(&id).await?.state, ContainerState::Exited);
    bench.podman.start(&id).await?;
    pause().await?;
    bench.podman.kill(&id).await?;
    bench.until(&id, |info| info.state == ContainerState::Exited).await?;
    bench.podman.start(&id).await?;
    pause().await?;
    bench.podman.remove(&id).await?;
    Ok(())
}

fn checked(script: &str) -> Healthcheck {
    let mut check = Healthcheck::new(HealthcheckTest::Shell(script.to_owned()));
    check.interval = Some(Duration::from_millis(500));
    check.retries = Some(2);
    check
}

async fn health(bench: Bench) -> Outcome {
    let mut spec = bench.spec("touch /tmp/well; trap 'exit 0' TERM; sleep 100 & wait");
    spec.healthcheck = Some(checked("test -e /tmp/well"));
    let id = bench.start_spec(&spec).await?;
    let is = |health| move |info: &ContainerInfo| info.health == Some(health);
    // If that took long, it was checked already.
    let first = bench.podman.inspect(&id).await?.health;
    assert!(matches!(first, Some(EngineHealth::Starting | EngineHealth::Healthy)), "{first:?}");
    bench.until(&id, is(EngineHealth::Healthy)).await?;
    bench.by_hand(&["exec", id.as_str(), "rm", "/tmp/well"]).await?;
    bench.until(&id, is(EngineHealth::Unhealthy)).await?;
    // Podman itself has kept count, so others see it too.
    let format = "{{.State.Health.Status}}";
    let told = bench.by_hand(&["inspect", "--format", format, id.as_str()]).await?;
    assert_eq!(told.trim(), "unhealthy");
    bench.podman.stop(&id, GRACE).await?;
    assert_eq!(bench.podman.inspect(&id).await?.health, None);
    bench.podman.start(&id).await?;
    bench.until(&id, is(EngineHealth::Healthy)).await?;
    Ok(())
}

async fn failing_anew(bench: Bench) -> Outcome {
    let mut spec = bench.spec("trap 'exit 0' TERM; sleep 100 & wait");
    let mut check = checked("false");
    // All are run by hand.
    check.interval = Some(Duration::from_secs(3600));
    spec.healthcheck = Some(check);
    let id = bench.start_spec(&spec).await?;
    let fail = async || {
        bench.by_hand(&["healthcheck", "run", id.as_str()]).await.expect_err("it fails");
        Outcome::Ok(bench.podman.inspect(&id).await?.health)
    };
    assert_eq!(fail().await?, Some(EngineHealth::Starting));
    assert_eq!(fail().await?, Some(EngineHealth::Unhealthy));
    bench.podman.stop(&id, GRACE).await?;
    bench.podman.start(&id).await?;
    assert_eq!(fail().await?, Some(EngineHealth::Starting));
    assert_eq!(fail().await?, Some(EngineHealth::Unhealthy));
    Ok(())
}

async fn images_check(bench: Bench) -> Outcome {
    let folder = tempfile::tempdir()?;
    let recipe = format!("FROM localhost/{}\nHEALTHCHECK --interval=3s CMD false\n", super::IMAGE);
    std::fs::write(folder.path().join("Containerfile"), recipe)?;
    let (image, context) = (format!("localhost/{}:1", bench.name), folder.path().display());
    let context = context.to_string();
    // Only this format has health checks.
    bench.by_hand(&["build", "--format", "docker", "--tag", &image, &context]).await?;
    let mut spec = bench.spec("sleep 100");
    spec.image = Some(image);
    let format = "{{json .Config.Healthcheck}}";
    let told = async |spec: &ContainerSpec| -> Outcome<serde_json::Value> {
        let id = bench.podman.create(spec).await?;
        let told = bench.by_hand(&["inspect", "--format", format, id.as_str()]).await?;
        bench.podman.remove(&id).await?;
        Ok(serde_json::from_str(&told)?)
    };
    let silent = told(&spec).await?;
    let second = 1_000_000_000_u64;
    assert_eq!(silent["Test"], json!(["CMD-SHELL", "false"]));
    assert_eq!((&silent["Interval"], &silent["Retries"]), (&(3 * second).into(), &3.into()));
    spec.healthcheck = Some(Healthcheck::new(HealthcheckTest::Shell("true".to_owned())));
    let mixed = told(&spec).await?;
    assert_eq!(mixed["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(
        (&mixed["Interval"], &mixed["Timeout"]),
        (&(3 * second).into(), &(30 * second).into())
    );
    Ok(())
}

fn gpus(driver: &str, ids: &[&str]) -> GpuDevices {
    GpuDevices {
        driver: driver.to_owned(),
        device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        capabilities: vec!["gpu".to_owned()],
        ..GpuDevices::default()
    }
}

async fn unknown_cdi(bench: Bench) -> Outcome {
    let mut spec = bench.spec("sleep 1");
    spec.gpus = vec![gpus("nvidia", &["GPU-00000000-0000-0000-0000-000000000000"])];
    let id = bench.podman.create(&spec).await?;
    assert!(bench.podman.inspect(&id).await?.uses_gpu);
    let error = bench.podman.start(&id).await.expect_err("there is no such GPU");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("nvidia.com/gpu=GPU-0000"), "{error}");
    let info = bench.podman.inspect(&id).await?;
    assert_eq!(info.state, ContainerState::Created);
    let kept = info.exit.and_then(|exit| exit.error).unwrap_or_default();
    assert_eq!(kept, error.message());
    Ok(())
}

/// A file in which a GPU is described, where engines look for such.
struct CdiFile(std::path::PathBuf);

impl CdiFile {
    fn new(vendor: &str) -> Outcome<Self> {
        let folder = Path::new("/var/run/cdi");
        std::fs::create_dir_all(folder)?;
        let device = |name| {
            let node = json!({"path": format!("/dev/nanny-gpu-{name}"), "hostPath": "/dev/null"});
            let edits = json!({"deviceNodes": [node], "env": [format!("NANNY_GPU={name}")]});
            json!({"name": name, "containerEdits": edits})
        };
        let devices = ["all", "GPU-one", "GPU-two", "GPU-three"].map(device);
        let kind = format!("{vendor}/gpu");
        let text = json!({"cdiVersion": "0.5.0", "kind": kind, "devices": devices}).to_string();
        let path = folder.join(format!("{vendor}.json"));
        std::fs::write(&path, text)?;
        Ok(Self(path))
    }
}

impl Drop for CdiFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

async fn known_cdi(bench: Bench) -> Outcome {
    // A vendor of our own: a real one's may be there.
    let vendor = format!("nanny-{}.test", std::process::id());
    let _file = CdiFile::new(&vendor)?;
    let mut spec = bench.spec("ls -l /dev/nanny-gpu-*; echo gpu=$NANNY_GPU; sleep 100");
    spec.gpus = vec![gpus("cdi", &[&format!("{vendor}/gpu=all")])];
    let id = bench.start_spec(&spec).await?;
    let info = bench.podman.inspect(&id).await?;
    assert!(info.uses_gpu && info.state == ContainerState::Running, "{info:?}");
    let mut log = bench.podman.logs(&id, LogOptions::default().follow());
    let mut text = String::new();
    while !text.contains("gpu=all") {
        let line = tokio::time::timeout(SOON, log.next()).await?.ok_or("it ends early")??;
        text.push_str(&String::from_utf8_lossy(&line.bytes));
    }
    assert!(text.contains("/dev/nanny-gpu-all"), "{text}");
    let listed = bench.podman.list(&Selector::All).await?;
    assert!(listed.iter().any(|info| info.id == id && info.uses_gpu));
    Ok(())
}

async fn placed_gpus(bench: Bench) -> Outcome {
    let vendor = format!("nanny-{}-placed.test", std::process::id());
    let _file = CdiFile::new(&vendor)?;
    let on = |names: &[&str]| {
        let gpu = |name: &&str| {
            let mut gpu = PlacedGpu::new(GpuId::new(*name), GpuVendor::Nvidia, 8192);
            gpu.cdi = Some(format!("{vendor}/gpu={name}"));
            gpu
        };
        // As a file says it that knows nothing of placements.
        let mut wanted = bench.spec("ls /dev/nanny-gpu-*; echo that is all; sleep 100");
        wanted.gpus = vec![gpus("cdi", &[&format!("{vendor}/gpu=all")])];
        placed(wanted, &names.iter().map(gpu).collect::<Vec<_>>())
    };
    let error = bench.podman.create(&on(&["GPU-four"])).await.expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let known = format!("{vendor}/gpu=GPU-one, {vendor}/gpu=GPU-three");
    assert!(error.message().contains(&known), "{error}");
    let listed = bench.podman.list(&Selector::All).await?;
    assert!(!listed.iter().any(|info| info.name == bench.name), "it was made all the same");

    let id = bench.start_spec(&on(&["GPU-one", "GPU-three"])).await?;
    let info = bench.podman.inspect(&id).await?;
    assert!(info.uses_gpu && info.state == ContainerState::Running, "{info:?}");
    assert_eq!(info.gpus, ["GPU-one", "GPU-three"].map(GpuId::new));
    let placement = labels::placement_of(&info).ok_or("it says nothing of its placement")?;
    assert!(placement.devices().eq(info.gpus.iter()));
    let mut log = bench.podman.logs(&id, LogOptions::default().follow());
    let mut seen = Vec::new();
    while !seen.iter().any(|line| line == "that is all") {
        let line = tokio::time::timeout(SOON, log.next()).await?.ok_or("it ends early")??;
        seen.push(String::from_utf8_lossy(&line.bytes).trim().to_owned());
    }
    assert_eq!(seen, ["/dev/nanny-gpu-GPU-one", "/dev/nanny-gpu-GPU-three", "that is all"]);
    Ok(())
}

async fn other_hands(bench: Bench) -> Outcome {
    let make = async |suffix: &str, device: &[&str]| -> Outcome<bool> {
        let name = format!("{}-{suffix}", bench.name);
        let mut arguments = vec!["create", "--name", &name];
        arguments.extend(device);
        arguments.extend([super::IMAGE, "true"]);
        let id = bench.by_hand(&arguments).await?;
        Ok(bench.podman.inspect(&ContainerId::new(id.trim())).await?.uses_gpu)
    };
    assert!(make("cdi", &["--device", "nvidia.com/gpu=all"]).await?);
    assert!(make("cdi2", &["--device=nvidia.com/gpu=0"]).await?);
    assert!(!make("plain", &[]).await?);
    assert!(!make("null", &["--device", "/dev/null:/dev/zero2"]).await?);
    Ok(())
}

async fn names(bench: Bench) -> Outcome {
    let images = bench.podman.images().ok_or("no images")?;
    let short = images.inspect(super::IMAGE).await?.ok_or("the short name is not found")?;
    let long = images.inspect(&format!("localhost/{}", super::IMAGE)).await?;
    assert_eq!(Some(&short), long.as_ref());
    // Of what others have, nothing is taken for it because it ends alike or begins an identifier.
    let others = format!("ghcr.io/somebody/{}/theirs:1", bench.name);
    bench.by_hand(&["tag", super::IMAGE, &others]).await?;
    let alike = images.inspect(&format!("{}/theirs:1", bench.name)).await;
    let whole = images.inspect(&others).await;
    bench.by_hand(&["untag", &short.id, &others]).await?;
    assert_eq!((alike?, whole?.as_ref()), (None, Some(&short)));
    let digits = short.id.trim_start_matches("sha256:");
    assert_eq!(images.inspect(&digits[..12]).await?, None);
    assert_eq!(images.inspect(digits).await?.as_ref(), Some(&short));
    // What is Docker Hub's has no other name in a Compose file.
    let full = format!("docker.io/{}/{}:1", bench.name, "hub");
    bench.by_hand(&["tag", super::IMAGE, &full]).await?;
    let hubs = images.inspect(&format!("{}/hub:1", bench.name)).await;
    let mut spec = bench.spec("true");
    spec.image = Some(format!("{}/hub:1", bench.name));
    let created = bench.podman.create(&spec).await;
    bench.by_hand(&["untag", &short.id, &full]).await?;
    assert_eq!(hubs?, Some(short));
    let image = bench.podman.inspect(&created?).await?.image;
    assert!(image.ends_with(&format!("{}/hub:1", bench.name)), "{image}");
    Ok(())
}

async fn builds(bench: Bench) -> Outcome {
    let images = bench.podman.images().ok_or("no images")?;
    let folder = tempfile::tempdir()?;
    let built = async |network: &str, script: &str| {
        let mut spec = BuildSpec::new(format!("{}:1", bench.name), folder.path());
        spec.dockerfile_inline = Some(format!("FROM {}\nRUN {script}\n", super::IMAGE));
        spec.network = Some(network.to_owned());
        spec.extra_hosts = vec!["gate:host-gateway".to_owned()];
        // A hint, though Podman would not understand it.
        spec.cache_from = vec![format!("{}:0", bench.name)];
        spec.no_cache = true;
        images.build(&spec, &|_| {}).await
    };
    built("none", "test \"$(ls /sys/class/net)\" = lo").await?;
    built("host", "grep -q '^127.0.0.1.*gate' /etc/hosts").await?;
    let error = built("backbone", "true").await.expect_err("it would be built on another");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    Ok(())
}

async fn gateway(bench: Bench) -> Outcome {
    let networks = bench.podman.networks().ok_or("no networks")?;
    let network = NetworkSpec { name: bench.name.clone(), ..NetworkSpec::default() };
    networks.create(&network).await?;
    let format = "{{range .Subnets}}{{.Gateway}}{{end}}";
    let own = bench.by_hand(&["network", "inspect", "--format", format, &bench.name]).await;
    let told = async |change: &(dyn Fn(&mut ContainerSpec) + Sync)| -> Outcome<String> {
        let mut spec = bench.spec("grep -w gate /etc/hosts");
        spec.extra_hosts = vec!["gate:host-gateway".to_owned()];
        change(&mut spec);
        let id = bench.start_spec(&spec).await?;
        bench.until(&id, |info| !info.state.holds()).await?;
        let log = bench.log(&id, LogOptions::default()).await?;
        bench.podman.remove(&id).await?;
        Ok(log.split_whitespace().next().unwrap_or_default().to_owned())
    };
    let attachment = NetworkAttachment::new(&bench.name, Vec::new());
    let attached = told(&|spec| spec.networks = vec![attachment.clone()]).await;
    let named = told(&|spec| spec.network_mode = Some(bench.name.clone())).await;
    let host = told(&|spec| spec.network_mode = Some("host".to_owned())).await;
    for network in networks.find(&bench.name).await? {
        networks.remove(&network.id).await?;
    }
    let own = own?.trim().to_owned();
    assert_eq!((attached?, named?, host?), (own.clone(), own, "127.0.0.1".to_owned()));
    Ok(())
}

async fn pieces(bench: Bench) -> Outcome {
    let script = "echo zero; echo one; printf tw; sleep 0.2; printf o; sleep 0.2; echo; \
                  printf thr; sleep 0.2; echo ee; printf 'the end'; sleep 0.1; printf .";
    let id = bench.started(script).await?;
    let followed = bench.log(&id, LogOptions::tail(Some(100)).follow()).await?;
    bench.until(&id, |info| !info.state.holds()).await?;
    let all = ["zero", "one", "two", "three", "the end."];
    assert_eq!(followed, all.join("\n"));
    for tail in 0..=6_u32 {
        let log = bench.log(&id, LogOptions::tail(Some(tail))).await?;
        let wanted = &all[all.len().saturating_sub(tail as usize)..];
        assert_eq!(log, wanted.join("\n"), "the last {tail}");
    }
    Ok(())
}

async fn platform(bench: Bench) -> Outcome {
    let mut spec = bench.spec("true");
    let other = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };
    spec.platform = Some(other.to_owned());
    let error = bench.podman.create(&spec).await.expect_err("the image is for this machine");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let own = bench.podman.images().ok_or("no images")?.inspect(super::IMAGE).await?;
    spec.platform = own.and_then(|image| image.platform);
    bench.podman.create(&spec).await?;
    Ok(())
}

async fn joined(bench: Bench) -> Outcome {
    let holder = bench.started("trap 'exit 0' TERM; sleep 100 & wait").await?;
    let mut spec = bench.spec("trap 'exit 0' TERM; sleep 100 & wait");
    spec.name = format!("{}-guest", bench.name);
    spec.network_mode = Some(format!("container:{holder}"));
    let guest = bench.start_spec(&spec).await?;
    bench.podman.stop(&guest, GRACE).await?;
    bench.podman.stop(&holder, GRACE).await?;
    let error = bench.podman.start(&guest).await.expect_err("what it joins does not run");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains(&bench.name), "{error}");
    assert_eq!(bench.podman.inspect(&holder).await?.state, ContainerState::Exited);
    bench.podman.start(&holder).await?;
    bench.podman.start(&guest).await?;
    let error = bench.podman.remove(&holder).await.expect_err("it is joined");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains(guest.as_str()), "{error}");
    bench.podman.remove(&guest).await?;
    bench.podman.remove(&holder).await?;
    Ok(())
}
