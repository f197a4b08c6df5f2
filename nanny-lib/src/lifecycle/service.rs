//! What the world knows of one service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::health::Monitor;
use super::queue::Queued;
use super::restart::Restarts;
use super::tally::Counters;
use super::{CallId, DrainId, EngineIndex, Preparing, RequestId};
use crate::backend::{BackendError, ContainerInfo};
use crate::gpu::Placement;
use crate::manifest::Service;
use crate::name::{ContainerId, ServiceName};
use crate::nanny::{StartOptions, Status, Wait};
use crate::project::{Goal, Placed, Progress, Project, Subject, labels};

/// One service: what is wanted, what is being done about it, what is seen.
#[derive(Debug)]
pub(super) struct ServiceState {
    /// What is wanted, in its latest good version.
    pub(super) wanted: Service,
    /// Its projects before its files changed: containers of theirs may be there.
    pub(super) former: Vec<Arc<Project>>,
    /// Its manifest is gone; it stays only as long as something of it runs.
    pub(super) gone: bool,
    /// Whether it should run, as far as anybody said.
    pub(super) desired: Desired,
    /// What is being done.
    pub(super) work: Work,
    /// Engine calls under way, by what they are about.
    pub(super) calls: BTreeMap<Subject, CallId>,
    /// The engine its containers are on; new ones are made there.
    pub(super) engine: Option<EngineIndex>,
    /// Its containers, whoever made them, and where they are: other hands may use other engines.
    pub(super) containers: BTreeMap<ContainerId, EngineIndex>,
    /// Those that were seen running, so that an exit is noticed.
    pub(super) seen_up: BTreeSet<ContainerId>,
    /// When nothing of it was seen running, at last.
    pub(super) seen_down: Option<Duration>,
    /// When a container of it that used a GPU last ended.
    pub(super) left_gpu: Option<Duration>,
    /// The run that its health is about: what runs, and since when.
    pub(super) run: Vec<(ContainerId, Option<Timestamp>)>,
    /// Those that somebody asked the engine to stop.
    pub(super) stop_requested: BTreeSet<ContainerId>,
    /// Those that ended while their engine was away, and until when it may tell of its own stops.
    pub(super) ended_with_engine: BTreeMap<ContainerId, Duration>,
    /// Those that were stopped by hand, as far as anybody can tell before the engine itself ends.
    pub(super) stops_by_hand: BTreeMap<ContainerId, StopByHand>,
    /// Those that we brought down, and did not start again.
    pub(super) put_down: BTreeSet<ContainerId>,
    /// Those of which a start was given up that may still take effect, and until when it may.
    pub(super) late_starts: BTreeMap<ContainerId, Duration>,
    /// Why it does not run although it should.
    pub(super) failure: Option<String>,
    /// Its restarts by us.
    pub(super) restarts: Restarts,
    /// Its health.
    pub(super) monitor: Monitor,
    /// Callers who wait until it is ready.
    pub(super) ready_waiters: Vec<ReadyWaiter>,
    /// How far the pull or build of its image is.
    pub(super) preparing: Option<Preparing>,
    /// What is to be told about its networks and volumes.
    pub(super) notices: BTreeMap<Subject, String>,
    /// Its project as it is on the GPUs of its claim, if those were chosen.
    pub(super) placed: Option<Placed>,
    /// Since when it has its GPU.
    pub(super) gpu_since: Option<Duration>,
    /// When it was last used, as far as anybody told us.
    pub(super) used_at: Duration,
    /// The most it was ever seen to use of one GPU, in MiB.
    pub(super) most_used_mib: u64,
    /// What came of it so far.
    pub(super) counters: Counters,
    /// The status last shown, and since when.
    pub(super) shown: Option<(Status, Timestamp)>,
}

