//! Noticing that files changed: inotify where it works, a look now and then everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_core::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::scan::{COMPOSE_NAMES, MANIFEST_NAMES, is_skipped, service_directories};
use crate::manifest::Changed;

/// Where files are that say what services there are. Every path is canonical, because the engine
/// of the watcher reports each directory under one name only.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Files that were read or looked for.
    files: BTreeSet<PathBuf>,
}

impl Places {
    /// The places of `files`, which need not exist.
    pub(super) fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        // A file may be a link: an edit of its target counts as much as a change of the link.
        let both = |file: PathBuf| {
            let target = file.canonicalize().ok();
            let parent = file.parent().and_then(|parent| parent.canonicalize().ok());
            let link = parent.and_then(|parent| Some(parent.join(file.file_name()?)));
            target.into_iter().chain(link)
        };
        Self { files: files.into_iter().flat_map(both).collect() }
    }

    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().filter_map(|file| file.parent()).map(Path::to_owned)
    }
}

/// Yields when something changed beneath `root` or at one of the places.
///
/// Everything that changes after this function has returned is noticed. Whoever holds `places`'
/// sender publishes where to look; as long as nobody does, the standard names count.
pub(super) fn changes(
    root: PathBuf,
    places: &Arc<watch::Sender<Arc<Places>>>,
) -> BoxStream<'static, Changed> {
    let watching = Watching::start(root, Arc::clone(places));
    stream::unfold(watching, |mut watching| async {
        watching.changed().await;
        Some((Changed, watching))
    })
    .boxed()
}

/// A burst of events ends when nothing more happens for this long …
const QUIET: Duration = Duration::from_millis(300);
/// … or when it has gone on for this long.
const BURST: Duration = Duration::from_secs(1);
/// How often to look where every directory is watched: network file systems tell nobody.
const SLOW_POLL: Duration = Duration::from_secs(30);
/// How often to look where some directory is not watched.
const FAST_POLL: Duration = Duration::from_secs(5);

struct Watching {
    watches: Watches,
    hints: mpsc::Receiver<()>,
    places: watch::Receiver<Arc<Places>>,
    next_poll: Instant,
    // Keeps the channel of places open, also when its source is gone.
    _publisher: Arc<watch::Sender<Arc<Places>>>,
}

impl Watching {
    fn start(root: PathBuf, publisher: Arc<watch::Sender<Arc<Places>>>) -> Self {
        let places = publisher.subscribe();
        let (hint, hints) = mpsc::channel(1);
        let mut watches = Watches::new(root, publisher.subscribe(), hint);
        watches.update(&publisher.borrow().clone());
        let next_poll = Instant::now() + watches.poll_interval();
        Self { watches, hints, places, next_poll, _publisher: publisher }
    }

    /// Waits until it is worth looking. The stream keeps the future until it is done: while it
    /// brings the watches up to date, it is the only one who has them.
    async fn changed(&mut self) {
        loop {
            let reason = tokio::select! {
                Some(()) = self.hints.recv() => Reason::Event,
                Ok(()) = self.places.changed() => Reason::Places,
                () = sleep_until(self.next_poll) => Reason::Poll,
            };
            if reason == Reason::Event {
                self.settle().await;
            }
            self.update().await;
            if reason != Reason::Places {
                self.next_poll = Instant::now() + self.watches.poll_interval();
                return;
            }
        }
    }

    async fn settle(&mut self) {
        let end = Instant::now() + BURST;
        while Instant::now() < end {
            let quiet = end.min(Instant::now() + QUIET);
            let Ok(Some(())) = timeout_at(quiet, self.hints.recv()).await else {
                return;
            };
        }
    }

