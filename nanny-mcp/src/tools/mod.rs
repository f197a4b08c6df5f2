//! The tools: what a model can call.

mod answer;
mod arguments;
mod audit;
mod look;
mod progress;
mod start;
mod stop;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, InputRequiredResult, ListToolsResult, Tool,
    ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use self::answer::{Answer, ListAnswer, StartAnswer, StatusAnswer, StopAnswer};
use self::arguments::{GetServiceLogs, ListServices, Named, StartService};
use self::audit::Audit;
use crate::confirm::Seal;
use crate::error::{Failure, ToolError};
use crate::schema::{of_input, of_output};
use crate::server::Shared;
use crate::{Force, McpConfig};

/// What all calls share.
#[derive(Debug)]
pub(crate) struct Desk {
    /// How many calls that take their time there may be at once.
    places: Semaphore,
    /// How many users may be asked at once.
    questions: Semaphore,
    seal: Seal,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            places: Semaphore::new(CALLS_AT_ONCE),
            questions: Semaphore::new(QUESTIONS_AT_ONCE),
            seal: Seal::new(),
        }
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, ToolError> {
        self.places.try_acquire().map_err(|_| too_many(CALLS_AT_ONCE, "calls"))
    }

    /// A place for a call that had one.
    async fn place_soon(&self) -> Result<SemaphorePermit<'_>, ToolError> {
        match timeout(PLACE_LIMIT, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(too_many(CALLS_AT_ONCE, "calls")),
        }
    }

    fn question(&self) -> Result<SemaphorePermit<'_>, ToolError> {
        self.questions.try_acquire().map_err(|_| too_many(QUESTIONS_AT_ONCE, "questions"))
    }
}

/// The tools there are.
pub(crate) fn list(shared: &Shared) -> ListToolsResult {
    let config = &shared.config;
    let tools = Kind::ALL.into_iter().filter(|kind| !config.read_only || kind.only_looks());
    ListToolsResult::with_all_items(tools.map(|kind| kind.describe(config)).collect())
}

/// Calls one.
pub(crate) async fn call(
    shared: &Arc<Shared>,
    request: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let mut audit = Audit::new(&request, &context);
    let reply = answer(shared, request, &context).await;
    audit.outcome = match &reply {
        Ok(Reply::Done(answer)) => answer.outcome,
        Ok(Reply::Ask(_)) => "the user is asked",
        Err(failure) => failure.code(),
    };
    match reply {
        Ok(Reply::Done(answer)) => Ok(answer.into_result().into()),
        Ok(Reply::Ask(question)) => Ok((*question).into()),
        Err(Failure::Tool(error)) => Ok(error.into_result().into()),
        Err(Failure::Protocol(error)) => Err(error),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Reply, Failure> {
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == request.name) else {
        return Err(no_such_tool(shared).into());
    };
    if shared.config.read_only && !kind.only_looks() {
        return Err(ToolError::read_only(kind.name()).into());
    }
    let arguments = request.arguments.clone();
    match kind {
        Kind::ListServices => look::list(shared, arguments),
        Kind::GetServiceStatus => look::status(shared, arguments),
        Kind::GetServiceLogs => {
            let _place = shared.tools.place()?;
            look::logs(shared, arguments).await
        }
        Kind::StopService => {
            let _place = shared.tools.place()?;
            stop::stop(shared, arguments, context).await
        }
        Kind::StartService => return start::start(shared, request, context).await,
    }
    .map(Reply::Done)
}

/// What a call is answered with.
#[derive(Debug)]
enum Reply {
    /// It was done.
    Done(Answer),
    /// The user is to be asked, and then it is to be called again.
    Ask(Box<InputRequiredResult>),
}

/// Which tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ListServices,
    GetServiceStatus,
    StartService,
    StopService,
    GetServiceLogs,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::ListServices,
        Self::GetServiceStatus,
        Self::StartService,
        Self::StopService,
        Self::GetServiceLogs,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::ListServices => "list_services",
            Self::GetServiceStatus => "get_service_status",
            Self::StartService => "start_service",
            Self::StopService => "stop_service",
            Self::GetServiceLogs => "get_service_logs",
        }
    }

    fn only_looks(self) -> bool {
        !matches!(self, Self::StartService | Self::StopService)
    }

    fn describe(self, config: &McpConfig) -> Tool {
        let (title, description) = self.words();
        let description = match self {
            Self::StartService => format!(
                "Starts a service and waits until it is ready, up to {} seconds; then it answers \
                 \"starting\" and the start goes on. It is safe to repeat. {description}",
                config.start_wait.as_secs()
            ),
            _ => description.to_owned(),
        };
        let (input, output) = match self {
            Self::ListServices => (of_input::<ListServices>(), of_output::<ListAnswer>()),
            Self::GetServiceStatus => (of_input::<Named>(), of_output::<StatusAnswer>()),
            Self::StartService if config.force == Force::Never => {
                (of_input::<Named>(), of_output::<StartAnswer>())
            }
            Self::StartService => (of_input::<StartService>(), of_output::<StartAnswer>()),
            Self::StopService => (of_input::<Named>(), of_output::<StopAnswer>()),
            Self::GetServiceLogs => {
                (of_input::<GetServiceLogs>(), of_output::<nanny_wire::answer::LogsAnswer>())
            }
        };
        // A start can stop others; a stop ends what is being done there.
        let annotations = ToolAnnotations::new()
            .read_only(self.only_looks())
            .destructive(!self.only_looks())
            .idempotent(true)
            .open_world(false);
        Tool::new(self.name(), description, input)
            .with_title(title)
            .with_raw_output_schema(output)
            .with_annotations(annotations)
    }

    /// Its title, and what a model should know of it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::ListServices => (
                "List services",
                "Lists the AI services there are, with their status, and the GPUs with the services \
                 on them. A service with an mcp endpoint is an MCP server itself, which can be used \
                 while it runs.",
            ),
            Self::GetServiceStatus => (
                "Get a service's status",
                "Shows one service: its status, whether it is ready to be used, its health, \
                 containers, GPUs and last error. Look here after a start that answered \
                 \"starting\", until ready is true.",
            ),
            Self::StartService => (
                "Start a service",
                "If others hold the GPU it fails with GPU_BUSY, says who, and starts nothing.",
            ),
            Self::StopService => (
                "Stop a service",
                "Stops a service, which ends what is being done there and frees its GPU. Its data \
                 and logs stay. It is safe to repeat.",
            ),
            Self::GetServiceLogs => (
                "Read a service's logs",
                "Shows the last lines that a service wrote, which tell why it does not start or \
                 fails. What looks like a secret is left out.",
            ),
        }
    }
}

fn no_such_tool(shared: &Shared) -> ErrorData {
    let names: Vec<_> = list(shared).tools.into_iter().map(|tool| tool.name).collect();
    let message = format!("there is no such tool; there are {}", names.join(", "));
    ErrorData::invalid_params(message, None)
}

/// Nobody waits for the answer any more.
fn cancelled() -> Failure {
    ErrorData::invalid_request("the call was cancelled", None).into()
}

fn too_many(limit: usize, what: &str) -> ToolError {
    let message = format!("{limit} {what} are under way already.");
    let advice = "Nothing was done: wait until one of them is answered, and try again.";
    ToolError::new("RATE_LIMITED", message, advice).retryable()
}

const CALLS_AT_ONCE: usize = 16;
const QUESTIONS_AT_ONCE: usize = 64;
/// How long a call whose user has answered waits for a place.
const PLACE_LIMIT: Duration = Duration::from_secs(10);
