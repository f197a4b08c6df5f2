//! The directory of all containers.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nanny_lib::ContainerId;
use nanny_lib::backend::{BackendError, ContainerInfo, Result, Selector};

use crate::error::{conflict, from_io, not_found, timed_out};
use crate::home::{Home, Life, Sight, create_private};
use crate::record::Record;
use crate::spec::Saved;

/// All containers beneath one directory.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    /// Specs never change: each is read once.
    specs: Mutex<HashMap<ContainerId, Arc<Saved>>>,
}

/// A container, as it is found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) info: ContainerInfo,
    pub(crate) record: Record,
    pub(crate) life: Life,
    pub(crate) names_gpus: bool,
    pub(crate) memory_limit_bytes: Option<u64>,
}

/// Which file, and when it was written: that of the record, and that of the name.
pub(crate) type Stamp = ((u64, i64, i64), (u64, i64, i64));

/// How long names may be in somebody else's hands.
const LOCK: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(3);
/// Directories that are being made, or taken away.
const NEW: &str = ".new-";
const GONE: &str = ".gone-";

impl Store {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, specs: Mutex::default() }
    }

    /// Makes the directory, if it is not there.
    pub(crate) fn open(&self) -> io::Result<()> {
        if self.root.is_dir() {
            return Ok(());
        }
        if let Some(above) = self.root.parent() {
            fs::create_dir_all(above)?;
        }
        match create_private(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// The directory of `id`, if there can be one.
    pub(crate) fn home(&self, operation: &'static str, id: &ContainerId) -> Result<Home> {
        let is_one = |id: &str| id.len() == 2 * ID_BYTES && id.bytes().all(is_digit);
        if is_one(id.as_str()) {
            Ok(Home::new(&self.root, id))
        } else {
            Err(not_found(operation, id))
        }
    }

    /// The spec of `home`; `None` if it cannot be read.
    pub(crate) fn saved(&self, home: &Home) -> Option<Arc<Saved>> {
        let specs = || self.specs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(saved) = specs().get(&home.id) {
            return Some(Arc::clone(saved));
        }
        match home.saved() {
            Ok(saved) => Some(Arc::clone(specs().entry(home.id.clone()).or_insert(saved.into()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(container = %home.id, %error, "the spec of a process is damaged");
                None
            }
        }
    }

    /// How `home` is now.
    pub(crate) fn look(&self, operation: &'static str, home: &Home) -> Result<Sight> {
        home.look().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_found(operation, &home.id),
            _ => from_io(operation, home.id.as_str(), "its record", &error),
        })
    }

    /// All that is known of `home` now.
    pub(crate) fn find(&self, operation: &'static str, home: &Home) -> Result<Found> {
        let sight = self.look(operation, home)?;
        let saved = self.saved(home);
        let info = home.info(&sight, saved.as_deref()).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => not_found(operation, &home.id),
            _ => from_io(operation, home.id.as_str(), "its name", &error),
        })?;
        let names_gpus = saved.as_ref().is_some_and(|saved| saved.names_gpus);
        let memory_limit_bytes = saved.and_then(|saved| saved.bounds.memory_bytes);
        Ok(Found { info, record: sight.record, life: sight.life, names_gpus, memory_limit_bytes })
    }

    /// All containers, each with what is another value once it was written about.
    pub(crate) fn stamps(&self) -> io::Result<Vec<(Home, Stamp)>> {
        let stamp = |home: Home| {
            let of = |file: &str| {
                let it = fs::metadata(home.path.join(file)).ok()?;
                Some((it.ino(), it.mtime(), it.mtime_nsec()))
            };
            let stamp = (of("run")?, of("name")?);
            Some((home, stamp))
        };
        Ok(self.homes()?.into_iter().filter_map(stamp).collect())
    }

    pub(crate) fn list(&self, operation: &'static str, selector: &Selector) -> Result<Vec<Found>> {
        let homes = self.homes().map_err(|error| {
            from_io(operation, &self.root.to_string_lossy(), "the directory cannot be read", &error)
        })?;
        let mut specs = self.specs.lock().unwrap_or_else(PoisonError::into_inner);
        specs.retain(|id, _| homes.iter().any(|home| home.id == *id));
        drop(specs);
        // What cannot be read is no reason to hide the others; nor is what has just gone.
        let found = homes.iter().filter_map(|home| match self.find(operation, home) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == nanny_lib::backend::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(container = %home.id, %error, "a process cannot be looked at");
                None
            }
        });
        Ok(found.filter(|found| selector.picks(&found.info.labels)).collect())
    }

    /// Creates a container: all of it, or nothing.
    pub(crate) fn create(&self, name: &str, saved: &Saved, _names: &Names) -> Result<ContainerId> {
        self.name_is_free("create", name, None)?;
        let id = new_id().map_err(|error| from_io("create", name, "no identifier", &error))?;
        let (home, new) = (Home::new(&self.root, &id), self.root.join(format!("{NEW}{id}")));
        let draft = Home { id: id.clone(), path: new.clone() };
        let made = draft.furnish(name, saved).and_then(|()| fs::rename(&new, &home.path));
        if let Err(error) = made {
            let _ = fs::remove_dir_all(new);
            return Err(from_io("create", name, "it cannot be kept", &error));
        }
        Ok(id)
    }

    /// Gives `home` another name.
    pub(crate) fn rename(&self, home: &Home, name: &str, _names: &Names) -> Result<()> {
        self.look("rename", home)?;
        self.name_is_free("rename", name, Some(&home.id))?;
        home.rename(name).map_err(|error| from_io("rename", name, "it cannot be kept", &error))
    }

    /// Takes the directory of `home` away, with all that is in it.
    pub(crate) fn clear(&self, home: &Home) -> io::Result<()> {
        home.leave_group();
        let gone = self.root.join(format!("{GONE}{}", home.id));
        fs::rename(&home.path, &gone)?;
        fs::remove_dir_all(gone)
    }

    /// The right to give names, which one has at a time. Whoever had it last may have left
    /// something half-done.
    pub(crate) async fn names(&self, operation: &'static str, subject: &str) -> Result<Names> {
        let failed = |error| from_io(operation, subject, "the names cannot be locked", &error);
        self.open().map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.root.join("lock")).map_err(failed)?;
        let locked = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_AGAIN).await,
                    Err(TryLockError::Error(error)) => return Err(failed(error)),
                }
            }
        };
        let late = |_| timed_out(operation, subject, "somebody else is giving names");
        tokio::time::timeout(LOCK, locked).await.map_err(late)??;
        Ok(Names(file))
    }

    /// Takes away what was left half-made.
    pub(crate) fn tidy(&self, _names: &Names) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(NEW) || name.starts_with(GONE) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    fn name_is_free(
        &self,
        operation: &'static str,
        name: &str,
        but: Option<&ContainerId>,
    ) -> Result<(), BackendError> {
        let unread = |error| from_io(operation, name, "the names cannot be read", &error);
        let mut others = self.homes().map_err(unread)?.into_iter();
        match others.find(|home| Some(&home.id) != but && home.name().is_ok_and(|it| it == name)) {
            Some(home) => Err(conflict(operation, name, format!("{} has that name", home.id))),
            None => Ok(()),
        }
    }

    fn homes(&self) -> io::Result<Vec<Home>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut homes = Vec::new();
        for entry in entries {
            let id = ContainerId::new(entry?.file_name().to_string_lossy().into_owned());
            homes.extend(self.home("list", &id));
        }
        Ok(homes)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// The right to give names, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Names(#[expect(dead_code, reason = "it is held, and let go of")] File);

const ID_BYTES: usize = 16;

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn new_id() -> io::Result<ContainerId> {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(ContainerId::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}
