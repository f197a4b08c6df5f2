//! What the tools answer with: the types of the REST API, without nulls, and never too much.

use nanny_lib::ServiceName;
use nanny_wire::answer::LogsAnswer;
use nanny_wire::service::{Overview, ServiceStatus};
use rmcp::model::{CallToolResult, ContentBlock, Resource};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::answer::plain;
use crate::redact::redact;
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

    /// The log in at most `limit` characters, its end.
    pub(super) fn logs(mut logs: LogsAnswer, limit: usize) -> Self {
        logs.logs = redact(&logs.logs).into_owned();
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

/// Takes the end off what is longest until all of it fits.
fn fit(value: &mut Value, limit: usize, hint: &'static str) {
    let mut size = length(value);
    if size <= limit {
        return;
    }
    if let Value::Object(fields) = value {
        fields.insert("truncated".to_owned(), true.into());
        fields.insert("hint".to_owned(), hint.into());
        size = length(value);
    }
    while size > limit && shorten(value) {
        size = length(value);
    }
}

/// Halves the longest text or list in `value`, unless there is nothing left to halve.
fn shorten(value: &mut Value) -> bool {
    let fields: Vec<&mut Value> = match value {
        Value::Object(fields) => fields.values_mut().collect(),
        // One item is shortened itself.
        Value::Array(items) if items.len() == 1 => items.iter_mut().collect(),
        Value::Array(items) => {
            items.truncate(items.len() / 2);
            return true;
        }
        Value::String(text) if text.len() > SHORT => {
            let half = text.floor_char_boundary(text.len() / 2);
            text.truncate(half);
            text.push('…');
            return true;
        }
        _ => return false,
    };
    let mut fields: Vec<_> = fields.into_iter().map(|field| (length(field), field)).collect();
    fields.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    fields.into_iter().any(|(length, field)| length > SHORT && shorten(field))
}

fn length(value: &Value) -> usize {
    value.to_string().chars().count()
}

/// The last lines of `text` that are at most `limit` characters once they are written as JSON; of
/// a last line that is longer, its end.
fn end_of(text: &str, limit: usize) -> &str {
    let (mut size, mut start) = (0, text.len());
    for (at, char) in text.char_indices().rev() {
        size += written(char);
        if size > limit {
            break;
        }
        start = at;
    }
    let cut = &text[start..];
    let is_whole = start == 0 || text[..start].ends_with('\n');
    match cut.split_once('\n') {
        Some((_, rest)) if !is_whole && !rest.is_empty() => rest,
        _ => cut,
    }
}

/// How many characters JSON makes of one.
fn written(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => 1,
    }
}

/// What is around a log in an answer, at most, beside the service's name.
const LOG_FRAME: usize = 300;
/// What is shorter is left whole.
const SHORT: usize = 200;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let services: Vec<_> = (0..1000).map(|n| json!({"name": format!("s{n}")})).collect();
        let mut value = json!({"total": 1000, "services": services});
        fit(&mut value, 2000, "filter");
        assert!(length(&value) <= 2000);
        assert_eq!((&value["truncated"], &value["hint"]), (&json!(true), &json!("filter")));
        assert_eq!((&value["total"], &value["services"][0]["name"]), (&json!(1000), &json!("s0")));

        let mut value = json!({"service": {"error": "é".repeat(9000), "status": "failed"}});
        fit(&mut value, 3000, "look");
        assert!(length(&value) <= 3000);
        assert_eq!(value["service"]["status"], "failed");

        let mut value = json!({"a": 1});
        fit(&mut value, 7, "");
        assert_eq!(value, json!({"a": 1}));
    }

    #[test]
    fn a_log_loses_its_beginning() {
        assert_eq!(end_of("one\ntwo\nsix\n", 100), "one\ntwo\nsix\n");
        assert_eq!(end_of("one\ntwo\nsix\n", 10), "two\nsix\n");
        assert_eq!(end_of("one\ntwo\nsix\n", 11), "two\nsix\n");
        assert_eq!(end_of("a line that is too long", 8), "too long");
        assert_eq!(end_of("\u{1b}\u{1b}", 6), "\u{1b}");
        assert_eq!(end_of("", 0), "");
    }
}
