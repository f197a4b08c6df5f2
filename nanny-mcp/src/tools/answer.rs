//! What the tools answer with: the types of the REST API, without nulls, and never too much.

use nanny_lib::ServiceName;
use nanny_wire::answer::LogsAnswer;
use nanny_wire::service::{Overview, ServiceStatus};
use rmcp::model::{CallToolResult, ContentBlock, Resource};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::answer::{end_of, fit, plain};
use crate::resources::ResourceUri;

/// A call that was done.
#[derive(Debug)]
pub(super) struct Answer {
    value: Value,
    links: Vec<Resource>,
    /// In one word, for a log.
    pub(super) outcome: &'static str,
}

/// What `list_services` answers with.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ListAnswer {
    #[serde(flatten)]
    pub(super) overview: Overview,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

/// What `get_service_status` answers with.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StatusAnswer {
    #[serde(flatten)]
    pub(super) status: ServiceStatus,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

/// What `start_service` answers with.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StartAnswer {
    /// running, already_running, starting or queued.
    pub(super) outcome: &'static str,
    /// The same as a sentence, and how to go on.
    pub(super) message: String,
    /// Services that were stopped for it.
    pub(super) stopped: Vec<String>,
    /// How long this call waited.
    pub(super) waited_ms: u64,
    /// Where its health is asked for, which is most often where it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health_endpoint: Option<String>,
    /// The ports that its manifest names, as HOST:CONTAINER.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ports: Vec<String>,
    pub(super) service: ServiceStatus,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

/// What `stop_service` answers with.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StopAnswer {
    /// stopped or already_stopped.
    pub(super) outcome: &'static str,
    /// The same as a sentence.
    pub(super) message: String,
    pub(super) service: ServiceStatus,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

/// What was left out.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Rest {
    /// Something was left out, because it was too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
    /// How to see what was left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

impl Answer {
    /// `answer` in at most `limit` characters; `hint` says how to see what does not fit.
    pub(super) fn new(
        outcome: &'static str,
        answer: &impl Serialize,
        limit: usize,
        hint: &'static str,
    ) -> Self {
        let mut value = plain(answer);
        fit(&mut value, limit, hint);
        Self { value, links: Vec::new(), outcome }
    }

    /// The log, which has no secrets, in at most `limit` characters: its end.
    pub(super) fn logs(mut logs: LogsAnswer, limit: usize) -> Self {
        let rest = limit.saturating_sub(LOG_FRAME);
        let kept = end_of(&logs.logs, rest);
        logs.truncated |= kept.len() < logs.logs.len();
        logs.logs = kept.to_owned();
        Self { value: plain(&logs), links: Vec::new(), outcome: "read" }
    }

    /// The same with links to the status and the log of `service`.
    pub(super) fn linked(mut self, service: &ServiceName) -> Self {
        let link = |uri: ResourceUri, name: &str, kind: &str| {
            Resource::new(uri.to_string(), format!("{name} of {service}")).with_mime_type(kind)
        };
        let status = ResourceUri::Status(service.clone());
        self.links.push(link(status, "status", "application/json"));
        self.links.push(link(ResourceUri::Logs(service.clone()), "logs", "text/plain"));
        self
    }

    /// The value, and the same as text for clients that know nothing else.
    pub(super) fn into_result(self) -> CallToolResult {
        let mut result = CallToolResult::structured(self.value);
        result.content.extend(self.links.into_iter().map(ContentBlock::resource_link));
        result
    }
}

/// What is around a log in an answer, at most, beside the service's name.
const LOG_FRAME: usize = 300;