impl ServiceState {
    pub(super) fn new(wanted: Service) -> Self {
        Self {
            wanted,
            former: Vec::new(),
            gone: false,
            desired: Desired::Unsaid,
            work: Work::None,
            calls: BTreeMap::new(),
            engine: None,
            containers: BTreeMap::new(),
            seen_up: BTreeSet::new(),
            seen_down: None,
            left_gpu: None,
            run: Vec::new(),
            stop_requested: BTreeSet::new(),
            ended_with_engine: BTreeMap::new(),
            stops_by_hand: BTreeMap::new(),
            put_down: BTreeSet::new(),
            late_starts: BTreeMap::new(),
            failure: None,
            restarts: Restarts::default(),
            monitor: Monitor::default(),
            ready_waiters: Vec::new(),
            preparing: None,
            notices: BTreeMap::new(),
            placed: None,
            gpu_since: None,
            used_at: Duration::ZERO,
            most_used_mib: 0,
            counters: Counters::default(),
            shown: None,
        }
    }

    /// Whether `container` is one of its own, whoever made it.
    pub(super) fn owns(&self, container: &ContainerInfo) -> bool {
        self.wanted.project.owns(container)
            || self.former.iter().any(|project| project.owns(container))
            || self.is_its_origin(container)
    }

    /// Whether `container` says that it was made for this service, in this directory.
    fn is_its_origin(&self, container: &ContainerInfo) -> bool {
        let mut parts = self.wanted.project.parts.values();
        let origin = parts.find_map(|part| part.spec.labels.get(labels::ORIGIN));
        let service = container.labels.get(labels::SERVICE).map(String::as_str);
        origin.is_some()
            && container.labels.get(labels::ORIGIN) == origin
            && service == Some(self.wanted.manifest.name.as_str())
    }

    /// Its project, on the GPUs of its claim if those were chosen.
    pub(super) fn project(&self) -> &Project {
        self.placed.as_ref().map_or(&self.wanted.project, |placed| &placed.project)
    }

    pub(super) fn needs_gpu(&self) -> bool {
        self.wanted.manifest.gpu_required
    }
}

/// A container was stopped by hand.
#[derive(Debug, Clone, Copy)]
pub(super) struct StopByHand {
    pub(super) at: Duration,
    /// What its service was to do until then.
    pub(super) was: Desired,
}

/// Whether a service should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Desired {
    /// Nobody told us: what it does is other hands' business.
    Unsaid,
    /// It should.
    Running,
    /// It should not.
    Stopped,
}

/// What is being done with a service.
#[expect(clippy::large_enum_variant, reason = "one per service, and changed in place")]
#[derive(Debug)]
pub(super) enum Work {
    /// Nothing.
    None,
    /// It is brought up.
    Up(Up),
    /// It is brought down.
    Down(Down),
}

/// Bringing a service up.
#[derive(Debug)]
pub(super) struct Up {
    /// What has been done so far.
    pub(super) progress: Progress,
    /// Callers to be answered.
    pub(super) waiters: Vec<Waiter>,
    /// Services whose claims must end first.
    pub(super) after: BTreeSet<ServiceName>,
    /// Services that were stopped for it, as the answer reports them.
    pub(super) stopped: Vec<ServiceName>,
    /// Services to be started again if it cannot be started.
    pub(super) restore: Vec<ServiceName>,
    /// Whether to start them again.
    pub(super) rollback: bool,
    /// Make everything anew.
    pub(super) recreate: bool,
    /// How long it may wait for room on a GPU.
    pub(super) queue: Duration,
    /// The rollback it is part of.
    pub(super) part_of: Option<RollbackId>,
    /// Containers that ran before it began: not stopped if it fails.
    pub(super) was_up: BTreeSet<ContainerId>,
    /// When it must be complete.
    pub(super) deadline: Duration,
    /// Its images are there: callers' patience counts.
    pub(super) images_ready: bool,
    /// How patient it is with its engine.
    pub(super) patience: Patience,
    /// It waits for a GPU, and has no claim.
    pub(super) queued: Option<Queued>,
    /// Where it goes once nothing of it runs any more.
    pub(super) moves_to: Option<Placement>,
    /// A sweep that was asked for under this number or a later one knows what is free now that those
    /// who made way are down.
    pub(super) looks_from: Option<u64>,
    /// When the memory that it was promised must be free.
    pub(super) memory_by: Option<Duration>,
    /// That memory is free, and nobody else is being started on its GPUs.
    pub(super) has_gpu: bool,
    /// That memory did not become free.
    pub(super) lacks_memory: bool,
}

