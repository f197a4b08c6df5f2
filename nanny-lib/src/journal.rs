//! The journal: the little that no engine can tell us after a crash.
//!
//! Which services should run, and which were being started. Its loss is survivable: what runs is
//! adopted all the same, only what should run and does not is not brought back.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

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
    /// The engine that each of them was on, by name. Until that one has answered, nobody knows
    /// what runs there.
    #[serde(default)]
    pub engines: BTreeMap<ServiceName, String>,
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

/// The journal as it is in its file.
#[derive(Serialize, Deserialize)]
struct Versioned<J> {
    /// Grows when an older nanny would misread what is written. Fields that it does not know are
    /// no reason: it ignores them.
    #[serde(default)]
    version: u32,
    #[serde(flatten)]
    journal: J,
}

const VERSION: u32 = 1;
/// A journal of ten thousand services has 300 KiB.
const LONGEST: u64 = 16 << 20;

/// The state directory, locked: one nanny each.
#[derive(Debug, Clone)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// Held until the last write has ended, even if whoever asked for it has gone.
    lock: Arc<Mutex<File>>,
}

impl StateDir {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    ///
    /// [`Error::StateDir`], naming the process that holds the lock, if one does.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let fail = |reason: io::Error| Error::StateDir {
            path: path.to_owned(),
            reason: reason.to_string(),
        };
        let lock = Arc::new(Mutex::new(lock(path).map_err(fail)?));
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Writes the journal so that a crash leaves the old one or the new one, never a part. If the
    /// directory was removed, it is made anew.
    ///
    /// # Errors
    ///
    /// Whatever the file system says; the old journal is then still there. That another nanny has
    /// the directory, if it was removed and made anew by that one.
    fn write_now(&self, journal: &Journal) -> io::Result<()> {
        // No other write before this one is done, even if nobody waits for it any more.
        let _lock = self.keep_lock()?;
        let next = self.journal().with_extension("json.new");
        let written = self.replace(&next, journal);
        if written.is_err() {
            // What there is of it takes room that others may need.
            let _ = fs::remove_file(&next);
        }
        written
    }

    fn replace(&self, next: &Path, journal: &Journal) -> io::Result<()> {
        let mut file = File::create(next)?;
        file.write_all(&serde_json::to_vec_pretty(&Versioned { version: VERSION, journal })?)?;
        file.sync_all()?;
        fs::rename(next, self.journal())?;
        File::open(&self.path)?.sync_all()
    }

    /// Locks the directory again if the lock in it is not ours any more.
    fn keep_lock(&self) -> io::Result<MutexGuard<'_, File>> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::metadata(self.path.join(LOCK)) {
            Ok(there) if is_same(&there, &held.metadata()?) => return Ok(held),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
        *held = lock(&self.path)?;
        Ok(held)
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
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Journal::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the journal cannot be read");
                return Journal::default();
            }
        };
        parse(&text).unwrap_or_else(|reason| {
            let aside = path.with_extension("json.bad");
            tracing::warn!(
                path = %path.display(), aside = %aside.display(), reason,
                "the journal is of no use; it is put aside and what runs is adopted"
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

const LOCK: &str = "lock";
/// How often, and after what pause, a lock is asked for that somebody has.
const TRIES: usize = 25;
const PAUSE: Duration = Duration::from_millis(20);

/// Whoever was begun by a nanny that has just been killed has its lock until it becomes a program of
/// its own.
#[expect(
    clippy::disallowed_methods,
    reason = "it is asked for before anything runs, or on a thread"
)]
fn try_for_a_while(lock: &File) -> Result<(), TryLockError> {
    for _ in 1..TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            done => return done,
        }
    }
    lock.try_lock()
}

/// Makes the directory if it is not there, and locks it.
fn lock(directory: &Path) -> io::Result<File> {
    fs::create_dir_all(directory).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            io::Error::new(error.kind(), "it is not a directory")
        }
        _ => error,
    })?;
    let path = directory.join(LOCK);
    let mut lock =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match try_for_a_while(&lock) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Without the number the message is less helpful, not wrong.
            let _ = lock.read_to_string(&mut holder);
            let holder = holder.trim();
            return Err(io::Error::other(format!("another nanny uses it (process {holder})")));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut sign = || -> io::Result<()> {
        lock.set_len(0)?;
        lock.rewind()?;
        write!(lock, "{}", std::process::id())
    };
    if let Err(error) = sign() {
        // A full disk, most likely; the lock holds all the same.
        tracing::warn!(directory = %directory.display(), %error, "the lock cannot be signed");
    }
    Ok(lock)
}

