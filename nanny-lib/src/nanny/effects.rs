//! Carries out what the world asks for, through the traits, each with a deadline.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::backend::{
    BackendError, BuildProgress, BuildSpec, ContainerBackend, ContainerInfo, ErrorKind, Images,
    Labels, NetworkInfo, Networks, PullProgress, Result, Selector, Stats,
};
use crate::gpu::{Drain, GpuInventory, Sweep};
use crate::journal::{Journal, JournalStore};
use crate::lifecycle::{CallId, Outcome, Preparing};
use crate::manifest::{Discovery, ManifestSource, Problem};
use crate::name::{ContainerId, ServiceName};
use crate::probe::{Health, HealthProbe, ProbeTarget};
use crate::project::{ImageWanted, NetworkWanted, PullPolicy, Step, VolumeWanted, fits};

/// For a list or an inspection.
const LOOK: Duration = Duration::from_secs(5);
/// For whatever the engine does at once: create, networks, volumes.
const ACT: Duration = Duration::from_secs(30);
/// For a start, which may wait for devices and mounts.
const START: Duration = Duration::from_secs(90);
/// What a stop may take beyond its grace period: an engine in trouble was seen to need 12 s.
const BEYOND_GRACE: Duration = Duration::from_secs(30);
/// For a reading of what a container uses: nobody waits for it who could not do without. Some
/// engines need a second.
const READ: Duration = Duration::from_secs(3);
/// For a look at all GPUs.
const SWEEP: Duration = Duration::from_secs(10);
/// For a look at all manifests.
const DISCOVER: Duration = Duration::from_secs(60);
/// A pull that moves nothing for so long has failed.
const STALLED: Duration = Duration::from_secs(120);
/// A build that says nothing for so long has failed: compilers may be silent for long.
const SILENT: Duration = Duration::from_secs(30 * 60);

/// A probe that ends so much later than it should was not answered late: we were not awake.
const STARVED: Duration = Duration::from_secs(1);

/// Lists an engine's containers.
pub(super) async fn list(backend: Arc<dyn ContainerBackend>) -> Result<Vec<ContainerInfo>> {
    let list = within(LOOK, "list", backend.list(&Selector::All));
    contained(list).await.unwrap_or_else(|| Err(panicked("list")))
}

