//! Carries out what the world asks for, through the traits, each with a deadline.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{
    BackendError, ContainerBackend, ContainerInfo, ErrorKind, Images, NetworkInfo, Networks,
    PullProgress, Result, Selector,
};
use crate::journal::{Journal, JournalStore};
use crate::lifecycle::{CallId, Outcome};
use crate::manifest::{Discovery, ManifestSource, Problem};
use crate::name::ContainerId;
use crate::probe::{Health, HealthProbe, ProbeTarget};
use crate::project::{NetworkWanted, Step, VolumeWanted};

/// For a list or an inspection.
const LOOK: Duration = Duration::from_secs(5);
/// For whatever the engine does at once: create, networks, volumes.
const ACT: Duration = Duration::from_secs(30);
/// For a start, which may wait for devices and mounts.
const START: Duration = Duration::from_secs(90);
/// What a stop may take beyond its grace period: an engine in trouble was seen to need 12 s.
const BEYOND_GRACE: Duration = Duration::from_secs(30);
/// For a look at all manifests.
const DISCOVER: Duration = Duration::from_secs(60);
/// A pull that moves nothing for so long has failed.
const STALLED: Duration = Duration::from_secs(120);

/// A probe that ends so much later than it should was not answered late: we were not awake.
const STARVED: Duration = Duration::from_secs(1);

/// Lists an engine's containers.
pub(super) async fn list(backend: Arc<dyn ContainerBackend>) -> Result<Vec<ContainerInfo>> {
    let list = within(LOOK, "list", backend.list(&Selector::All));
    contained(list).await.unwrap_or_else(|| Err(panicked("list")))
}

/// Asks the source for services. One that fails to answer is a problem of all of them, so that none
/// is taken to be gone.
pub(super) async fn discover(source: Arc<dyn ManifestSource>) -> Discovery {
    let fault = match contained(timeout(DISCOVER, source.discover())).await {
        Some(Ok(discovery)) => return discovery,
        Some(Err(_)) => format!("the manifest source has not answered within {DISCOVER:?}"),
        None => "the manifest source panicked".to_owned(),
    };
    Discovery::new(Vec::new(), vec![Problem::new("", "", (1, 1), fault)])
}

/// Writes the journal down.
pub(super) async fn write(store: &dyn JournalStore, journal: &Journal) -> io::Result<()> {
    let panicked = || Err(io::Error::other("the journal's store panicked"));
    contained(store.write(journal)).await.unwrap_or_else(panicked)
}

/// Asks a service how it is.
pub(super) async fn probe(probe: Arc<dyn HealthProbe>, target: ProbeTarget) -> (Health, Duration) {
    let answered = ask(&*probe, &target).await;
    let (health, latency) = &answered;
    if health.is_healthy() || *latency < target.timeout + STARVED {
        return answered;
    }
    // Suspended or starved, we say nothing about others before we asked them once more.
    ask(&*probe, &target).await
}

async fn ask(probe: &dyn HealthProbe, target: &ProbeTarget) -> (Health, Duration) {
    let began = Instant::now();
    let asked = contained(timeout(target.timeout, probe.probe(target))).await;
    let health = match asked {
        Some(Ok(health)) => health,
        Some(Err(_)) => {
            Health::Unreachable { reason: format!("no answer within {:?}", target.timeout) }
        }
        None => Health::Unreachable { reason: "the probe panicked".to_owned() },
    };
    (health, began.elapsed())
}

/// Takes one step at an engine. Each step may be repeated.
pub(super) async fn take(
    backend: Arc<dyn ContainerBackend>,
    id: CallId,
    step: Step,
    progress: mpsc::Sender<(CallId, PullProgress)>,
) -> Outcome {
    let took = contained(step_at(&*backend, id, step, progress)).await;
    took.unwrap_or_else(|| Err(panicked("call"))).unwrap_or_else(Outcome::Failed)
}

async fn step_at(
    backend: &dyn ContainerBackend,
    id: CallId,
    step: Step,
    progress: mpsc::Sender<(CallId, PullProgress)>,
) -> Result<Outcome> {
    match step {
        Step::Network(network) => ensured(network_is_there(backend, &network).await),
        Step::RemoveNetwork(network) => ensured(network_is_gone(backend, &network).await),
        Step::Volume(volume) => ensured(volume_is_there(backend, &volume).await),
        Step::Image(reference) => image_is_there(backend, &reference, id, &progress).await,
        Step::Create { spec, .. } => match within(ACT, "create", backend.create(&spec)).await {
            Ok(container) => seen(backend, &container).await,
            Err(error) => Err(error),
        },
        Step::Start { id, settle, .. } => match within(START, "start", backend.start(&id)).await {
            Ok(()) => {
                sleep(settle).await;
                seen(backend, &id).await
            }
            Err(error) => Err(error),
        },
        Step::Stop { id, grace } => {
            let stop = backend.stop(&id, Some(grace));
            match within(grace + BEYOND_GRACE, "stop", stop).await {
                Ok(()) => seen(backend, &id).await,
                Err(error) => Err(error),
            }
        }
        Step::Kill { id } => match within(ACT, "kill", backend.kill(&id)).await {
            Ok(()) => seen(backend, &id).await,
            Err(error) => Err(error),
        },
        Step::Remove { id } => {
            let removed = within(ACT, "remove", backend.remove(&id)).await;
            removed.map(|()| Outcome::Gone(id))
        }
    }
}

