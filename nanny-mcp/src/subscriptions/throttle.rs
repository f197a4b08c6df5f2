//! When somebody is told of something that changes often: at once, then after a pause, and of the
//! last change always.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// What is to be told, by subject. Pure: the time comes in from outside.
#[derive(Debug)]
pub(super) struct Throttle<K> {
    subjects: BTreeMap<K, Subject>,
}

/// When a subject may be told again, and whether there is anything to tell.
#[derive(Debug)]
struct Subject {
    free_at: Instant,
    due: bool,
}

impl<K: Ord + Clone> Throttle<K> {
    pub(super) fn new() -> Self {
        Self { subjects: BTreeMap::new() }
    }

    /// Something changed: it is told now, or as soon as the last pause is over.
    pub(super) fn note(&mut self, subject: K, now: Instant) {
        let subject = self.subjects.entry(subject).or_insert(Subject { free_at: now, due: false });
        subject.due = true;
    }

    /// It is told at `at`, unless it is about to be told anyway.
    pub(super) fn plan(&mut self, subject: K, at: Instant) {
        let subject = self.subjects.entry(subject).or_insert(Subject { free_at: at, due: false });
        if !subject.due {
            *subject = Subject { free_at: subject.free_at.max(at), due: true };
        }
    }

    /// When there is something to tell.
    pub(super) fn next(&self) -> Option<Instant> {
        self.subjects.values().filter(|subject| subject.due).map(|subject| subject.free_at).min()
    }

    /// What is to be told now. Each is free again after its pause; what was free and silent is
    /// forgotten.
    pub(super) fn take(&mut self, now: Instant, pause: impl Fn(&K) -> Duration) -> Vec<K> {
        let mut told = Vec::new();
        self.subjects.retain(|key, subject| {
            if subject.free_at > now {
                return true;
            }
            if subject.due {
                told.push(key.clone());
                *subject = Subject { free_at: now + pause(key), due: false };
                return true;
            }
            false
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn take(throttle: &mut Throttle<&'static str>, now: Instant) -> Vec<&'static str> {
        throttle.take(now, |_| SECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_at_once_and_the_last_after_a_pause() {
        let began = Instant::now();
        let mut throttle = Throttle::new();
        throttle.note("a", began);
        assert_eq!(throttle.next(), Some(began));
        assert_eq!(take(&mut throttle, began), ["a"]);
        assert_eq!(throttle.next(), None, "nothing has changed since");
        for n in 1..5 {
            throttle.note("a", began + SECOND / 5 * n);
        }
        assert_eq!(throttle.next(), Some(began + SECOND));
        assert!(take(&mut throttle, began + SECOND / 2).is_empty());
        assert_eq!(take(&mut throttle, began + SECOND), ["a"]);
        assert_eq!(throttle.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_subject_does_not_wait_for_another() {
        let began = Instant::now();
        let mut throttle = Throttle::new();
        throttle.note("a", began);
        take(&mut throttle, began);
        throttle.note("b", began);
        assert_eq!(take(&mut throttle, began), ["b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_silence_it_is_told_at_once_and_what_is_silent_is_forgotten() {
        let began = Instant::now();
        let mut throttle = Throttle::new();
        throttle.note("a", began);
        take(&mut throttle, began);
        assert!(take(&mut throttle, began + SECOND).is_empty());
        assert!(throttle.subjects.is_empty());
        throttle.note("a", began + SECOND * 9);
        assert_eq!(throttle.next(), Some(began + SECOND * 9));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_planned_comes_when_it_was_planned_and_once() {
        let began = Instant::now();
        let mut throttle = Throttle::new();
        throttle.plan("a", began + SECOND * 5);
        throttle.plan("a", began + SECOND * 9);
        assert_eq!(throttle.next(), Some(began + SECOND * 5));
        assert!(take(&mut throttle, began + SECOND * 4).is_empty());
        assert_eq!(take(&mut throttle, began + SECOND * 5), ["a"]);
        assert_eq!(throttle.next(), None);
    }
}
