//! Health checks where Podman does not run them: it leaves that to timers of systemd.
//!
//! A task for each running container that has a check runs it on its interval, unless somebody else
//! has. That goes for all that are looked at, whoever made them: what runs already is adopted with its
//! check. Podman itself keeps the results. The tasks end with their containers, and all of them with
//! the backend.
//!
//! Podman 4 gives a check that hangs no end, and leaves its process in the container. So each that
//! does not come back doubles the time to the next, up to ten minutes, until one comes back or the
//! container is started again.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nanny_lib::ContainerId;
use nanny_lib::backend::ErrorKind;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backend::inspect;
use crate::connection::Connection;
use crate::convert::{Inspected, is_within};

/// The checks that are seen to.
#[derive(Debug)]
pub(crate) struct HealthChecks {
    connection: Arc<Connection>,
    tended: Mutex<HashMap<ContainerId, Tended>>,
}

#[derive(Debug)]
struct Tended {
    task: AbortHandle,
    /// How many runs in a row did not come back.
    stuck: Arc<AtomicU32>,
    retries: u32,
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Added to the time that a check may take, after which Podman itself gives it up.
const SLACK: Duration = Duration::from_secs(10);
/// The first result of somebody else may be so late, at least and at most: systemd's comes at once.
const LATE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));
/// And so late may the next one be, as long as it takes besides. The interval of systemd begins
/// when a check has ended, and ends within a second.
const LATE_AGAIN: Duration = Duration::from_secs(3);
/// How rarely a check is tried that gets stuck, unless its interval is longer.
const MAX_PAUSE: Duration = Duration::from_secs(600);
/// However long an interval is: clocks have an end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// However short an interval is.
const MIN_WAIT: Duration = Duration::from_millis(200);

impl HealthChecks {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, tended: Mutex::default() }
    }

    /// Sees to the check of `container` from now on, if it has one and runs.
    pub(crate) fn see_to(&self, container: &Inspected) {
        let id = container.id();
        let mut tended = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(check) = container.check() else {
            tended.remove(&id);
            return;
        };
        if tended.get(&id).is_some_and(|tended| !tended.task.is_finished()) {
            return;
        }
        let stuck = Arc::<AtomicU32>::default();
        let run = tend(Arc::clone(&self.connection), id.clone(), Arc::clone(&stuck));
        let task = tokio::spawn(run).abort_handle();
        tended.insert(id, Tended { task, stuck, retries: check.retries });
    }

    pub(crate) fn forget_all_but(&self, ids: &HashSet<ContainerId>) {
        let mut tended = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
        tended.retain(|id, _| ids.contains(id));
    }

    /// Whether its checks do not come back, as often as they may fail.
    pub(crate) fn are_stuck(&self, id: &ContainerId) -> bool {
        let tended = self.tended.lock().unwrap_or_else(PoisonError::into_inner);
        let tended = tended.get(id);
        tended.is_some_and(|tended| tended.stuck.load(Ordering::Relaxed) >= tended.retries)
    }
}

/// Runs the check of `id` until it does not run any more.
async fn tend(connection: Arc<Connection>, id: ContainerId, stuck: Arc<AtomicU32>) {
    // The result that we have seen last, and whether it was ours.
    let mut ours = None;
    // The run whose checks are counted, and when the next may be tried after one that got stuck.
    let (mut run, mut again) = (None, Instant::now());
    loop {
        let container = match inspect(&connection, "health check", &id).await {
            Ok(container) => container,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(_) => {
                tokio::time::sleep(SLACK).await;
                continue;
            }
        };
        let Some(check) = container.check() else { return };
        if run != container.started_at() {
            run = container.started_at();
            stuck.store(0, Ordering::Relaxed);
            again = Instant::now();
        }
        let rest = again.saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            tokio::time::sleep(rest.min(SLACK)).await;
            continue;
        }
        let last = container.last_checked();
        let wait = check.interval.saturating_add(lateness(check.interval, last, ours));
        let now = Timestamp::now();
        if let Some(since) = last.map(|(end, _)| end).or(container.started_at())
            && is_within(since, now, wait)
        {
            let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            tokio::time::sleep(wait.saturating_sub(passed).max(MIN_WAIT)).await;
            continue;
        }
        let ran = connection
            .ask("health check", &id, check.timeout + SLACK, |podman| async move {
                podman.containers().get(id_of(&container)).healthcheck().await
            })
            .await;
        match ran {
            Ok(_) => stuck.store(0, Ordering::Relaxed),
            Err(error) if error.kind() == ErrorKind::Timeout => {
                let times = stuck.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                again = Instant::now() + pause(check.interval, times);
            }
            Err(error) => {
                tracing::debug!(container = %id, %error, "a health check could not be run");
                tokio::time::sleep(check.interval.max(MIN_WAIT)).await;
                continue;
            }
        }
        let checked = inspect(&connection, "health check", &id).await;
        ours = checked.ok().and_then(|container| container.last_checked());
    }
}

/// How long after its interval a check is nobody else's. Whoever made the last one makes the next.
fn lateness(
    interval: Duration,
    last: Option<(Timestamp, Duration)>,
    ours: Option<(Timestamp, Duration)>,
) -> Duration {
    match last {
        None => (interval / 4).clamp(LATE.0, LATE.1),
        Some(_) if last == ours => Duration::ZERO,
        Some((_, took)) => LATE_AGAIN.saturating_add(took),
    }
}

/// How long no check is tried after the last `stuck` did not come back.
fn pause(interval: Duration, stuck: u32) -> Duration {
    let doubled = 1_u32.checked_shl(stuck).unwrap_or(u32::MAX);
    interval.saturating_mul(doubled).min(MAX_PAUSE.max(interval)).min(LONGEST)
}

fn id_of(container: &Inspected) -> String {
    container.id().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_that_hang_become_rare() {
        let seconds = Duration::from_secs;
        let pauses = [1, 2, 3, 9, 40].map(|stuck| pause(seconds(5), stuck));
        assert_eq!(pauses, [10, 20, 40, 600, 600].map(seconds));
        assert_eq!(pause(seconds(3600), 1), seconds(3600), "never sooner than they are due");
        assert_eq!(pause(Duration::MAX, 1), LONGEST);
    }

    #[test]
    fn whoever_made_the_last_check_has_time_to_make_the_next() {
        let seconds = Duration::from_secs;
        let then = Timestamp::UNIX_EPOCH;
        let last = Some((then, seconds(4)));
        assert_eq!(lateness(seconds(1), last, last), Duration::ZERO, "it was ours");
        assert_eq!(lateness(seconds(1), last, None), seconds(7), "a slow one of somebody else");
        assert_eq!(lateness(seconds(1), None, None), Duration::from_millis(500));
        assert_eq!(lateness(seconds(60), None, None), seconds(3));
    }
}
