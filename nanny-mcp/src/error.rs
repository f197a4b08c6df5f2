//! Why a tool did not do what it was asked, in words that a model can go on from.

use std::borrow::Borrow;

use nanny_lib::gpu::{Account, Refusal};
use nanny_lib::{Error, Snapshot};
use nanny_wire::gpu::{free, need, occupants};
use nanny_wire::logs::LogsError;
use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ContentBlock};
use serde_json::{Map, Value, json};

use crate::answer::fit;
use crate::completion::{brief, closest};
use crate::redact::redact;

/// A call that was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The tool says why: the model reads it.
    Tool(Box<ToolError>),
    /// The call itself is none that can be answered: the client reads it.
    Protocol(ErrorData),
}

impl Failure {
    /// The code, for a log.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Tool(error) => error.code,
            Self::Protocol(_) => "protocol error",
        }
    }

    /// The nanny's own reason. `now` is what there is besides.
    pub(crate) fn from_nanny(error: &Error, now: &Snapshot) -> Self {
        match ToolError::from_nanny(error, now) {
            Some(error) => error.into(),
            None => Self::internal(error),
        }
    }

    pub(crate) fn from_logs(error: &LogsError, now: &Snapshot) -> Self {
        match error {
            LogsError::Nanny(error) => match Self::from_nanny(error, now) {
                Self::Tool(away) if away.code == "ENGINE_UNAVAILABLE" => {
                    away.advising("Nothing was changed; tell the user, or try again later.").into()
                }
                failure => failure,
            },
            LogsError::Failed { .. } => ToolError::new(
                "LOGS_FAILED",
                sentence(&error.to_string()),
                "Nothing was changed; look at get_service_status instead.",
            )
            .into(),
            LogsError::Timeout { .. } => ToolError::new(
                "LOGS_TIMEOUT",
                sentence(&error.to_string()),
                "Nothing was changed; ask for fewer lines with a smaller tail.",
            )
            .retryable()
            .into(),
            _ => Self::internal(error),
        }
    }

    /// A fault of ours, which is for our log alone.
    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "a tool failed for a reason of the nanny's own");
        Self::Protocol(ErrorData::internal_error("internal error", None))
    }
}

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        Self::Tool(Box::new(error))
    }
}

impl From<ErrorData> for Failure {
    fn from(error: ErrorData) -> Self {
        Self::Protocol(error)
    }
}

/// What a model is told instead of a result.
#[derive(Debug)]
pub(crate) struct ToolError {
    pub(crate) code: &'static str,
    /// What happened: a sentence.
    message: String,
    /// What to do next: a sentence.
    advice: String,
    /// Whether the same call may succeed later, with nothing else done.
    retryable: bool,
    details: Map<String, Value>,
}

impl ToolError {
    pub(crate) fn new(
        code: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (message, advice) = (message.into(), advice.into());
        Self { code, message, advice, retryable: false, details: Map::new() }
    }

