//! Why starts failed: Podman forgets it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use nanny_lib::ContainerId;
use nanny_lib::backend::BackendError;
use tokio::time::Instant;

/// The last failure of each container that did not start.
#[derive(Debug, Default)]
pub(crate) struct FailedStarts(Mutex<HashMap<ContainerId, Failed>>);

#[derive(Debug)]
struct Failed {
    message: String,
    at: Timestamp,
    /// The same, by a clock that nobody sets.
    since: Instant,
}

impl FailedStarts {
    pub(crate) fn of(&self, id: &ContainerId) -> Option<(String, Timestamp)> {
        let failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get(id).map(|failed| (failed.message.clone(), failed.at))
    }

    pub(crate) fn remember(&self, id: &ContainerId, error: &BackendError) {
        let message = error.message().to_owned();
        let failed = Failed { message, at: Timestamp::now(), since: Instant::now() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), failed);
    }

    pub(crate) fn forget(&self, id: &ContainerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Forgets all that failed before `then`, except those of `ids`.
    pub(crate) fn forget_all_but(&self, ids: &HashSet<ContainerId>, then: Instant) {
        let mut failed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.retain(|id, failed| failed.since >= then || ids.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use nanny_lib::backend::ErrorKind;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_older_than_a_failure_does_not_take_it_away() {
        let failed = FailedStarts::default();
        let (old, new) = (ContainerId::new("old"), ContainerId::new("new"));
        let error = BackendError::new(ErrorKind::Other, "start", "no such device");
        failed.remember(&old, &error);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let asked = Instant::now();
        failed.remember(&new, &error);
        failed.forget_all_but(&HashSet::new(), asked);
        assert_eq!(failed.of(&old), None);
        assert_eq!(failed.of(&new).unwrap().0, "no such device");
    }
}
