use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use nanny_lib::backend::{ContainerSpec, MemoryBackend};
use nanny_lib::gpu::{Decision, Exclusive, GpuPolicy, GpuRequest, GpuSnapshot};
use nanny_lib::manifest::{Changed, Discovery, FixedSource, Manifest, ManifestSource, Service};
use nanny_lib::project::Project;
use nanny_lib::{Builder, ServiceName, StartOptions};
use tokio::sync::Notify;

use super::*;
use crate::notify::tests::{heard, manager};

fn builder() -> Builder {
    let name = ServiceName::new("painter").expect("a valid name");
    let container = ContainerSpec::new("painter-1", "example/image:1");
    let project = Project::single("painter", container);
    let service = Service::new(Manifest::new(name).with_gpu(8), project, "painter");
    Nanny::builder().backend(Arc::new(MemoryBackend::new())).source(FixedSource::new([service]))
}

/// Serves `nanny` on a port of its own.
async fn serve(nanny: Nanny, notifier: Notifier) -> ExitCode {
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.expect("a free port");
    let edge = EdgeConfig::new(listener.address().expect("it has one"));
    let mut stop = StopSignals::listen().expect("signals can be waited for");
    stay(nanny, vec![listener], edge, &notifier, &mut stop).await
}

/// The default policy; but while it is told to, it does not return.
struct Stuck {
    entered: Sender<()>,
    release: Mutex<Receiver<()>>,
}

impl fmt::Debug for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stuck")
    }
}

impl GpuPolicy for Stuck {
    fn name(&self) -> &str {
        "stuck"
    }

    fn decide(&self, request: &GpuRequest, snapshot: &GpuSnapshot) -> Decision {
        let _ = self.entered.send(());
        let _ = self.release.lock().expect("nobody panics").recv();
        Exclusive.decide(request, snapshot)
    }
}

/// Many times as long as it takes for the next sign of life to come, if there are any.
const SILENCE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a11_a_driver_that_is_stuck_gives_no_sign_of_life() {
    let (entered, is_entered) = channel();
    let (release, released) = channel();
    let policy = Stuck { entered, release: Mutex::new(released) };
    let nanny = builder().policy(policy).start().await.unwrap();
    let (manager, notifier, _directory) = manager(Some(Duration::from_millis(100)));
    let serving = tokio::spawn(serve(nanny.clone(), notifier));
    let told = heard(&manager, PATIENCE).unwrap();
    assert!(told.starts_with("READY=1\nSTATUS=serving on 127.0.0.1:"), "{told}");
    for _ in 0..3 {
        assert_eq!(heard(&manager, PATIENCE).as_deref(), Some("WATCHDOG=1\n"));
    }
    let start = tokio::spawn(async move { nanny.start("painter", StartOptions::default()).await });
    is_entered.recv().unwrap();
    // What was said before it got stuck is still to be read.
    let falls_silent = (0..100).any(|_| heard(&manager, SILENCE).is_none());
    assert!(falls_silent, "it is stuck, and is vouched for");
    release.send(()).unwrap();
    assert_eq!(heard(&manager, PATIENCE).as_deref(), Some("WATCHDOG=1\n"));
    start.await.unwrap().unwrap();
    serving.abort();
}

/// A source that panics where nothing contains it, once it is told to.
#[derive(Debug)]
struct Bomb {
    services: FixedSource,
    fuse: Arc<Notify>,
    went_off: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl ManifestSource for Bomb {
    async fn discover(&self) -> Discovery {
        self.services.discover().await
    }

    fn watch(&self) -> BoxStream<'static, Changed> {
        let (fuse, went_off) = (Arc::clone(&self.fuse), Arc::clone(&self.went_off));
        futures_util::stream::once(async move {
            fuse.notified().await;
            went_off.store(true, Ordering::Relaxed);
            panic!("a fault in the driver's own task, on purpose");
        })
        .boxed()
    }
}

#[tokio::test]
async fn a10_a_nanny_that_ends_by_itself_ends_the_process_as_a_failure() {
    let (fuse, went_off) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let services = FixedSource::default();
    let bomb = Bomb { services, fuse: Arc::clone(&fuse), went_off: Arc::clone(&went_off) };
    let nanny = Nanny::builder().source(bomb).start().await.unwrap();
    let (manager, notifier, _directory) = manager(None);
    let serving = tokio::spawn(serve(nanny, notifier));
    fuse.notify_one();
    assert_eq!(serving.await.unwrap(), ExitCode::FAILURE);
    assert!(went_off.load(Ordering::Relaxed));
    assert!(heard(&manager, PATIENCE).unwrap().starts_with("READY=1\n"));
    assert!(heard(&manager, PATIENCE).unwrap().starts_with("STOPPING=1\n"));
}
