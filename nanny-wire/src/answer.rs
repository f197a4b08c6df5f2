//! Answers to what was asked of the nanny.

use nanny_lib::gpu::{Account, Placement};
use nanny_lib::manifest::{Problem, Severity};
use nanny_lib::{
    EngineView, Rediscovered, ServiceName, Snapshot, StartPlan, Started, Stopped, Verdict,
};
use serde::Serialize;

/// `GET /`
#[derive(Debug, Serialize)]
pub struct Welcome {
    message: &'static str,
    version: &'static str,
    services_discovered: usize,
    gpu_service_running: Option<ServiceName>,
}

impl From<&Snapshot> for Welcome {
    fn from(now: &Snapshot) -> Self {
        Self {
            message: "Service Nanny is running!",
            version: env!("CARGO_PKG_VERSION"),
            services_discovered: now.discovered(),
            gpu_service_running: now.gpu_service_running().cloned(),
        }
    }
}

/// `GET /health`
#[derive(Debug, Serialize)]
pub struct OwnHealth {
    status: &'static str,
    services_discovered: usize,
    services_running: usize,
    engines: Vec<EngineView>,
    degraded: Vec<String>,
}

impl From<&Snapshot> for OwnHealth {
    fn from(now: &Snapshot) -> Self {
        Self {
            status: "healthy",
            services_discovered: now.discovered(),
            services_running: now.running(),
            engines: now.engines.clone(),
            degraded: now.degraded.clone(),
        }
    }
}

/// `POST /services/{name}/start` and `…/restart`
#[derive(Debug, Serialize)]
pub struct StartAnswer {
    message: String,
    status: &'static str,
    health_endpoint: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stopped: Vec<ServiceName>,
}

impl StartAnswer {
    /// A start of `name` that was answered with `started`.
    pub fn started(name: &str, health_endpoint: Option<String>, started: Started) -> Self {
        let (message, status) = match (started.already_running, started.pending) {
            _ if started.queued => (format!("Service '{name}' waits for a GPU"), "queued"),
            (true, _) => (format!("Service '{name}' is already running"), "running"),
            (false, true) => (format!("Service '{name}' is starting"), "starting"),
            (false, false) => (format!("Service '{name}' started successfully"), "running"),
        };
        Self { message, status, health_endpoint, stopped: started.stopped }
    }

    /// A restart of `name` that was answered with `started`.
    pub fn restarted(name: &str, health_endpoint: Option<String>, started: Started) -> Self {
        let (message, status) = if started.pending {
            (format!("Service '{name}' is restarting"), "starting")
        } else {
            (format!("Service '{name}' restarted successfully"), "running")
        };
        Self { message, status, health_endpoint, stopped: started.stopped }
    }
}

/// `POST /services/{name}/stop`
#[derive(Debug, Serialize)]
pub struct StopAnswer {
    message: String,
    status: &'static str,
}

impl StopAnswer {
    /// A stop of `name` that was answered with `stopped`.
    pub fn new(name: &str, stopped: &Stopped) -> Self {
        let message = if stopped.was_running {
            format!("Service '{name}' stopped successfully")
        } else {
            format!("Service '{name}' is not running")
        };
        Self { message, status: "stopped" }
    }
}

/// `GET /services/{name}/plan`
#[derive(Debug, Serialize)]
pub struct PlanAnswer {
    service: String,
    verdict: &'static str,
    victims: Vec<ServiceName>,
    reason: Option<String>,
    conflicts: Vec<String>,
    /// On which GPUs it would be, and what it would be charged there, in MiB.
    placement: Option<Placement>,
    /// How many are before it.
    position: Option<usize>,
    /// The sum that the verdict rests on.
    account: Option<Account>,
    steps: Vec<String>,
    drift: Vec<String>,
    orphans: Vec<String>,
}

impl PlanAnswer {
    /// What a start of `name` would do.
    pub fn new(name: &str, plan: StartPlan) -> Self {
        let StartPlan { verdict, account, steps, drift, orphans, .. } = plan;
        let mut answer = Self {
            service: name.to_owned(),
            verdict: "unknown",
            victims: Vec::new(),
            reason: None,
            conflicts: Vec::new(),
            placement: None,
            position: None,
            account,
            steps,
            drift,
            orphans,
        };
        // Whoever may be on any GPU, or needs none, has no placement.
        let somewhere = |placement: Placement| Some(placement).filter(|it| !it.is_anywhere());
        match verdict {
            Verdict::Admit { placement } => {
                answer.verdict = "admit";
                answer.placement = somewhere(placement);
            }
            Verdict::Evict { victims, placement } => {
                answer.verdict = "evict";
                answer.victims = victims;
                answer.placement = somewhere(placement);
            }
            Verdict::Wait { position, reason } => {
                answer.verdict = "wait";
                answer.position = Some(position);
                answer.reason = Some(reason);
            }
            Verdict::AlreadyRunning => answer.verdict = "already_running",
            Verdict::Refuse { reason, holders } => {
                answer.verdict = "refuse";
                answer.reason = Some(reason);
                answer.conflicts = holders;
            }
            _ => {}
        }
        answer
    }
}

/// `GET /services/{name}/logs`
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogsAnswer {
    /// Whose log.
    pub service: String,
    /// The lines, oldest first, each with its container's name before it.
    pub logs: String,
    /// What was asked for; -1 is everything.
    pub tail: i64,
    /// Whether the beginning was cut off, because it was too much.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// `POST /rediscover`
#[derive(Debug, Serialize)]
pub struct RediscoverAnswer {
    message: &'static str,
    services_discovered: usize,
    added: Vec<ServiceName>,
    changed: Vec<ServiceName>,
    removed: Vec<ServiceName>,
    errors: Vec<Problem>,
    hints: Vec<Problem>,
}

impl From<Rediscovered> for RediscoverAnswer {
    fn from(found: Rediscovered) -> Self {
        let (hints, errors) =
            found.problems.into_iter().partition(|problem| problem.severity == Severity::Hint);
        Self {
            message: "Service discovery completed",
            services_discovered: found.total,
            added: found.added,
            changed: found.changed,
            removed: found.removed,
            errors,
            hints,
        }
    }
}