#[cfg(unix)]
fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    // Nobody can remove a file that is open.
    true
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The journal in a file, or why there is none.
fn parse(text: &[u8]) -> Result<Journal, String> {
    if text.len() as u64 > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    let read = serde_json::from_slice(text).map_err(|error| error.to_string());
    let Versioned::<serde_json::Value> { version, journal } = read?;
    if version > VERSION {
        return Err(format!("a newer nanny wrote it, in version {version}"));
    }
    serde_json::from_value(journal).map_err(|error| error.to_string())
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
        let journal = Journal {
            boot: "x".into(),
            services: [(name, Entry::Running)].into_iter().collect(),
            ..Journal::default()
        };
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

    fn written_as(text: impl AsRef<[u8]>) -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(dir.path()).expect("it is new");
        fs::write(state.journal(), text).expect("it is ours");
        (dir, state)
    }

    fn running(service: &str) -> Journal {
        let name = ServiceName::new(service).expect("a name");
        Journal {
            boot: "x".into(),
            services: [(name, Entry::Running)].into_iter().collect(),
            ..Journal::default()
        }
    }

    #[test]
    fn a13_a_damaged_journal_is_put_aside() {
        let (dir, state) = written_as("{\"boot\": ");
        assert_eq!(state.read(), Journal::default());
        let aside = fs::read_to_string(dir.path().join("journal.json.bad")).unwrap();
        assert_eq!(aside, "{\"boot\": ");
    }

    #[test]
    fn a13_a_journal_without_end_is_put_aside() {
        let (dir, state) = written_as("");
        File::options().write(true).open(state.journal()).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(state.read(), Journal::default());
        assert!(dir.path().join("journal.json.bad").exists());
    }

    #[test]
    fn a13_a_journal_of_a_later_version_is_put_aside() {
        let later = r#"{"version": 2, "boot": "x", "services": {"a": "running"}}"#;
        let (dir, state) = written_as(later);
        assert_eq!(state.read(), Journal::default());
        // The newer nanny finds its own again, by hand at least.
        assert_eq!(fs::read_to_string(dir.path().join("journal.json.bad")).unwrap(), later);
    }

    #[test]
    fn a14_journals_of_older_and_newer_nannies_are_read_by_turns() {
        // From before there were versions; and one with fields that nobody here knows.
        for text in [
            r#"{"boot": "x", "services": {"a": "running"}}"#,
            r#"{"version": 1, "boot": "x", "services": {"a": "running"}, "gpus": {"a": [0]}}"#,
        ] {
            let (_dir, state) = written_as(text);
            assert_eq!(state.read(), running("a"), "{text}");
            state.write_now(&running("b")).unwrap();
            assert_eq!(state.read(), running("b"));
            let written: serde_json::Value =
                serde_json::from_slice(&fs::read(state.journal()).unwrap()).unwrap();
            // Where those from before versions look for it.
            assert_eq!(written["services"]["b"], "running");
            assert_eq!(written["version"], 1);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn a13_whatever_is_in_the_file_a_nanny_starts_and_writes_anew(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            cut in 0..200_usize,
        ) {
            let whole = serde_json::to_vec(&Versioned { version: VERSION, journal: running("a") });
            let mut whole = whole.unwrap();
            for text in [bytes.clone(), whole[..cut.min(whole.len())].to_vec(), {
                let at = cut % whole.len();
                whole.splice(at..at, bytes.iter().copied().take(3));
                whole
            }] {
                let (_dir, state) = written_as(&text);
                let read = state.read();
                assert_eq!(state.journal().exists(), parse(&text).is_ok());
                assert!(state.journal().exists() || read == Journal::default());
                state.write_now(&running("b")).unwrap();
                assert_eq!(state.read(), running("b"));
            }
        }
    }

    #[test]
    fn h11_a_directory_that_was_removed_is_made_anew_and_locked() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let state = StateDir::open(&path).unwrap();
        state.write_now(&running("a")).unwrap();
        fs::remove_dir_all(&path).unwrap();
        state.write_now(&running("b")).unwrap();
        assert_eq!(state.read(), running("b"));
        let error = StateDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("another nanny"), "{error}");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "so that it is asked for in vain before")]
    fn a_lock_that_is_let_go_of_in_a_moment_is_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let holder = lock(root.path()).unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| StateDir::open(root.path()).map(drop));
            thread::sleep(5 * PAUSE);
            drop(holder);
            waits.join().unwrap().unwrap();
        });
    }

    #[test]
    fn h11_a_directory_that_another_nanny_made_anew_is_left_to_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let first = StateDir::open(&path).unwrap();
        fs::remove_dir_all(&path).unwrap();
        let second = StateDir::open(&path).unwrap();
        second.write_now(&running("b")).unwrap();
        let error = first.write_now(&running("a")).unwrap_err().to_string();
        assert!(error.contains("another nanny"), "{error}");
        assert_eq!(second.read(), running("b"));
    }
}
