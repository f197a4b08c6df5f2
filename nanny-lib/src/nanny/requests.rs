//! What callers ask of a nanny, and what it answers.

use std::time::Duration;

use crate::gpu::{Account, Placement};
use crate::manifest::Problem;
use crate::name::ServiceName;

/// How to start a service. The default: no force, until it runs, two minutes, with rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartOptions {
    /// Stop others that hold the GPU.
    pub force: bool,
    /// When to answer.
    pub wait: Wait,
    /// How long to wait, counted from when the images are there. The start itself goes on.
    pub timeout: Duration,
    /// If it cannot be started, start again what was stopped for it.
    pub rollback: bool,
    /// Make its containers anew, even if it runs.
    pub recreate: bool,
    /// If there is no room on the GPU, wait for some for so long; [`Duration::MAX`]: as long as it
    /// takes. Zero: do not wait. The time limit on the answer counts from when there is room.
    pub queue: Duration,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self {
            force: false,
            wait: Wait::Running,
            timeout: Duration::from_secs(120),
            rollback: true,
            recreate: false,
            queue: Duration::ZERO,
        }
    }
}

impl StartOptions {
    /// The default, but stopping whoever holds the GPU.
    #[must_use]
    pub fn forced() -> Self {
        Self { force: true, ..Self::default() }
    }

    /// The same, waiting for so long for room on the GPU.
    #[must_use]
    pub fn queued_for(mut self, queue: Duration) -> Self {
        self.queue = queue;
        self
    }

    /// The same, answered at another time.
    #[must_use]
    pub fn waiting_for(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The same, with another time limit on the answer.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// When a start is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Wait {
    /// As soon as it is admitted.
    None,
    /// When all its containers run.
    #[default]
    Running,
    /// When it runs and is healthy.
    Healthy,
}

/// How to stop a service. The default: its containers stay, stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StopOptions {
    /// Remove its containers and networks too; never its volumes.
    pub remove: bool,
}

impl StopOptions {
    /// Removes containers and networks too; never volumes.
    #[must_use]
    pub fn removing() -> Self {
        Self { remove: true }
    }
}

/// A start that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Started {
    /// It ran before and nothing was done.
    pub already_running: bool,
    /// It is on its way: the answer was not to wait until it runs.
    pub pending: bool,
    /// It waits for a GPU, and the answer was not to wait with it.
    pub queued: bool,
    /// Services that were stopped for it.
    pub stopped: Vec<ServiceName>,
}

/// A stop that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// It did not run.
    pub was_running: bool,
}

/// A discovery that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Rediscovered {
    /// How many services there are now.
    pub total: usize,
    /// Services that are new.
    pub added: Vec<ServiceName>,
    /// Services whose files changed.
    pub changed: Vec<ServiceName>,
    /// Services that are gone.
    pub removed: Vec<ServiceName>,
    /// What is wrong with manifests.
    pub problems: Vec<Problem>,
}

/// What a start would do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartPlan {
    /// Whether it would be let in, and at whose cost.
    pub verdict: Verdict,
    /// The sum that the verdict rests on, if it needs a GPU.
    pub account: Option<Account>,
    /// What would be done in the engine, one line each, in order.
    pub steps: Vec<String>,
    /// Containers that were made from something else than the files say now, by name. One that runs
    /// is left alone unless the start asks to recreate it.
    pub drift: Vec<String>,
    /// Containers of the project that its files know nothing of, by name: they are never removed.
    pub orphans: Vec<String>,
}

/// Whether a start would be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// At once.
    Admit {
        /// On which GPUs; empty: whichever its Compose file says, or none.
        placement: Placement,
    },
    /// After these were stopped.
    Evict {
        /// Whom.
        victims: Vec<ServiceName>,
        /// On which GPUs it would then start.
        placement: Placement,
    },
    /// After others, if it is willing to wait.
    Wait {
        /// How many are before it.
        position: usize,
        /// For what, for a person.
        reason: String,
    },
    /// It runs already.
    AlreadyRunning,
    /// It would be refused.
    Refuse {
        /// Why, for a person.
        reason: String,
        /// Who is in the way.
        holders: Vec<String>,
    },
}
