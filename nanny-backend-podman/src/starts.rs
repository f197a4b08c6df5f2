//! Why starts failed: Podman forgets it.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use nanny_lib::ContainerId;
use nanny_lib::backend::BackendError;

/// The last failure of each container that did not start.
#[derive(Debug, Default)]
pub(crate) struct FailedStarts(Mutex<HashMap<ContainerId, (String, Timestamp)>>);

impl FailedStarts {
    pub(crate) fn of(&self, id: &ContainerId) -> Option<(String, Timestamp)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(crate) fn remember(&self, id: &ContainerId, error: &BackendError) {
        let failed = (error.message().to_owned(), Timestamp::now());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), failed);
    }

    pub(crate) fn forget(&self, id: &ContainerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    pub(crate) fn forget_all_but(&self, ids: &HashSet<ContainerId>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| ids.contains(id));
    }
}
