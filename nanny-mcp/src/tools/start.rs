//! Starting a service: at whose cost, how long that is waited for, and what is said then.

use std::borrow::Borrow;
use std::time::Duration;

use nanny_lib::{
    Error, ServiceName, ServiceView, Snapshot, StartOptions, Started, Status, Verdict, Wait,
};
use nanny_wire::logs::{self, LogRequest};
use rmcp::RoleServer;
use rmcp::model::{CallToolRequestParams, InputRequiredResult};
use rmcp::service::RequestContext;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::answer::{Answer, Rest, StartAnswer};
use super::arguments::{StartService, read};
use super::look::{CUT, find, status_of};
use super::progress::{PAUSE, Reporter, phase};
use super::{Reply, cancelled};
use crate::Force;
use crate::confirm::{self, Answer as Said, Channel, Question};
use crate::error::{Failure, ToolError, quoted};
use crate::redact::redact;
use crate::server::Shared;

/// Starts a service. Others are stopped for it by `force` only if the user, or whoever configured this
/// server, agreed to these: the nanny is told their names. Without `force` it is told those that an
/// assistant may stop at all, for a policy may have some make way by itself.
pub(super) async fn start(
    shared: &Shared,
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Reply, Failure> {
    let StartService { name, force } = read(request.arguments.clone())?;
    let force = force.unwrap_or(false);
    let before = find(&shared.nanny.snapshot(), &name)?;
    let call = Call { shared, context, name: &name, before: &before, began: Instant::now() };
    if !force {
        let waited = call.wait_for(call.unprotected(), call.patient()).await?;
        return call.tell(waited, &[]).await.map(Reply::Done);
    }
    let mut agreed = call.answered(&request)?;
    for _ in 0..ROUNDS {
        // At first without stopping anybody: it may run, be under way, or have room.
        let waited = call.wait_for(agreed.clone(), call.forced()).await?;
        let conflict = match waited {
            Waited::Over(Err(error @ Error::GpuConflict { .. })) => error,
            waited => return call.tell(waited, &agreed).await.map(Reply::Done),
        };
        let Some(victims) = call.victims().await? else {
            return Err(call.failed(&conflict).await);
        };
        agreed = match call.permission(victims, &conflict).await? {
            Permission::Granted(victims) => victims,
            Permission::AskedFor(question) => return Ok(Reply::Ask(question)),
        };
    }
    let message = format!("Who would have to make way for '{name}' changes all the time.");
    let advice = "Call list_services, and ask the user before you try again.";
    Err(ToolError::new("GPU_BUSY", message, advice).retryable().into())
}

/// A call of the tool.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    shared: &'a Shared,
    context: &'a RequestContext<RoleServer>,
    name: &'a str,
    /// The service before anything was done.
    before: &'a ServiceView,
    began: Instant,
}

/// Whether others may be stopped.
enum Permission {
    /// These may.
    Granted(Vec<ServiceName>),
    /// The user is to be asked this.
    AskedFor(Box<InputRequiredResult>),
}

/// How waiting for a start ended.
enum Waited {
    /// The nanny has answered.
    Over(Result<Started, Error>),
    /// It has not, and the start goes on.
    GoesOn,
}

