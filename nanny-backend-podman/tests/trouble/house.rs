//! A Podman of our own, with an image.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nanny_backend_podman::{PodmanBackend, PodmanConfig};
use nanny_lib::ContainerId;
use nanny_lib::backend::{
    ContainerBackend as _, ContainerInfo, ContainerSpec, ErrorKind, Healthcheck, HealthcheckTest,
};
use nanny_testkit::podman::Podman;
use nanny_testkit::proxy::Endpoint;
use tokio::time::Instant;

/// The engine, and what the tests need to know about it.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) engine: Podman,
}

const IMAGE: &str = "nanny-test/busybox:1";
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl House {
    /// `None` where there can be none, which is said.
    pub(crate) fn new() -> Option<Self> {
        if let Some(trouble) = Podman::unavailable() {
            let is_set = |name| std::env::var(name).is_ok_and(|set| set == "true" || set == "1");
            assert!(!is_set("CI") && !is_set("NANNY_TEST_PODMAN"), "{trouble}");
            let _ = writeln!(std::io::stderr(), "NOT TESTED: {trouble}");
            return None;
        }
        let engine = Podman::start().expect("a private Podman starts");
        let folder = engine.folder().to_owned();
        let packed = Command::new("sh").args(["-ec", PACK]).current_dir(&folder).status();
        assert!(packed.expect("there is a shell").success(), "busybox-static is needed");
        let archive = folder.join("root.tar").display().to_string();
        let import = ["import", "--change", "ENV PATH=/bin", &archive, IMAGE];
        engine.podman(&import).expect("an image can be made");
        Some(Self { engine })
    }

    pub(crate) fn backend(&self) -> PodmanBackend {
        self.backend_at(&Endpoint::unix(self.engine.socket()))
    }

    /// A backend that finds the engine elsewhere.
    pub(crate) fn backend_at(&self, endpoint: &Endpoint) -> PodmanBackend {
        PodmanBackend::new(PodmanConfig::new(endpoint.to_string())).expect("it is an address")
    }

    pub(crate) fn spec(&self, name: &str) -> ContainerSpec {
        let mut spec = ContainerSpec::new(name, IMAGE);
        let script = "trap 'exit 0' TERM; sleep 3600 & wait";
        spec.command = Some(["sh", "-c", script].map(str::to_owned).to_vec());
        spec.network_mode = Some("none".to_owned());
        spec
    }

    pub(crate) async fn sleeping(&self, podman: &PodmanBackend, name: &str) -> ContainerId {
        let id = podman.create(&self.spec(name)).await.expect("it is created");
        podman.start(&id).await.expect("it is started");
        id
    }

    /// A container whose health check leaves a mark each time.
    pub(crate) async fn checked(&self, podman: &PodmanBackend, interval: Duration) -> ContainerId {
        let mut spec = self.spec("checked");
        let mut check = Healthcheck::new(HealthcheckTest::Shell("echo x >>/tmp/checks".to_owned()));
        check.interval = Some(interval);
        spec.healthcheck = Some(check);
        let id = podman.create(&spec).await.expect("it is created");
        podman.start(&id).await.expect("it is started");
        id
    }

    /// Leaves what is left where the service is killed between a container's files and its entry in
    /// the database.
    pub(crate) fn cut_off_creates(&mut self, names: &[&str]) {
        for name in names {
            let create = ["create", "--network", "none", "--name", name, IMAGE, "sh"];
            self.engine.podman(&create).expect("it is created");
        }
        self.engine.end("KILL").expect("it runs");
        // Its folder is in a namespace of its own.
        let database = self.engine.folder().join("home/root/libpod/bolt_state.db");
        let removed = self.engine.inside("rm").arg(database).status();
        assert!(removed.expect("there is an rm").success());
        self.engine.boot().expect("it can be started again");
        self.engine.wait().expect("it answers");
    }

    /// Stops the service, and returns once none of its threads can answer any more.
    pub(crate) async fn freeze(&self) {
        self.engine.signal("STOP").expect("it runs");
        let threads = format!("/proc/{}/task", self.engine.pid().expect("it runs"));
        let is_stopped = |thread: &Path| {
            let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        for _ in 0..400 {
            let mut threads = fs::read_dir(&threads).expect("it is there").flatten();
            if threads.all(|thread| is_stopped(&thread.path())) {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        panic!("it goes on");
    }

    /// How often it was checked.
    pub(crate) fn checks_of(&self, id: &ContainerId) -> usize {
        let script = "while read -r _; do echo; done </tmp/checks";
        let said = self.engine.podman(&["exec", id.as_str(), "sh", "-c", script]);
        said.expect("it runs").lines().count()
    }

    /// Kills the process of a container, behind everybody's back.
    pub(crate) fn kill_process_of(&self, id: &ContainerId) {
        let pid = self.engine.podman(&["inspect", "--format", "{{.State.Pid}}", id.as_str()]);
        let pid = pid.expect("it is there").trim().parse().expect("it runs");
        self.engine.kill_inside(pid).expect("it can be killed");
    }

    /// Looks until `is_so`.
    pub(crate) async fn until(
        &self,
        podman: &PodmanBackend,
        id: &ContainerId,
        is_so: impl Fn(&ContainerInfo) -> bool,
    ) -> ContainerInfo {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            match podman.inspect(id).await {
                Ok(info) if is_so(&info) => return info,
                // Podman has it in hand.
                Err(error) if error.kind() == ErrorKind::Timeout => {}
                looked => drop(looked.expect("it is there")),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        panic!("it never was so: {:?}", podman.inspect(id).await)
    }
}

/// All that a container here needs.
const PACK: &str = "mkdir -p root/bin root/dev root/etc root/proc root/sys root/tmp
cp \"$(command -v busybox)\" root/bin/busybox
for name in sh sleep; do ln -s busybox root/bin/$name; done
tar -C root --numeric-owner --owner=0 --group=0 -cf root.tar .";
