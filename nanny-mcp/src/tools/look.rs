//! Looking at services: nothing here changes anything.

use std::sync::Arc;

use jiff::Timestamp;
use nanny_lib::{ServiceView, Snapshot};
use nanny_wire::logs::{self, LogRequest};
use nanny_wire::service::{Overview, ServiceStatus};
use rmcp::model::JsonObject;

use super::answer::{Answer, ListAnswer, Rest, StatusAnswer};
use super::arguments::{GetServiceLogs, ListServices, Named, read};
use crate::error::{Failure, ToolError};
use crate::redact::redact;
use crate::server::Shared;

pub(super) fn list(shared: &Shared, arguments: Option<JsonObject>) -> Result<Answer, Failure> {
    let filter = read::<ListServices>(arguments)?.filter.unwrap_or_default();
    let overview = Overview::new(&shared.nanny.snapshot(), |view| filter.picks(view));
    let answer = ListAnswer { overview, rest: Rest::default() };
    let hint = "Not all is shown: filter by name_contains, status, tag or gpu.";
    Ok(Answer::new("listed", &answer, shared.config.output_limit, hint))
}

pub(super) fn status(shared: &Shared, arguments: Option<JsonObject>) -> Result<Answer, Failure> {
    let name = read::<Named>(arguments)?.name;
    let snapshot = shared.nanny.snapshot();
    let view = find(&snapshot, &name)?;
    let answer = StatusAnswer { status: status_of(&view, &snapshot), rest: Rest::default() };
    Ok(Answer::new("read", &answer, shared.config.output_limit, CUT))
}

pub(super) async fn logs(
    shared: &Shared,
    arguments: Option<JsonObject>,
) -> Result<Answer, Failure> {
    let arguments = read::<GetServiceLogs>(arguments)?;
    let snapshot = shared.nanny.snapshot();
    let view = find(&snapshot, &arguments.name)?;
    let mut request = LogRequest::tail(Some(arguments.tail()?));
    // As many bytes as characters at the most: four for each.
    let limit = shared.config.output_limit.saturating_mul(4);
    request.limit = if arguments.contains.is_some() { limit.max(SEARCHED) } else { limit };
    let read = logs::read(&shared.nanny, &view, request).await;
    let mut logs = read.map_err(|error| Failure::from_logs(&error, &snapshot))?;
    logs.logs = redact(&logs.logs).into_owned();
    if let Some(wanted) = &arguments.contains {
        // Only now: what is found must tell nothing of what is not shown.
        logs.logs = lines_with(wanted, &logs.logs);
    }
    Ok(Answer::logs(logs, shared.config.output_limit))
}

/// The lines of a log with `wanted` in what the service wrote.
fn lines_with(wanted: &str, log: &str) -> String {
    let written =
        |line: &str| line.split_once("| ").map_or(line, |(_, text)| text).contains(wanted);
    log.split_inclusive('\n').filter(|line| written(line)).collect()
}

/// The service called `name`, as it was last seen.
pub(super) fn find(now: &Snapshot, name: &str) -> Result<Arc<ServiceView>, ToolError> {
    now.services.get(name).cloned().ok_or_else(|| ToolError::not_found(name, now))
}

/// What a call that starts or stops a service says of it.
pub(super) fn status_of(view: &ServiceView, now: &Snapshot) -> ServiceStatus {
    ServiceStatus::new(view, now, Timestamp::now())
}

/// In so many bytes of a log, the newest, a text is looked for.
const SEARCHED: usize = 1024 * 1024;
/// What to do about a status that is too long.
pub(super) const CUT: &str = "Not all is shown; the logs may say more.";