    /// Brings the watches up to date, on a thread that may block. If that thread panics, the watches
    /// are gone and looking every few seconds remains.
    async fn update(&mut self) {
        let places = Arc::clone(&self.places.borrow_and_update());
        let mut watches = std::mem::take(&mut self.watches);
        let updated = tokio::task::spawn_blocking(move || {
            watches.update(&places);
            watches
        });
        if let Ok(watches) = updated.await {
            self.watches = watches;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Event,
    Places,
    Poll,
}

/// The directories that are watched, each without what is beneath it.
#[derive(Default)]
struct Watches {
    root: PathBuf,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Identity>,
    degraded: bool,
}

/// Tells a directory from another that took its name.
type Identity = (u64, Option<SystemTime>);

impl Watches {
    fn new(root: PathBuf, places: watch::Receiver<Arc<Places>>, hint: mpsc::Sender<()>) -> Self {
        let canonical = root.canonicalize().unwrap_or_else(|_| root.clone());
        let on_event = move |event: notify::Result<Event>| {
            let matters = match event {
                Ok(event) => matters(&event, &canonical, &places.borrow().files),
                Err(_) => true,
            };
            if matters {
                // Full means that a hint waits already.
                let _ = hint.try_send(());
            }
        };
        let mut watches = Self { root, ..Self::default() };
        match notify::recommended_watcher(on_event) {
            Ok(watcher) => watches.watcher = Some(watcher),
            Err(error) => watches.degrade(&error),
        }
        watches
    }

    fn poll_interval(&self) -> Duration {
        if self.degraded || self.watched.is_empty() { FAST_POLL } else { SLOW_POLL }
    }

    /// Watches what there is now, and nothing else.
    fn update(&mut self, places: &Places) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let services = service_directories(&self.root).unwrap_or_default();
        let wanted =
            services.iter().chain([&self.root]).filter_map(|path| path.canonicalize().ok());
        let wanted: BTreeMap<_, _> = wanted
            .chain(places.directories())
            .filter_map(|path| identity(&path).map(|identity| (path, identity)))
            .collect();
        self.watched.retain(|path, identity| {
            let keep = wanted.get(path) == Some(identity);
            if !keep {
                // It may be gone already, and its watch with it.
                let _ = watcher.unwatch(path);
            }
            keep
        });
        let mut failure = None;
        for (path, identity) in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path, identity);
                }
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => self.degrade(&error),
            None => self.degraded = false,
        }
    }

    fn degrade(&mut self, error: &notify::Error) {
        if !self.degraded {
            let seconds = FAST_POLL.as_secs();
            tracing::warn!(%error, "cannot watch every directory; looking every {seconds} s instead");
        }
        self.degraded = true;
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_dir)?;
    Some((metadata.ino(), metadata.created().ok()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_dir)?;
    Some((0, metadata.created().ok()))
}

/// Whether an event may change what is found. Service directories are busy places: models, logs
/// and databases lie beside the few files that count.
fn matters(event: &Event, root: &Path, files: &BTreeSet<PathBuf>) -> bool {
    let changes = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    };
    let counts = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        let is_entry = path.parent() == Some(root) && !is_skipped(name);
        let is_standard = MANIFEST_NAMES.iter().chain(COMPOSE_NAMES).any(|known| name == *known);
        is_entry || is_standard || name == ".env" || path == root || files.contains(path)
    };
    event.need_rescan() || (changes && event.paths.iter().any(counts))
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, ModifyKind};

    use super::*;

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(path.into())
    }

    #[test]
    fn only_files_that_count_matter() {
        let root = Path::new("/srv");
        let files = BTreeSet::from([PathBuf::from("/shared/common.env")]);
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        for (path, expected) in [
            ("/srv/chat/service.yaml", true),
            ("/srv/chat/docker-compose.yml", true),
            ("/srv/chat/.env", true),
            ("/shared/common.env", true),
            ("/srv/new", true),
            ("/srv/.tmp", false),
            ("/srv/chat/server.log", false),
            ("/shared/other.env", false),
        ] {
            assert_eq!(matters(&event(written, path), root, &files), expected, "{path}");
        }
    }

    #[test]
    fn reading_is_no_change_and_an_overflow_is_one() {
        let (root, files) = (Path::new("/srv"), BTreeSet::new());
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Read));
        assert!(!matters(&event(opened, "/srv/chat/service.yaml"), root, &files));
        let made = EventKind::Create(CreateKind::Folder);
        assert!(matters(&event(made, "/srv/chat"), root, &files));
        let overflow = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        assert!(matters(&overflow, root, &files));
    }
}
