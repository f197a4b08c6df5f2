//! A witness who asks the engine what runs, and nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::http::ask;

/// Looks at an engine every 50 ms, from a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct Observer {
    ended: Arc<AtomicBool>,
    notes: Arc<Mutex<Notes>>,
    thread: Option<JoinHandle<()>>,
}

/// What was up at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Look {
    /// When, since the observer began.
    pub at: Duration,
    /// The Compose projects of all containers that were up, with their containers.
    pub up: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Notes {
    looks: u64,
    last: Option<Look>,
    /// Projects that others started, and until when they may.
    by_hand: BTreeMap<String, Instant>,
    /// Looks at which there were two, both started by those who promised to start one.
    two: Vec<Look>,
}

const PERIOD: Duration = Duration::from_millis(50);
/// A frozen engine does not answer; there is nothing to see then.
const PATIENCE: Duration = Duration::from_secs(1);
const MAX_KEPT: usize = 100;

impl Observer {
    /// Watches the engine behind `socket`. Of the projects that `exclusive` picks, no two may ever
    /// be up.
    pub fn watch(
        socket: impl Into<PathBuf>,
        exclusive: impl Fn(&str) -> bool + Send + 'static,
    ) -> Self {
        let socket = socket.into();
        let (ended, notes) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Notes>>::default());
        let (until, write) = (Arc::clone(&ended), Arc::clone(&notes));
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            while !until.load(Ordering::Relaxed) {
                if let Some(up) = look(&socket) {
                    lock(&write).note(Look { at: began.elapsed(), up }, &exclusive);
                }
                std::thread::sleep(PERIOD);
            }
        });
        Self { ended, notes, thread: Some(thread) }
    }

    /// Says that somebody else is about to start a project: until it is down again, and for the
    /// next minute, it is none of those of which there may be one.
    pub fn by_hand(&self, project: &str) {
        let mut notes = lock(&self.notes);
        notes.by_hand.insert(project.to_owned(), Instant::now() + Duration::from_secs(60));
    }

    /// The last look, if the engine has answered at all.
    #[must_use]
    pub fn last(&self) -> Option<Look> {
        lock(&self.notes).last.clone()
    }

    /// How often the engine has answered.
    #[must_use]
    pub fn looks(&self) -> u64 {
        lock(&self.notes).looks
    }

    /// All looks at which two were up of which there may be one. The first hundred of them.
    #[must_use]
    pub fn two_at_once(&self) -> Vec<Look> {
        lock(&self.notes).two.clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Nobody learns anything from its panic that the test does not say.
            let _ = thread.join();
        }
    }
}

impl Notes {
    fn note(&mut self, look: Look, exclusive: impl Fn(&str) -> bool) {
        self.looks += 1;
        let now = Instant::now();
        self.by_hand.retain(|project, until| look.up.contains_key(project) || *until > now);
        let ours = look
            .up
            .keys()
            .filter(|project| exclusive(project) && !self.by_hand.contains_key(*project));
        if ours.count() > 1 && self.two.len() < MAX_KEPT {
            self.two.push(look.clone());
        }
        self.last = Some(look);
    }
}

fn look(socket: &Path) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let answer = ask(socket, "GET", "/containers/json", PATIENCE).ok()?;
    let listed = answer.json();
    let mut up = BTreeMap::<_, BTreeSet<_>>::new();
    for container in listed.as_array()? {
        let project = container["Labels"]["com.docker.compose.project"].as_str();
        if let (Some(project), Some(id)) = (project, container["Id"].as_str()) {
            up.entry(project.to_owned()).or_default().insert(id.to_owned());
        }
    }
    Some(up)
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(up: &[(&str, &str)]) -> Look {
        let up = up.iter().map(|(project, id)| ((*project).to_owned(), [(*id).to_owned()].into()));
        Look { at: Duration::ZERO, up: up.collect() }
    }

    #[test]
    fn two_are_two_unless_one_was_started_by_hand() {
        let mut notes = Notes::default();
        let exclusive = |project: &str| project != "c";
        notes.note(look(&[("a", "1"), ("c", "3")]), exclusive);
        assert_eq!(notes.two, []);
        notes.note(look(&[("a", "1"), ("b", "2")]), exclusive);
        assert_eq!(notes.two.len(), 1);

        let past = Instant::now();
        notes.by_hand.insert("b".to_owned(), past);
        notes.note(look(&[("a", "1"), ("b", "2")]), exclusive);
        assert_eq!(notes.two.len(), 1);
        notes.note(look(&[("a", "1")]), exclusive);
        notes.note(look(&[("a", "1"), ("b", "2")]), exclusive);
        assert_eq!(notes.two.len(), 2, "the next run of it is another");
    }
}
