//! Starting a service: at whose cost, how long that is waited for, and what is said then.

use std::time::Duration;

use nanny_lib::{
    Error, ServiceName, ServiceView, Snapshot, StartOptions, Started, Status, Verdict, Wait,
};
use nanny_wire::logs::{self, LogRequest};
use rmcp::RoleServer;
use rmcp::model::{CallToolRequestParams, InputRequiredResult};
use rmcp::service::RequestContext;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, timeout};

use super::answer::{Answer, Rest, StartAnswer};
use super::arguments::{StartService, read};
use super::look::{CUT, find, status_of};
use super::progress::{Reporter, phase, ticks};
use super::{Reply, cancelled};
use crate::Force;
use crate::confirm::{self, Answer as Said, Channel, Price, Question};
use crate::error::{Failure, ToolError, quoted};
use crate::redact::redact;
use crate::server::Shared;

/// Starts a service. Without `force` nobody is stopped for it, unless whoever configured this server
/// allows that always: then a policy may have some make way by itself, if they are not protected.
/// With `force`, others are stopped and passed over only if the user, or that configuration, agreed to
/// these: the nanny is told their names.
pub(super) async fn start(
    shared: &Shared,
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Reply, Failure> {
    let StartService { name, force } = read(request.arguments.clone())?;
    let force = force.unwrap_or(false) && shared.config.force != Force::Never;
    let before = find(&shared.nanny.snapshot(), &name)?;
    let call = Call { shared, context, name: &name, before: &before, began: Instant::now() };
    let mut running =
        Running { place: Some(shared.tools.place()?), reporter: Reporter::new(context) };
    if !force {
        let waited = call.wait_for(call.expendable(), call.patient(), &mut running).await?;
        return call.tell(waited, &[]).await.map(Reply::Done);
    }
    let mut agreed = call.answered(&request)?;
    for _ in 0..ROUNDS {
        // At first at nobody's cost: it may run, be under way, or have room.
        let waited = call.wait_for(Vec::new(), call.unforced(), &mut running).await?;
        let conflict = match waited {
            Waited::Over(Err(error @ Error::GpuConflict { .. })) => error,
            waited => return call.tell(waited, &[]).await.map(Reply::Done),
        };
        let Some(price) = call.price(&conflict).await? else { continue };
        call.check(&price.victims)?;
        if agreed.as_ref().is_some_and(|agreed| agreed.covers(&price)) {
            let victims = price.victims;
            let waited = call.wait_for(victims.clone(), call.forced(), &mut running).await?;
            if !matches!(waited, Waited::Over(Err(Error::GpuConflict { .. }))) {
                return call.tell(waited, &victims).await.map(Reply::Done);
            }
        } else {
            agreed = match call.permission(price, &mut running).await? {
                Permission::Granted(price) => Some(price),
                Permission::AskedFor(question) => return Ok(Reply::Ask(question)),
            };
        }
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

/// What changes while a call is under way.
#[derive(Debug)]
struct Running<'a> {
    /// Given back while the user thinks.
    place: Option<SemaphorePermit<'a>>,
    reporter: Reporter<'a>,
}

/// Whether others may be stopped.
enum Permission {
    /// At this price, yes.
    Granted(Price),
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

impl<'a> Call<'a> {
    fn forced(&self) -> StartOptions {
        // We stop waiting ourselves, and sooner.
        let timeout = self.shared.config.start_wait.saturating_add(Duration::from_secs(60));
        StartOptions::forced().waiting_for(Wait::Healthy).within(timeout)
    }

    fn unforced(&self) -> StartOptions {
        let mut options = self.forced();
        options.force = false;
        options
    }

    fn patient(&self) -> StartOptions {
        let mut options = self.unforced();
        if self.before.status == Status::Queued {
            // Somebody else put it there: this joins them, for as long as it waits.
            options.queue = self.shared.config.start_wait.saturating_add(Duration::from_secs(1));
        }
        options
    }

    /// Those that a policy may have make way with nobody asked.
    fn expendable(&self) -> Vec<ServiceName> {
        if self.shared.config.force != Force::Always {
            return Vec::new();
        }
        let now = self.now();
        let views = now.services.values().filter(|view| !view.manifest.protected);
        views.map(|view| view.name().clone()).collect()
    }

    /// What the user agreed to, if this call brings the answer to a question.
    fn answered(&self, request: &CallToolRequestParams) -> Result<Option<Price>, Failure> {
        let Some(note) = &request.request_state else { return Ok(None) };
        let said = confirm::answer(request.input_responses.as_ref())?;
        let asked = self.shared.tools.seal.open(self.name, note, said)?;
        match said {
            Said::Yes => Ok(Some(asked)),
            Said::No => Err(self.declined(&asked)),
            Said::None => Ok(None),
        }
    }

    /// At whose cost force would start it now, if `conflict` keeps it from starting without; `None` if
    /// it runs meanwhile.
    async fn price(&self, conflict: &Error) -> Result<Option<Price>, Failure> {
        let options = StartOptions::forced();
        let plan = timeout(PLAN_LIMIT, self.shared.nanny.plan(self.name, options)).await;
        let plan = plan.unwrap_or(Err(Error::Overloaded));
        let now = self.now();
        let plan = plan.map_err(|error| Failure::from_nanny(&error, &now))?;
        let victims = match plan.verdict {
            Verdict::Evict { victims, .. } => victims,
            Verdict::Admit { .. } => Vec::new(),
            Verdict::AlreadyRunning => return Ok(None),
            Verdict::Refuse { reason, .. } | Verdict::Wait { reason, .. } => {
                let Failure::Tool(busy) = self.failed(conflict).await else {
                    return Err(self.failed(conflict).await);
                };
                let advice = format!("force does not help ({reason}): tell the user.");
                return Err(busy.advising(advice).into());
            }
            _ => return Err(self.failed(conflict).await),
        };
        let Error::GpuConflict { holders, .. } = conflict else { return Ok(None) };
        let stays = |holder: &&String| {
            // Which of them would be stopped, force has chosen.
            victims.is_empty() || !now.services.contains_key(holder.as_str())
        };
        let passed_over = holders.iter().filter(stays).cloned().collect();
        Ok(Some(Price { victims, passed_over }))
    }

    /// Whether it may be started at this price.
    async fn permission(
        &self,
        price: Price,
        running: &mut Running<'a>,
    ) -> Result<Permission, Failure> {
        let question = Question { service: self.name, price: &price };
        match Channel::of(self.context) {
            None if self.shared.config.force == Force::Always => Ok(Permission::Granted(price)),
            None => Err(self.unconfirmed(&price, "this client cannot ask the user")),
            Some(Channel::NextCall) => {
                let question = self.shared.tools.seal.question(question)?;
                Ok(Permission::AskedFor(Box::new(question)))
            }
            Some(Channel::Midway) => match self.ask(question, running).await? {
                Said::Yes => Ok(Permission::Granted(price)),
                Said::No => Err(self.declined(&price)),
                Said::None => {
                    Err(self.unconfirmed(&price, "the user was asked and has not answered"))
                }
            },
        }
    }

    /// Asks in the midst of the call, which takes no place meanwhile: users may think.
    async fn ask(
        &self,
        question: Question<'_>,
        running: &mut Running<'a>,
    ) -> Result<Said, Failure> {
        let _question = self.shared.tools.question()?;
        running.place = None;
        let said = {
            let mut pause = ticks();
            let asked = confirm::ask(question, self.context);
            tokio::pin!(asked);
            loop {
                tokio::select! {
                    biased;
                    said = &mut asked => break said?,
                    _ = pause.tick() => {
                        running.reporter.say(3.0, "waiting for the user's answer".to_owned()).await;
                    }
                }
            }
        };
        if said == Said::Yes {
            running.place = Some(self.shared.tools.place_soon().await?);
        }
        Ok(said)
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

    fn declined(&self, price: &Price) -> Failure {
        let message = match price.victims.as_slice() {
            [] => format!(
                "The user does not want '{}' to be started now; nothing was done.",
                self.name
            ),
            victims => {
                let victims = quoted(victims);
                format!("The user does not want {victims} to be stopped; nothing was done.")
            }
        };
        let advice = format!("Do not try again to start '{}' unless the user says so.", self.name);
        ToolError::new("USER_DECLINED", message, advice).into()
    }

    fn unconfirmed(&self, price: &Price, why: &str) -> Failure {
        let message = format!(
            "{}, and the user has to agree to that: {why}. Nothing was done.",
            price.of(self.name)
        );
        let first = match price.victims.as_slice() {
            [] => "end what is in the way".to_owned(),
            victims => format!("have {} stopped first, with stop_service", quoted(victims)),
        };
        let advice = format!(
            "Ask the user in the conversation. They can {first}, or start the nanny with \
             --mcp-allow-force."
        );
        let victims: Vec<_> = price.victims.iter().map(ToString::to_string).collect();
        ToolError::new("CONFIRMATION_REQUIRED", message, advice)
            .with("would_stop", victims)
            .with("would_pass_over", price.passed_over.clone())
            .into()
    }

    /// Starts it, in place of nobody but `victims`; waits for that until the call has taken as long as
    /// is configured, and tells how far it is.
    async fn wait_for(
        &self,
        victims: Vec<ServiceName>,
        options: StartOptions,
        running: &mut Running<'a>,
    ) -> Result<Waited, Failure> {
        if self.context.ct.is_cancelled() {
            return Err(cancelled());
        }
        let mut pause = ticks();
        // A user who thought for long is told at least that it begins.
        let wait = self.shared.config.start_wait;
        let enough = sleep(wait.saturating_sub(self.began.elapsed()).max(wait.min(A_MOMENT)));
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
                _ = pause.tick() => running.reporter.tell(self.name, &leaving, &self.now()).await,
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
            health_endpoint: view.manifest.health_endpoint.clone(),
            ports: view.manifest.ports.clone(),
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
        let (mut services, mut waiting, mut strangers) = (Vec::new(), Vec::new(), Vec::new());
        for holder in holders {
            match now.services.get(holder.as_str()) {
                Some(view) if view.manifest.protected && view.status != Status::Queued => {
                    let advice = format!("'{holder}' is protected: only the user can stop it.");
                    return told.advising(advice);
                }
                Some(view) if view.status == Status::Queued => waiting.push(holder.as_str()),
                Some(_) => services.push(holder.as_str()),
                None => strangers.push(holder.as_str()),
            }
        }
        let mut advice = Vec::new();
        if !strangers.is_empty() {
            let strangers = quoted(&strangers);
            advice.push(format!("{strangers} is none of our services: ask the user to end it."));
        }
        if !waiting.is_empty() {
            advice.push(format!("{} waits before you: try again later.", quoted(&waiting)));
        }
        match (services.as_slice(), self.shared.config.force) {
            ([], _) => {}
            (_, Force::Never) => advice.push(FORCE_NEVER.to_owned()),
            (services, Force::Ask | Force::Always) => advice.push(format!(
                "Ask the user whether to stop {} for it: then call start_service with force=true, or \
                 stop_service first.",
                quoted(services)
            )),
        }
        if advice.is_empty() { told } else { told.advising(advice.join(" ")) }
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
const ROUNDS: usize = 4;
const PLAN_LIMIT: Duration = Duration::from_secs(10);
/// So long at least a start is waited for after the user was asked.
const A_MOMENT: Duration = Duration::from_secs(2);
const LOG_LINES: u32 = 20;
/// In bytes.
const LOG_LIMIT: usize = 4096;