impl Up {
    /// Goes on instead of `before`: what that owes to callers and others, this one owes now.
    pub(super) fn take_over(&mut self, mut before: Self) {
        self.waiters.append(&mut before.waiters);
        self.after.append(&mut before.after);
        self.stopped.append(&mut before.stopped);
        self.restore.append(&mut before.restore);
        self.part_of = before.part_of;
        self.was_up = before.was_up;
    }
}

/// Bringing a service down.
#[derive(Debug)]
pub(super) struct Down {
    /// How far down.
    pub(super) goal: Goal,
    /// What has been done so far.
    pub(super) progress: Progress,
    /// Callers to be answered.
    pub(super) waiters: Vec<RequestId>,
    /// Whether there was anything to stop.
    pub(super) was_running: bool,
    /// Stopping was not enough: kill.
    pub(super) kill: bool,
    /// It may finish what it does until then.
    pub(super) draining: Option<(DrainId, Duration)>,
    /// A start that failed, and whose remains are being cleared.
    pub(super) failed: Option<FailedStart>,
    /// A start that came meanwhile.
    pub(super) then: Option<Up>,
    /// How patient it is with its engine.
    pub(super) patience: Patience,
}

impl Down {
    pub(super) fn new(goal: Goal, was_running: bool) -> Self {
        Self {
            goal,
            progress: Progress::default(),
            waiters: Vec::new(),
            was_running,
            kill: false,
            draining: None,
            failed: None,
            then: None,
            patience: Patience::default(),
        }
    }
}

/// How often something failed in a row, and when to try again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Patience {
    /// Failures in a row that were not the engine's absence.
    pub(super) failures: u32,
    /// Calls in a row for which the engine was out of reach.
    pub(super) refusals: u32,
    /// Not before.
    pub(super) not_before: Duration,
}

/// A caller who waits for a start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) request: RequestId,
    pub(super) wait: Wait,
    pub(super) timeout: Duration,
    /// When its patience ends, once that counts.
    pub(super) deadline: Option<Duration>,
    /// Until when it waits for a GPU, if it does.
    pub(super) queues_until: Option<Duration>,
}

impl Waiter {
    pub(super) fn new(request: RequestId, options: StartOptions) -> Self {
        Self {
            request,
            wait: options.wait,
            timeout: options.timeout,
            deadline: None,
            queues_until: None,
        }
    }
}

/// A caller who waits until a service that runs is healthy, and what it will be told.
#[derive(Debug)]
pub(super) struct ReadyWaiter {
    pub(super) waiter: Waiter,
    pub(super) already_running: bool,
    pub(super) stopped: Vec<ServiceName>,
}

/// A start that failed.
#[derive(Debug)]
pub(super) struct FailedStart {
    pub(super) reason: String,
    pub(super) source: Option<BackendError>,
    /// It was for want of memory on a GPU.
    pub(super) for_memory: bool,
    pub(super) waiters: Vec<Waiter>,
    pub(super) restore: Vec<ServiceName>,
    pub(super) part_of: Option<RollbackId>,
}

/// Which rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RollbackId(pub(super) u64);

/// Services that are started again because the one they had to make way for failed.
#[derive(Debug)]
pub(super) struct Rollback {
    /// Who failed.
    pub(super) newcomer: ServiceName,
    /// How.
    pub(super) failed: FailedStart,
    /// Who is still being started.
    pub(super) pending: BTreeSet<ServiceName>,
    /// Who runs again.
    pub(super) restored: Vec<ServiceName>,
}
