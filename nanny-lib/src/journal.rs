//! The journal: the little that no engine can tell us after a crash.
//!
//! Which services should run, and which were being started. Its loss is survivable: what runs is
//! adopted all the same, only what should run and does not is not brought back.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::name::ServiceName;

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Journal {
    /// The machine's boot it was written in: after a reboot, exits are nobody's doing.
    #[serde(default)]
    pub boot: String,
    /// What should be, by service.
    #[serde(default)]
    pub services: BTreeMap<ServiceName, Entry>,
}

/// What should be of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Entry {
    /// It was being started.
    Starting,
    /// It should run.
    Running,
    /// It was being stopped.
    Stopping,
}

/// Where a journal is kept. A directory, [`Builder::state_dir`](crate::Builder::state_dir), is what
/// nearly everybody wants; this is for those who keep state elsewhere, and for tests.
///
/// One nanny at a time may use a store.
#[async_trait]
pub trait JournalStore: fmt::Debug + Send + Sync + 'static {
    /// What was written last; empty if nothing was, or if it cannot be read. Called once, before
    /// anything else is done.
    fn read(&self) -> Journal;

    /// Replaces what was written before. Whatever happens, the old journal or the new one is there
    /// afterwards, never a part. Writes are never under way two at a time.
    ///
    /// *Cancellation.* The nanny may be killed at any point of it.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being written; the nanny goes on without.
    async fn write(&self, journal: &Journal) -> io::Result<()>;
}

/// The state directory, locked: one nanny each.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// Held until the last write has ended, even if whoever asked for it has gone.
    _lock: Arc<File>,
}

impl StateDir {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    ///
    /// [`Error::StateDir`], naming the process that holds the lock, if one does.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |reason: String| Error::StateDir { path: path.to_owned(), reason };
        fs::create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                fail("it is not a directory".to_owned())
            }
            _ => fail(error.to_string()),
        })?;
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"));
        let mut lock = open.map_err(|error| fail(error.to_string()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Without the number the message is less helpful, not wrong.
                let _ = lock.read_to_string(&mut holder);
                let holder = holder.trim();
                return Err(fail(format!("another nanny uses it (process {holder})")));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error.to_string())),
        }
        let mut write = || -> io::Result<()> {
            lock.set_len(0)?;
            lock.rewind()?;
            write!(lock, "{}", std::process::id())
        };
        write().map_err(|error| fail(error.to_string()))?;
        Ok(Self { path: path.to_owned(), _lock: Arc::new(lock) })
    }

    /// Writes the journal so that a crash leaves the old one or the new one, never a part.
    ///
    /// # Errors
    ///
    /// Whatever the file system says; the old journal is then still there.
    fn write_now(&self, journal: &Journal) -> io::Result<()> {
        let path = self.journal();
        let next = path.with_extension("json.new");
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec_pretty(journal)?)?;
        file.sync_all()?;
        fs::rename(&next, &path)?;
        File::open(&self.path)?.sync_all()
    }

    fn journal(&self) -> PathBuf {
        self.path.join("journal.json")
    }
}

#[async_trait]
impl JournalStore for StateDir {
    /// Reads the journal. One that cannot be read is put aside under another name, and is empty.
    fn read(&self) -> Journal {
        let path = self.journal();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Journal::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the journal cannot be read");
                return Journal::default();
            }
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            let aside = path.with_extension("json.bad");
            tracing::warn!(
                path = %path.display(), aside = %aside.display(), %error,
                "the journal is damaged; it is put aside and what runs is adopted"
            );
            if let Err(error) = fs::rename(&path, &aside) {
                tracing::warn!(path = %path.display(), %error, "and cannot be put aside");
            }
            Journal::default()
        })
    }

    async fn write(&self, journal: &Journal) -> io::Result<()> {
        let (state, journal) = (self.clone(), journal.clone());
        tokio::task::spawn_blocking(move || state.write_now(&journal)).await?
    }
}

/// The identifier of the machine's current boot; empty where the system has none.
pub(crate) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let name = ServiceName::new("a").unwrap();
        let journal =
            Journal { boot: "x".into(), services: [(name, Entry::Running)].into_iter().collect() };
        state.write_now(&journal).unwrap();
        assert_eq!(state.read(), journal);
    }

    #[test]
    fn a_second_nanny_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let _first = StateDir::open(dir.path()).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
    }

    #[test]
    fn a13_a_damaged_journal_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::write(dir.path().join("journal.json"), "{\"boot\": ").unwrap();
        assert_eq!(state.read(), Journal::default());
        assert!(dir.path().join("journal.json.bad").exists());
    }
}
