//! A directory of service directories.

mod project;
mod scan;
mod twins;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_core::stream::BoxStream;
use tokio::sync::watch as channel;
use tokio::task::JoinSet;

use self::scan::Found;
use self::watch::Places;
use super::{Changed, Discovery, ManifestSource, Problem};

/// Finds services beneath one directory: each subdirectory with a `service.yaml` is one.
///
/// Names that begin with `_` or `.`, and `service-nanny`, are skipped. A service directory may be
/// a link; what its manifest names as `compose_file` and `working_dir` must lie inside it. The
/// Compose file is `docker-compose.yml` (or another of Compose's names) if the manifest does not
/// say. A manifest with a `command` needs none.
///
/// Two manifests with one name, or with one Compose project, are a problem of both, and neither is
/// found.
///
/// ```no_run
/// use nanny_lib::manifest::{DirectorySource, ManifestSource};
///
/// # async fn example() {
/// let source = DirectorySource::new("services").home("/home/me");
/// for problem in source.discover().await.problems {
///     eprintln!("{problem}"); // services/chat/service.yaml:3:10: 'vram_gb' must be …
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DirectorySource {
    paths: Arc<Paths>,
    settings: Arc<Settings>,
    places: Arc<channel::Sender<Arc<Places>>>,
}

impl DirectorySource {
    /// The services beneath `root`, which problems will call as it is given here.
    ///
    /// Variables in Compose files come from the environment of this process, as it is now, less
    /// `NANNY_*` and `COMPOSE_PROJECT_NAME`; `~` is its `HOME`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let environment = inherited(std::env::vars_os());
        let home = environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let settings = Settings { home, environment, protected: BTreeSet::new() };
        Self {
            paths: Arc::new(Paths::new(root.into())),
            settings: Arc::new(settings),
            places: Arc::new(channel::Sender::new(Arc::default())),
        }
    }

    /// What `~` is in Compose files.
    #[must_use]
    pub fn home(mut self, home: impl Into<PathBuf>) -> Self {
        Arc::make_mut(&mut self.settings).home = Some(home.into());
        self
    }

    /// The variables that Compose files may use, instead of this process's own.
    #[must_use]
    pub fn environment<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Arc::make_mut(&mut self.settings).environment = variables.collect();
        self
    }

    /// A Compose project that services may be part of and that must be left alone: our own.
    #[must_use]
    pub fn protect_project(mut self, name: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.settings).protected.insert(name.into());
        self
    }

    /// Reads all directories, a few at a time.
    async fn scan(&self, directories: Vec<OsString>) -> Vec<Found> {
        let queue = Arc::new(Queue { directories, next: AtomicUsize::new(0) });
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let mut running = JoinSet::new();
        for _ in 0..workers {
            let (queue, paths) = (Arc::clone(&queue), Arc::clone(&self.paths));
            let settings = Arc::clone(&self.settings);
            running.spawn_blocking(move || queue.work(&paths, &settings));
        }
        running.join_all().await.into_iter().flatten().collect()
    }
}

#[async_trait]
impl ManifestSource for DirectorySource {
    async fn discover(&self) -> Discovery {
        let paths = Arc::clone(&self.paths);
        let listed =
            tokio::task::spawn_blocking(move || scan::service_directories(&paths.absolute));
        let listed = match listed.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(listed) => listed,
            Err(error) => {
                let root = &self.paths.shown;
                let message = format!(
                    "the directory of services cannot be read: {error}; \
                     make it, or name another"
                );
                return Discovery::new(Vec::new(), vec![Problem::new(root, root, (1, 1), message)]);
            }
        };
        let names = listed.iter().filter_map(|path| path.file_name().map(ToOwned::to_owned));
        let mut problems = Vec::new();
        let mut manifests = Vec::new();
        let mut unreadable = Vec::new();
        let mut files = Vec::new();
        for found in self.scan(names.collect()).await {
            problems.extend(found.problems);
            manifests.extend(found.manifest);
            unreadable.extend(found.unreadable);
            files.extend(found.files);
        }
        let places = tokio::task::spawn_blocking(move || Places::new(files));
        if let Ok(places) = places.await {
            self.places.send_if_modified(|known| {
                let differs = **known != places;
                *known = Arc::new(places);
                differs
            });
        }
        manifests.sort_by(|a, b| a.file.cmp(&b.file));
        let manifests = twins::refuse_same_name(manifests, &mut problems);
        let manifests = twins::refuse_same_project(manifests, &mut problems);
        problems.sort_by(|a, b| (&a.path, a.line, a.column).cmp(&(&b.path, b.line, b.column)));
        let services = manifests.into_iter().filter_map(|found| found.service).collect();
        Discovery { unreadable, ..Discovery::new(services, problems) }
    }

    fn watch(&self) -> BoxStream<'static, Changed> {
        watch::changes(self.paths.absolute.clone(), &self.places)
    }
}

/// How many directories are read at once.
const MAX_WORKERS: usize = 8;

/// Directories that wait to be read; every worker takes the next one.
struct Queue {
    directories: Vec<OsString>,
    next: AtomicUsize,
}

impl Queue {
    fn work(&self, paths: &Paths, settings: &Settings) -> Vec<Found> {
        let next = || self.directories.get(self.next.fetch_add(1, Ordering::Relaxed));
        let mut all = Vec::new();
        while let Some(directory) = next() {
            // What one hostile file does to a parser must not hide the other services.
            let found = catch_unwind(AssertUnwindSafe(|| scan::read(paths, directory, settings)));
            all.push(found.unwrap_or_else(|_| crashed(paths, directory)));
        }
        all
    }
}

fn crashed(paths: &Paths, directory: &OsStr) -> Found {
    let origin = paths.shown.join(directory);
    let message = "reading this service's files crashed, which is a fault of the nanny; report it";
    let problem = Problem::new(&origin, &origin, (1, 1), message);
    Found { problems: vec![problem], ..Found::default() }
}

/// The root, as the user calls it and as the system does.
#[derive(Debug, Clone)]
struct Paths {
    shown: PathBuf,
    /// Absolute and clean, links kept.
    absolute: PathBuf,
}

impl Paths {
    fn new(shown: PathBuf) -> Self {
        // It fails only where there is no current directory, and then nothing relative is found.
        let absolute = std::path::absolute(&shown).unwrap_or_else(|_| shown.clone());
        Self { shown, absolute: clean(&absolute) }
    }

    /// `path` as the user calls it, if it lies beneath the root.
    fn shown(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.absolute)
            .map_or_else(|_| path.to_owned(), |rest| self.shown.join(rest))
    }
}

/// Without `.` and `..`, by name only: that is how Compose finds a project's directory.
fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut clean, component| {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
        clean
    })
}

/// What the user may set.
#[derive(Clone)]
struct Settings {
    home: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    protected: BTreeSet<String>,
}

impl Settings {
    fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }
}

/// What of the process's own variables Compose files may use. An ambient project name would merge
/// all services into one project.
fn inherited(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> BTreeMap<String, String> {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let ours = |name: &str| name.starts_with("NANNY_") || name == "COMPOSE_PROJECT_NAME";
    variables.into_iter().filter_map(text).filter(|(name, _)| !ours(name)).collect()
}

/// Without the values of variables.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { home, environment, protected } = self;
        f.debug_struct("Settings")
            .field("home", home)
            .field("environment", &environment.keys())
            .field("protected", protected)
            .finish()
    }
}

#[cfg(test)]
mod tests;