/// Reads what a container uses; `None` if its engine does not say.
pub(super) async fn stats(backend: Arc<dyn ContainerBackend>, id: ContainerId) -> Option<Stats> {
    contained(within(READ, "stats", backend.stats(&id))).await?.ok()
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

/// Lets a service finish what it does.
pub(super) async fn drain(drain: Arc<dyn Drain>, service: ServiceName, limit: Duration) {
    if let Some(Err(_)) = contained(timeout(limit, drain.drain(&service))).await {
        tracing::warn!(%service, ?limit, "it has not finished in time, and is stopped");
    }
}

/// Looks at the GPUs.
pub(super) async fn sweep(inventory: Arc<dyn GpuInventory>) -> Result<Sweep, String> {
    match contained(timeout(SWEEP, inventory.sweep())).await {
        Some(Ok(sweep)) => Ok(sweep),
        Some(Err(_)) => Err(format!("the GPUs have not answered within {SWEEP:?}")),
        None => Err("the GPU inventory panicked".to_owned()),
    }
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
    progress: mpsc::Sender<(CallId, Preparing)>,
) -> Outcome {
    let took = contained(step_at(&*backend, id, step, progress)).await;
    took.unwrap_or_else(|| Err(panicked("call"))).unwrap_or_else(Outcome::Failed)
}

async fn step_at(
    backend: &dyn ContainerBackend,
    id: CallId,
    step: Step,
    progress: mpsc::Sender<(CallId, Preparing)>,
) -> Result<Outcome> {
    match step {
        Step::Network(network) => network_is_there(backend, &network).await.map(Outcome::Ensured),
        Step::RemoveNetwork(network) => ensured(network_is_gone(backend, &network).await),
        Step::Volume(volume) => volume_is_there(backend, &volume).await.map(Outcome::Ensured),
        Step::Image(image) => {
            let report = Report { id, to: progress };
            image_is_there(backend, &image, &report).await
        }
        Step::Create { spec, .. } => match within(ACT, "create", backend.create(&spec)).await {
            Ok(container) => seen(backend, &container).await,
            Err(error) => Err(error),
        },
        Step::Rename { id, name } => {
            match within(ACT, "rename", backend.rename(&id, &name)).await {
                Ok(()) => seen(backend, &id).await,
                Err(error) => Err(error),
            }
        }
        Step::Fill { id, files, .. } => {
            ensured(within(ACT, "put files", backend.put_files(&id, &files)).await)
        }
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
    result.map(|()| Outcome::Ensured(None))
}

/// How the container is after the call: what the call returned is not believed.
async fn seen(backend: &dyn ContainerBackend, id: &ContainerId) -> Result<Outcome> {
    match within(LOOK, "inspect", backend.inspect(id)).await {
        Ok(container) => Ok(Outcome::Container(container)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Outcome::Gone(id.clone())),
        Err(error) => Err(error),
    }
}

/// Answers what is to be told about the network, if anything.
async fn network_is_there(
    backend: &dyn ContainerBackend,
    wanted: &NetworkWanted,
) -> Result<Option<String>> {
    let name = &wanted.spec.name;
    let Some(networks) = backend.networks() else { return Err(lacks("networks").on(name)) };
    if let Some(found) = usable_network(networks, wanted).await? {
        return Ok(notice("network", name, &found.labels, &wanted.expected));
    }
    if wanted.external {
        let message = "it is declared external and does not exist: create it first";
        return Err(BackendError::new(ErrorKind::NotFound, "find network", message).on(name));
    }
    match within(ACT, "create network", networks.create(&wanted.spec)).await {
        // Somebody was faster.
        Err(error) if error.kind() == ErrorKind::Conflict => {
            let found = usable_network(networks, wanted).await?.ok_or(error)?;
            Ok(notice("network", name, &found.labels, &wanted.expected))
        }
        created => created.map(|()| None),
    }
}

/// The network, if it is there; an error if one of its name is there and is a stranger's.
async fn usable_network(
    networks: &dyn Networks,
    wanted: &NetworkWanted,
) -> Result<Option<NetworkInfo>> {
    let name = &wanted.spec.name;
    let found = within(LOOK, "find network", networks.find(name)).await?;
    let is_usable = |network: &NetworkInfo| wanted.external || is_ours(network, wanted);
    let none = found.is_empty();
    match found.into_iter().find(is_usable) {
        None if !none => {
            let message = "a network of that name exists and does not belong to this project: \
                           remove it, or declare it external";
            Err(BackendError::new(ErrorKind::Invalid, "find network", message).on(name))
        }
        usable => Ok(usable),
    }
}

/// What a person should know of a network or volume that is used although it is another one than the
/// files describe.
fn notice(what: &str, name: &str, found: &Labels, expected: &Labels) -> Option<String> {
    // One without the label is from before the label, or from hands that do not know of it.
    let differs =
        |(label, value): (&String, &String)| found.get(label).is_some_and(|there| there != value);
    expected.iter().any(differs).then(|| {
        format!(
            "{what} '{name}' was made for another project or from another configuration, and is \
             used as it is: remove it to have it made anew, or declare it external"
        )
    })
}

fn is_ours(network: &NetworkInfo, wanted: &NetworkWanted) -> bool {
    wanted.identity.iter().all(|(key, value)| network.labels.get(key) == Some(value))
}

async fn network_is_gone(backend: &dyn ContainerBackend, wanted: &NetworkWanted) -> Result<()> {
    let Some(networks) = backend.networks() else { return Ok(()) };
    let found = within(LOOK, "find network", networks.find(&wanted.spec.name)).await?;
    // One that another project made under the same key is used, and is that one's to remove.
    let made_here = |network: &&NetworkInfo| {
        wanted.maker.iter().all(|(key, value)| network.labels.get(key) == Some(value))
    };
    let ours = found.iter().filter(|network| is_ours(network, wanted)).filter(made_here);
    for network in ours {
        match within(ACT, "remove network", networks.remove(&network.id)).await {
            // Others are in it: it stays.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// Answers what is to be told about the volume, if anything.
async fn volume_is_there(
    backend: &dyn ContainerBackend,
    wanted: &VolumeWanted,
) -> Result<Option<String>> {
    let name = &wanted.spec.name;
    let Some(volumes) = backend.volumes() else { return Err(lacks("volumes").on(name)) };
    if let Some(found) = within(LOOK, "find volume", volumes.find(name)).await? {
        return Ok(notice("volume", name, &found.labels, &wanted.expected));
    }
    if wanted.external {
        let message = "it is declared external and does not exist: create it first";
        return Err(BackendError::new(ErrorKind::NotFound, "find volume", message).on(name));
    }
    within(ACT, "create volume", volumes.create(&wanted.spec)).await.map(|()| None)
}

async fn image_is_there(
    backend: &dyn ContainerBackend,
    wanted: &ImageWanted,
    report: &Report,
) -> Result<Outcome> {
    let reference = wanted.reference.as_str();
    let Some(images) = backend.images() else { return Err(lacks("images").on(reference)) };
    // One for another platform is none.
    let look = async || {
        let found = within(LOOK, "inspect image", images.inspect(reference)).await?;
        Ok(found.filter(|image| match (&wanted.platform, &image.platform) {
            (Some(wanted), Some(actual)) => fits(wanted, actual),
            _ => true,
        }))
    };
    let builds = wanted.build.as_ref();
    // A name that only the builder gives is in no registry.
    let may_pull = matches!(wanted.pull, PullPolicy::Always | PullPolicy::Missing)
        && builds.is_none_or(|build| !build.is_unnamed);
    let anew = may_pull && wanted.pull == PullPolicy::Always
        || builds.is_some() && wanted.pull == PullPolicy::Build;
    if !anew && let Some(image) = look().await? {
        return Ok(Outcome::Image(image));
    }
    if may_pull {
        let pulled = pull(images, reference, wanted.platform.as_deref(), report).await;
        match pulled {
            // What cannot be pulled can perhaps be built, and need not be if it is here.
            Err(error) if builds.is_some() && error.kind() != ErrorKind::Unavailable => {}
            Err(error) => return Err(not_pulled(reference, &error)),
            Ok(()) => {}
        }
    }
    let here = if wanted.pull == PullPolicy::Build { None } else { look().await? };
    match (here, builds) {
        (Some(image), _) => return Ok(Outcome::Image(image)),
        (None, Some(spec)) => build(images, spec, report).await?,
        (None, None) => {}
    }
    look().await?.map(Outcome::Image).ok_or_else(|| missing(wanted, may_pull))
}

fn not_pulled(reference: &str, error: &BackendError) -> BackendError {
    let cure = match error.kind() {
        ErrorKind::NotFound | ErrorKind::Denied => {
            "; correct its name, log in to its registry, or load it by hand"
        }
        _ => "",
    };
    let message = format!("image '{reference}' cannot be pulled: {}{cure}", error.message());
    BackendError::new(error.kind(), "pull", message).on(reference)
}

fn missing(wanted: &ImageWanted, was_pulled: bool) -> BackendError {
    let reference = wanted.reference.as_str();
    let message = if was_pulled || wanted.build.is_some() {
        format!(
            "image '{reference}' is not there although it was just made or fetched: ask for a \
             platform that it comes for"
        )
    } else {
        format!(
            "image '{reference}' is not there, and its pull policy forbids to pull it: load it by \
             hand, or allow to pull it"
        )
    };
    BackendError::new(ErrorKind::NotFound, "find image", message).on(reference)
}

/// Pulls for as long as the pull moves.
async fn pull(
    images: &dyn Images,
    reference: &str,
    platform: Option<&str>,
    report: &Report,
) -> Result<()> {
    let (moved, moves) = watch::channel(PullProgress::default());
    let note = move |now: PullProgress| {
        moved.send_replace(now);
    };
    let pull = images.pull(reference, platform, &note);
    match while_it_moves(pull, moves, STALLED, |now| report.say(Preparing::Pull(now))).await {
        Some(pulled) => pulled,
        None => {
            let message = format!("nothing arrived for {STALLED:?}");
            Err(BackendError::new(ErrorKind::Timeout, "pull", message).on(reference))
        }
    }
}

/// Builds for as long as the builder says something.
async fn build(images: &dyn Images, spec: &BuildSpec, report: &Report) -> Result<()> {
    let (moved, moves) = watch::channel(BuildProgress::default());
    let note = move |now: BuildProgress| {
        moved.send_replace(now);
    };
    let build = images.build(spec, &note);
    let name = spec.tags.first().map_or("", String::as_str);
    match while_it_moves(build, moves, SILENT, |now| report.say(Preparing::Build(now))).await {
        Some(Err(error)) => {
            let message = format!("image '{name}' cannot be built: {}", error.message());
            Err(BackendError::new(error.kind(), "build", message).on(name).caused_by(error))
        }
        Some(built) => built,
        None => {
            let message = format!("image '{name}': its build said nothing for {SILENT:?}");
            Err(BackendError::new(ErrorKind::Timeout, "build", message).on(name))
        }
    }
}

/// Waits for `work`, unless it moves nothing for `limit`.
async fn while_it_moves<P: Copy, T>(
    work: impl Future<Output = T>,
    mut moves: watch::Receiver<P>,
    limit: Duration,
    mut say: impl FnMut(P),
) -> Option<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            moved = timeout(limit, moves.changed()) => match moved {
                Ok(_) => {
                    let now = *moves.borrow_and_update();
                    say(now);
                }
                Err(_) => return None,
            }
        }
    }
}

/// Where the progress of a call is told.
struct Report {
    id: CallId,
    to: mpsc::Sender<(CallId, Preparing)>,
}

impl Report {
    /// A full channel only means that nobody needs to know more often.
    fn say(&self, progress: Preparing) {
        let _ = self.to.try_send((self.id, progress));
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