    pub(crate) fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn advising(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// `field` of the arguments is not what it must be.
    pub(crate) fn invalid_argument(field: &str, must: &str) -> Self {
        let message = format!("The argument '{field}' is not valid: {must}.");
        Self::new("INVALID_ARGUMENT", message, "Correct it and call again.").with("argument", field)
    }

    pub(crate) fn read_only(tool: &str) -> Self {
        Self::new(
            "READ_ONLY",
            format!("This server starts and stops nothing, so {tool} was not done."),
            "Tell the user: it was started with --mcp-read-only.",
        )
    }

    /// `name` is none of the services there are.
    pub(crate) fn not_found(name: &str, now: &Snapshot) -> Self {
        let closest = closest(name, now);
        let advice = if closest.is_empty() {
            "Call list_services for the names there are.".to_owned()
        } else {
            let names: Vec<_> = closest.iter().map(|name| format!("'{name}'")).collect();
            format!("Did you mean {}? Otherwise call list_services.", names.join(" or "))
        };
        Self::new("SERVICE_NOT_FOUND", format!("There is no service '{}'.", brief(name)), advice)
            .with("closest", closest)
    }

    /// An assistant may not stop `name`.
    pub(crate) fn protected(name: &str) -> Self {
        Self::new(
            "PROTECTED",
            format!("'{name}' is protected: no assistant may stop it."),
            "Tell the user, who can stop it by other means, or take 'protected' out of its manifest.",
        )
        .with("protected", name)
    }

    /// The nanny's own reason, if it is one that a model should hear.
    fn from_nanny(error: &Error, now: &Snapshot) -> Option<Self> {
        let new = |code, advice: &str| Self::new(code, sentence(&error.to_string()), advice);
        Some(match error {
            Error::NotFound { name } => Self::not_found(name, now),
            // What helps depends on who it is: whoever starts one says it.
            Error::GpuConflict { holders, account } => {
                let advice = "What uses the GPU is no service: ask the user to end it.";
                new("GPU_BUSY", advice).with_sum(holders, account)
            }
            Error::GpuRefused { reason: Refusal::Pinned(holder), account } => {
                let holders = [holder.to_string()];
                new("GPU_BUSY", "force does not help; ask the user to stop it.")
                    .with_sum(&holders, account)
            }
            Error::GpuRefused { account, .. } => {
                let advice = "No other service could make room for it; tell the user.";
                new("GPU_INSUFFICIENT", advice).with_sum(&[], account)
            }
            Error::GpuMemoryHeld { restored, .. } => new(
                "GPU_BUSY",
                "Try again in a quarter of a minute; if it stays so, tell the user.",
            )
            .retryable()
            .with("restored", json!(restored)),
            Error::Cancelled { .. } => new(
                "START_CANCELLED",
                "Somebody else wanted it so: ask the user before a new start.",
            ),
            Error::StartFailed { restored, .. } => {
                new("START_FAILED", LOOK_AT_LOGS).with("restored", json!(restored))
            }
            Error::StopFailed { .. } => {
                new("STOP_FAILED", "It may be half stopped: look at get_service_status.")
            }
            Error::StartTimeout { .. } => new("START_TIMEOUT", MAY_HAVE_HAPPENED).retryable(),
            // It may have gone away in the middle of it.
            Error::EngineUnavailable { engine, .. } => new("ENGINE_UNAVAILABLE", MAY_HAVE_HAPPENED)
                .retryable()
                .with("engine", engine.as_str()),
            Error::NoEngine { .. } => new(
                "ENGINE_UNAVAILABLE",
                "Nothing was done, and trying again does not help: tell the user what has to change.",
            ),
            Error::Protected { name, .. } => new("PROTECTED", "Nobody can start or stop it here.")
                .with("protected", name.as_str()),
            Error::Overloaded => new("RATE_LIMITED", "Try again in a second.").retryable(),
            Error::ShuttingDown => new("ENGINE_UNAVAILABLE", MAY_HAVE_HAPPENED).retryable(),
            _ => return None,
        })
    }

    /// What is needed, what is free, and who has the rest.
    fn with_sum(self, holders: &[String], account: &Account) -> Self {
        self.with("holders", json!(occupants(holders, account)))
            .with("need", json!(need(account)))
            .with("free_mib", json!(free(account)))
    }

    /// Text alone: some clients hold whatever is structured against the schema of the results.
    pub(crate) fn into_result(self) -> CallToolResult {
        let Self { code, message, advice, retryable, mut details } = self;
        let message = short(&redact(&message), MESSAGE_LIMIT);
        let advice = short(&advice, MESSAGE_LIMIT);
        let text = format!("{code}: {message} {advice}");
        details.insert("code".to_owned(), code.into());
        details.insert("message".to_owned(), message.into());
        details.insert("next".to_owned(), advice.into());
        details.insert("retryable".to_owned(), retryable.into());
        let mut details = Value::Object(details);
        fit(&mut details, DETAILS_LIMIT, "Not all is shown.");
        let details = json!({ "error": details }).to_string();
        CallToolResult::error(vec![ContentBlock::text(text), ContentBlock::text(details)])
    }
}

/// The beginning of a text that is too long.
fn short(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// `'a'`, `'a' and 'b'`.
pub(crate) fn quoted(names: &[impl Borrow<str>]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("'{}'", name.borrow())).collect();
    names.join(" and ")
}

/// The same with a capital letter and a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{stop}", first.into_iter().flatten().collect::<String>(), chars.as_str())
}

pub(crate) const MAY_HAVE_HAPPENED: &str =
    "It may have happened all the same: look at get_service_status before you do anything else.";
/// In characters.
const MESSAGE_LIMIT: usize = 2000;
/// In characters of JSON.
const DETAILS_LIMIT: usize = 20_000;
const LOOK_AT_LOGS: &str = "Read get_service_logs for the cause before you try again.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_begins_large_and_ends() {
        assert_eq!(sentence("'a' has ended"), "'a' has ended.");
        assert_eq!(sentence("too many wait."), "Too many wait.");
    }

    #[test]
    fn an_error_is_text_alone_and_has_no_secrets() {
        let error = ToolError::new("START_FAILED", "It said API_KEY=abcdefgh1.", "Look.");
        let result = error.retryable().with("restored", json!(["a"])).into_result();
        assert_eq!((result.is_error, result.structured_content), (Some(true), None));
        let texts: Vec<_> =
            result.content.iter().map(|block| block.as_text().unwrap().text.as_str()).collect();
        assert_eq!(texts[0], "START_FAILED: It said API_KEY=[redacted] Look.");
        let details: Value = serde_json::from_str(texts[1]).unwrap();
        assert_eq!(details["error"]["restored"], json!(["a"]));
        assert_eq!(details["error"]["code"], "START_FAILED");
    }

    #[test]
    fn an_error_is_no_longer_than_a_model_wants_to_read() {
        let long = "é".repeat(100_000);
        let error = ToolError::new("START_FAILED", long.as_str(), "Look.");
        let result = error.with("log", vec![long.as_str(); 20]).into_result();
        let texts: Vec<_> =
            result.content.iter().map(|block| block.as_text().unwrap().text.as_str()).collect();
        assert!(texts[0].chars().count() < 2100 && texts[0].ends_with("… Look."));
        assert!(texts[1].chars().count() < 20_100);
        let details: Value = serde_json::from_str(texts[1]).unwrap();
        assert_eq!(
            (&details["error"]["code"], &details["error"]["truncated"]),
            (&json!("START_FAILED"), &json!(true))
        );
    }
}
