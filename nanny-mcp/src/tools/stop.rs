//! Stopping a service.

use nanny_lib::{Status, StopOptions};
use rmcp::RoleServer;
use rmcp::model::JsonObject;
use rmcp::service::RequestContext;
use tokio::time::timeout;

use super::answer::{Answer, Rest, StopAnswer};
use super::arguments::{Named, read};
use super::look::{CUT, find, status_of};
use crate::error::{Failure, MAY_HAVE_HAPPENED, ToolError};
use crate::server::Shared;

pub(super) async fn stop(
    shared: &Shared,
    arguments: Option<JsonObject>,
    context: &RequestContext<RoleServer>,
) -> Result<Answer, Failure> {
    let name = read::<Named>(arguments)?.name;
    let before = find(&shared.nanny.snapshot(), &name)?;
    if before.manifest.protected {
        return Err(ToolError::protected(&name).into());
    }
    if context.ct.is_cancelled() {
        return Err(super::cancelled());
    }
    // However long it takes, the client has its answer in time, and the stop goes on.
    let stopping =
        timeout(shared.config.start_wait, shared.nanny.stop(&name, StopOptions::default()));
    let Ok(stopped) = stopping.await else {
        let message = format!("'{name}' has not stopped yet; the stop goes on.");
        return Err(ToolError::new("STOP_TIMEOUT", message, MAY_HAVE_HAPPENED).retryable().into());
    };
    let now = shared.nanny.snapshot();
    let stopped = stopped.map_err(|error| Failure::from_nanny(&error, &now))?;
    let was_coming = matches!(before.status, Status::Queued | Status::Starting);
    let (outcome, message) = match (stopped.was_running, was_coming) {
        (true, _) => ("stopped", format!("'{name}' was stopped. Its data stays.")),
        (false, true) => ("stopped", format!("The start of '{name}' was taken back.")),
        (false, false) => ("already_stopped", format!("'{name}' was not running.")),
    };
    let view = find(&now, &name)?;
    let service = status_of(&view, &now);
    let answer = StopAnswer { outcome, message, service, rest: Rest::default() };
    Ok(Answer::new(outcome, &answer, shared.config.output_limit, CUT))
}