/// Waits for what a plug-in does; `None` if it panicked, which is its own failure and nobody else's.
async fn contained<T>(plug_in: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(plug_in).catch_unwind().await.ok()
}

fn panicked(operation: &'static str) -> BackendError {
    BackendError::new(ErrorKind::Other, operation, "the backend panicked")
}

fn ensured(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Ensured)
}

/// How the container is after the call: what the call returned is not believed.
async fn seen(backend: &dyn ContainerBackend, id: &ContainerId) -> Result<Outcome> {
    match within(LOOK, "inspect", backend.inspect(id)).await {
        Ok(container) => Ok(Outcome::Container(container)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Outcome::Gone(id.clone())),
        Err(error) => Err(error),
    }
}

async fn network_is_there(backend: &dyn ContainerBackend, wanted: &NetworkWanted) -> Result<()> {
    let name = &wanted.spec.name;
    let Some(networks) = backend.networks() else { return Err(lacks("networks").on(name)) };
    if is_ours_or_external(networks, wanted).await? {
        return Ok(());
    }
    if wanted.external {
        let message = "it is declared external and does not exist: create it first";
        return Err(BackendError::new(ErrorKind::NotFound, "find network", message).on(name));
    }
    match within(ACT, "create network", networks.create(&wanted.spec)).await {
        // Somebody was faster.
        Err(error) if error.kind() == ErrorKind::Conflict => {
            if is_ours_or_external(networks, wanted).await? { Ok(()) } else { Err(error) }
        }
        created => created,
    }
}

/// Whether the network is there; an error if one of its name is there and is a stranger's.
async fn is_ours_or_external(networks: &dyn Networks, wanted: &NetworkWanted) -> Result<bool> {
    let name = &wanted.spec.name;
    let found = within(LOOK, "find network", networks.find(name)).await?;
    if found.is_empty() || wanted.external || found.iter().any(|network| is_ours(network, wanted)) {
        return Ok(!found.is_empty());
    }
    let message = "a network of that name exists and does not belong to this project: \
                   remove it, or declare it external";
    Err(BackendError::new(ErrorKind::Invalid, "find network", message).on(name))
}

fn is_ours(network: &NetworkInfo, wanted: &NetworkWanted) -> bool {
    wanted.identity.iter().all(|(key, value)| network.labels.get(key) == Some(value))
}

async fn network_is_gone(backend: &dyn ContainerBackend, wanted: &NetworkWanted) -> Result<()> {
    let Some(networks) = backend.networks() else { return Ok(()) };
    let found = within(LOOK, "find network", networks.find(&wanted.spec.name)).await?;
    for network in found.iter().filter(|network| is_ours(network, wanted)) {
        match within(ACT, "remove network", networks.remove(&network.id)).await {
            // Others are in it: it stays.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            removed => removed?,
        }
    }
    Ok(())
}

async fn volume_is_there(backend: &dyn ContainerBackend, wanted: &VolumeWanted) -> Result<()> {
    let name = &wanted.spec.name;
    let Some(volumes) = backend.volumes() else { return Err(lacks("volumes").on(name)) };
    let found = within(LOOK, "find volume", volumes.find(name)).await?;
    if found.is_some() {
        return Ok(());
    }
    if wanted.external {
        let message = "it is declared external and does not exist: create it first";
        return Err(BackendError::new(ErrorKind::NotFound, "find volume", message).on(name));
    }
    within(ACT, "create volume", volumes.create(&wanted.spec)).await
}

async fn image_is_there(
    backend: &dyn ContainerBackend,
    reference: &str,
    id: CallId,
    progress: &mpsc::Sender<(CallId, PullProgress)>,
) -> Result<Outcome> {
    let Some(images) = backend.images() else { return Err(lacks("images").on(reference)) };
    let look = || within(LOOK, "inspect image", images.inspect(reference));
    if let Some(image) = look().await? {
        return Ok(Outcome::Image(image.id));
    }
    pull(images, reference, id, progress).await?;
    match look().await? {
        Some(image) => Ok(Outcome::Image(image.id)),
        None => {
            let message = "it was pulled, and is not there";
            Err(BackendError::new(ErrorKind::NotFound, "pull", message).on(reference))
        }
    }
}

/// Pulls for as long as the pull moves.
async fn pull(
    images: &dyn Images,
    reference: &str,
    id: CallId,
    progress: &mpsc::Sender<(CallId, PullProgress)>,
) -> Result<()> {
    let (moved, mut moves) = watch::channel(PullProgress::default());
    let report = move |now: PullProgress| {
        moved.send_replace(now);
    };
    let mut pull = images.pull(reference, &report);
    loop {
        tokio::select! {
            biased;
            pulled = &mut pull => return pulled,
            moved = timeout(STALLED, moves.changed()) => match moved {
                // A full channel only means that nobody needs to know more often.
                Ok(_) => drop(progress.try_send((id, *moves.borrow_and_update()))),
                Err(_) => {
                    let message = format!("nothing arrived for {STALLED:?}");
                    return Err(BackendError::new(ErrorKind::Timeout, "pull", message).on(reference));
                }
            }
        }
    }
}

fn lacks(what: &str) -> BackendError {
    let message = format!("this backend has no {what}");
    BackendError::new(ErrorKind::Unsupported, "prepare", message)
}

/// Waits for `call`, but not for ever.
async fn within<T>(
    limit: Duration,
    operation: &'static str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("no answer within {limit:?}");
            Err(BackendError::new(ErrorKind::Timeout, operation, message))
        }
    }
}