impl Call<'_> {
    fn forced(&self) -> StartOptions {
        // We stop waiting ourselves, and sooner.
        let timeout = self.shared.config.start_wait.saturating_add(Duration::from_secs(60));
        StartOptions::forced().waiting_for(Wait::Healthy).within(timeout)
    }

    fn patient(&self) -> StartOptions {
        let mut options = self.forced();
        options.force = false;
        if self.before.status == Status::Queued {
            // Somebody else put it there, to stay for so long as they said: this joins them.
            options.queue = Duration::from_millis(1);
        }
        options
    }

    /// Those that an assistant may stop.
    fn unprotected(&self) -> Vec<ServiceName> {
        let now = self.now();
        let views = now.services.values().filter(|view| !view.manifest.protected);
        views.map(|view| view.name().clone()).collect()
    }

    /// Whom the user agreed to stop, if this call brings the answer to a question.
    fn answered(&self, request: &CallToolRequestParams) -> Result<Vec<ServiceName>, Failure> {
        let Some(note) = &request.request_state else { return Ok(Vec::new()) };
        let asked = self.shared.tools.seal.open(self.name, note)?;
        match confirm::answer(request.input_responses.as_ref())? {
            Said::Yes => {}
            Said::No => return Err(self.declined(&asked)),
            Said::None => return Ok(Vec::new()),
        }
        let agreed: Vec<_> =
            asked.into_iter().filter_map(|name| ServiceName::new(name).ok()).collect();
        self.check(&agreed)?;
        Ok(agreed)
    }

    /// Whom force would stop now; `None` if it makes no room.
    async fn victims(&self) -> Result<Option<Vec<ServiceName>>, Failure> {
        let options = StartOptions::forced();
        let plan = timeout(PLAN_LIMIT, self.shared.nanny.plan(self.name, options)).await;
        let plan = plan.unwrap_or(Err(Error::Overloaded));
        let plan = plan.map_err(|error| Failure::from_nanny(&error, &self.now()))?;
        Ok(match plan.verdict {
            Verdict::Evict { victims, .. } => Some(victims),
            // Meanwhile there is room, or it runs.
            Verdict::Admit { .. } | Verdict::AlreadyRunning => Some(Vec::new()),
            _ => None,
        })
    }

    /// Whether `victims` may be stopped for it.
    async fn permission(
        &self,
        victims: Vec<ServiceName>,
        conflict: &Error,
    ) -> Result<Permission, Failure> {
        if victims.is_empty() {
            return Ok(Permission::Granted(victims));
        }
        self.check(&victims)?;
        let force = self.shared.config.force;
        if force == Force::Never {
            return Err(self.failed(conflict).await);
        }
        let question = Question { service: self.name, victims: &victims };
        match Channel::of(self.context) {
            None if force == Force::Always => Ok(Permission::Granted(victims)),
            None => Err(self.unconfirmed(&victims, "this client cannot ask the user")),
            Some(Channel::NextCall) => {
                let question = self.shared.tools.seal.question(question)?;
                Ok(Permission::AskedFor(Box::new(question)))
            }
            Some(Channel::Midway) => match confirm::ask(question, self.context).await? {
                Said::Yes => Ok(Permission::Granted(victims)),
                Said::No => Err(self.declined(&victims)),
                Said::None => {
                    Err(self.unconfirmed(&victims, "the user was asked and has not answered"))
                }
            },
        }
    }

    /// That no assistant is kept from stopping one of `victims`.
    fn check(&self, victims: &[ServiceName]) -> Result<(), ToolError> {
        let now = self.now();
        let is_protected = |victim: &&ServiceName| {
            now.services.get(victim.as_str()).is_some_and(|view| view.manifest.protected)
        };
        match victims.iter().find(is_protected) {
            Some(victim) => Err(ToolError::protected(victim.as_str())),
            None => Ok(()),
        }
    }

    fn declined(&self, victims: &[impl Borrow<str>]) -> Failure {
        let message =
            format!("The user does not want {} to be stopped; nothing was done.", quoted(victims));
        let advice = format!("Do not try again to start '{}' unless the user says so.", self.name);
        ToolError::new("USER_DECLINED", message, advice).into()
    }

    fn unconfirmed(&self, victims: &[ServiceName], why: &str) -> Failure {
        let victims_named = quoted(victims);
        let message = format!(
            "To start '{}', {victims_named} must be stopped, and the user has to agree to that: {why}. \
             Nothing was done.",
            self.name
        );
        let advice = format!(
            "Ask the user in the conversation. They can have {victims_named} stopped first, with \
             stop_service, or start the nanny with --mcp-allow-force."
        );
        let victims: Vec<_> = victims.iter().map(ToString::to_string).collect();
        ToolError::new("CONFIRMATION_REQUIRED", message, advice).with("would_stop", victims).into()
    }

    /// Starts it, in place of nobody but `victims`; waits for that at most as long as is configured,
    /// and tells how far it is.
    async fn wait_for(
        &self,
        victims: Vec<ServiceName>,
        options: StartOptions,
    ) -> Result<Waited, Failure> {
        if self.context.ct.is_cancelled() {
            return Err(cancelled());
        }
        let mut reporter = Reporter::new(self.context);
        let mut pause = interval(PAUSE);
        pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let enough = sleep(self.shared.config.start_wait);
        let leaving = if options.force { victims.clone() } else { Vec::new() };
        let start = self.shared.nanny.start_in_place_of(self.name, victims, options);
        tokio::pin!(start, enough);
        loop {
            tokio::select! {
                biased;
                answer = &mut start => return Ok(Waited::Over(answer)),
                // It goes on: nobody's change of mind leaves a service half started.
                () = self.context.ct.cancelled() => return Err(cancelled()),
                () = &mut enough => return Ok(Waited::GoesOn),
                _ = pause.tick() => reporter.tell(self.name, &leaving, &self.now()).await,
            }
        }
    }

    /// What is said of a start that was waited for.
    async fn tell(&self, waited: Waited, agreed: &[ServiceName]) -> Result<Answer, Failure> {
        let now = self.now();
        let view = find(&now, self.name)?;
        let (outcome, stopped) = match waited {
            Waited::Over(Err(error)) => return Err(self.failed(&error).await),
            Waited::Over(Ok(started)) => {
                let outcome = if started.already_running { "already_running" } else { "running" };
                (outcome, started.stopped)
            }
            // One that has only just had its time may load a model for minutes yet.
            Waited::GoesOn
                if (self.before.status, view.status) == (Status::Unhealthy, Status::Unhealthy) =>
            {
                return Err(self.sick(&view).await);
            }
            Waited::GoesOn => {
                let gone = |victim: &&ServiceName| {
                    now.services.get(victim.as_str()).is_some_and(|view| !view.is_running)
                };
                let outcome = match (self.before.status, view.status) {
                    (_, Status::Queued) => "queued",
                    (Status::Running | Status::Unhealthy, Status::Running | Status::Unhealthy) => {
                        "already_running"
                    }
                    _ => "starting",
                };
                (outcome, agreed.iter().filter(gone).cloned().collect())
            }
        };
        let answer = StartAnswer {
            outcome,
            message: self.message(outcome, &view, &stopped, &phase(&view, agreed, &now).1),
            stopped: stopped.iter().map(ToString::to_string).collect(),
            waited_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            service: status_of(&view, &now),
            rest: Rest::default(),
        };
        let answer = Answer::new(outcome, &answer, self.shared.config.output_limit, CUT);
        Ok(answer.linked(view.name()))
    }

    fn message(
        &self,
        outcome: &str,
        view: &ServiceView,
        stopped: &[ServiceName],
        phase: &str,
    ) -> String {
        let name = self.name;
        let how_to_go_on = format!(
            "Call get_service_status until ready is true, or subscribe to service://status/{name}; do \
             not start it again."
        );
        let said = match outcome {
            "running" => format!("'{name}' runs and is ready."),
            "already_running" if view.is_ready() => format!("'{name}' was running already."),
            "already_running" => {
                format!("'{name}' was running already, and is not ready yet. {how_to_go_on}")
            }
            "queued" => {
                let place = view.queue.as_ref().map_or(1, |queue| queue.position + 1);
                format!("'{name}' waits for a GPU, at place {place}. {how_to_go_on}")
            }
            _ => format!("'{name}' is still starting ({phase}), and goes on. {how_to_go_on}"),
        };
        if stopped.is_empty() {
            said
        } else {
            format!("{said} Stopped for it: {}.", quoted(stopped))
        }
    }

    /// Why the nanny did not start it; of one that failed, with the end of its log.
    async fn failed(&self, error: &Error) -> Failure {
        let now = self.now();
        match Failure::from_nanny(error, &now) {
            Failure::Tool(error) if error.code == "START_FAILED" => {
                error.with("log", self.end_of_log().await).into()
            }
            Failure::Tool(busy) => self.advised(*busy, error, &now).into(),
            failure @ Failure::Protocol(_) => failure,
        }
    }

    /// What helps if others hold the GPU, as far as an assistant may do it.
    fn advised(&self, told: ToolError, error: &Error, now: &Snapshot) -> ToolError {
        let Error::GpuConflict { holders, .. } = error else { return told };
        let protected = |holder: &&String| {
            now.services.get(holder.as_str()).is_some_and(|view| view.manifest.protected)
        };
        if let Some(holder) = holders.iter().find(protected) {
            return told.advising(format!("'{holder}' is protected: only the user can stop it."));
        }
        match self.shared.config.force {
            Force::Never if !holders.is_empty() => told.advising(FORCE_NEVER),
            Force::Never | Force::Ask | Force::Always => told,
        }
    }

    /// It runs, had its time, and its health check fails.
    async fn sick(&self, view: &ServiceView) -> Failure {
        let name = self.name;
        let reason = view.health.as_ref().and_then(|health| health.reason.as_deref());
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let message = format!("'{name}' runs, but its health check still fails{reason}.");
        let advice = "It goes on running and may yet become ready: look at get_service_status and \
                      get_service_logs; do not start it again.";
        let error = ToolError::new("HEALTH_TIMEOUT", message, advice);
        error.with("log", self.end_of_log().await).into()
    }

    async fn end_of_log(&self) -> Vec<String> {
        let mut request = LogRequest::tail(Some(LOG_LINES));
        request.limit = LOG_LIMIT;
        let Ok(view) = find(&self.now(), self.name) else { return Vec::new() };
        // Its cause is told without it, too.
        let Ok(log) = logs::read(&self.shared.nanny, &view, request).await else {
            return Vec::new();
        };
        redact(&log.logs).lines().map(str::to_owned).collect()
    }

    fn now(&self) -> std::sync::Arc<Snapshot> {
        self.shared.nanny.snapshot()
    }
}

const FORCE_NEVER: &str = "This server stops no service for another: ask the user whether to stop \
                           what holds the GPU with stop_service first.";
/// How often those who would have to make way may change before we give up.
const ROUNDS: usize = 3;
const PLAN_LIMIT: Duration = Duration::from_secs(10);
const LOG_LINES: u32 = 20;
/// In bytes.
const LOG_LIMIT: usize = 4096;
