use std::fmt;
use std::io::Write as _;
use std::net::TcpStream;
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

fn painter() -> Service {
    let name = ServiceName::new("painter").expect("a valid name");
    let container = ContainerSpec::new("painter-1", "example/image:1");
    let project = Project::single("painter", container);
    Service::new(Manifest::new(name).with_gpu(8), project, "painter")
}

fn builder() -> Builder {
    Nanny::builder().backend(Arc::new(MemoryBackend::new())).source(FixedSource::new([painter()]))
}

/// Serves `nanny` on a port of its own.
async fn serve(nanny: Nanny, notifier: Notifier) -> ExitCode {
    serve_on(port().await, nanny, notifier).await
}

async fn port() -> Listener {
    Listener::tcp(([127, 0, 0, 1], 0).into()).await.expect("a free port")
}

async fn serve_on(listener: Listener, nanny: Nanny, notifier: Notifier) -> ExitCode {
    let edge = EdgeConfig::new(listener.address().expect("it has one"));
    let mut stop = StopSignals::listen().expect("signals can be waited for");
    stay(nanny, vec![listener], edge, &notifier, &mut stop, AtTheEnd::LeaveServices).await
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

    fn measures(&self) -> bool {
        false
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

#[test]
fn a10_a_nanny_that_ends_by_itself_ends_the_process_as_a_failure() {
    let (fuse, went_off) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let services = FixedSource::default();
    let bomb = Bomb { services, fuse: Arc::clone(&fuse), went_off: Arc::clone(&went_off) };
    let (manager, notifier, _directory) = manager(None);
    // A runtime of its own, which ends with the server as that of the process does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ended, client) = runtime.block_on(async move {
        let nanny = Nanny::builder().source(bomb).start().await.unwrap();
        let listener = port().await;
        let address = listener.address().unwrap();
        let client = std::thread::spawn(move || {
            let begin = |request: &str| {
                let mut stream = TcpStream::connect(address).unwrap();
                write!(stream, "{request} HTTP/1.1\r\nhost: {address}\r\n").unwrap();
                stream
            };
            let halves = [(); 10].map(|()| {
                let mut half = begin("POST /rediscover");
                half.write_all(b"content-length: 9\r\n\r\n{").unwrap();
                half
            });
            // One more round trip, so that the half requests are under way.
            let mut whole = begin("GET /health");
            whole.write_all(b"connection: close\r\n\r\n").unwrap();
            assert!(io::read_to_string(whole).unwrap().starts_with("HTTP/1.1 200 "));
            fuse.notify_one();
            halves.map(|half| io::read_to_string(half).unwrap_or_default())
        });
        (serve_on(listener, nanny, notifier).await, client)
    });
    drop(runtime);
    assert_eq!(ended, ExitCode::FAILURE);
    assert!(went_off.load(Ordering::Relaxed));
    for answer in client.join().unwrap() {
        assert!(answer.starts_with("HTTP/1.1 503 "), "one who still waits is told {answer:?}");
    }
    assert!(heard(&manager, PATIENCE).unwrap().starts_with("READY=1\n"));
    assert!(heard(&manager, PATIENCE).unwrap().starts_with("STOPPING=1\n"));
}
