//! What tools and resources both answer with: the types of the wire, without what is not known,
//! without what looks like a secret in the words of others, and never too much.

use jiff::Timestamp;
use nanny_lib::{ServiceView, Snapshot};
use nanny_wire::metrics::Metrics;
use nanny_wire::service::{Overview, ServiceStatus};
use serde::Serialize;
use serde_json::Value;

use crate::redact::{redact, redact_address};

/// All services, and the GPUs, in at most `limit` characters.
pub(crate) fn overview(now: &Snapshot, limit: usize) -> Value {
    fitting(&Overview::new(now, |_| true), limit, "Not all is shown: list_services has a filter.")
}

/// One service, in at most `limit` characters.
pub(crate) fn status(view: &ServiceView, now: &Snapshot, limit: usize) -> Value {
    let status = ServiceStatus::new(view, now, Timestamp::now());
    fitting(&status, limit, "Not all is shown; the logs may say more.")
}

/// What is counted and measured, in at most `limit` characters.
pub(crate) fn metrics(metrics: &Metrics, limit: usize) -> Value {
    fitting(metrics, limit, "Not all services are shown.")
}

fn fitting(answer: &impl Serialize, limit: usize, hint: &'static str) -> Value {
    let mut value = plain(answer);
    fit(&mut value, limit, hint);
    value
}

/// `answer` as JSON. What is `null` is left out: not every client takes an optional field to be one
/// that may be null.
pub(crate) fn plain(answer: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(answer).unwrap_or_default();
    leave_out_nulls(&mut value);
    redact_words(&mut value);
    value
}

fn leave_out_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(leave_out_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Texts that engines and services write.
fn redact_words(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match name.as_str() {
                    name if FOREIGN.contains(&name) => redact_texts(field),
                    name if ADDRESSES.contains(&name) => {
                        if let Value::String(address) = field {
                            *address = redact_address(address);
                        }
                    }
                    _ => redact_words(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact_words),
        _ => {}
    }
}

/// A text, or those in a list.
fn redact_texts(value: &mut Value) {
    match value {
        Value::String(text) => *text = redact(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(redact_texts),
        other => redact_words(other),
    }
}

/// Takes the end off what is longest until all of it fits.
pub(crate) fn fit(value: &mut Value, limit: usize, hint: &'static str) {
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
pub(crate) fn end_of(text: &str, limit: usize) -> &str {
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

/// Fields with words of others.
const FOREIGN: &[&str] = &["error", "reason", "message", "notices", "problems", "description"];
/// Fields that say where something is, which may take a password with it.
const ADDRESSES: &[&str] = &["health_endpoint", "endpoint"];
/// What is shorter is left whole.
const SHORT: usize = 200;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_left_out_at_every_depth() {
        let answer = json!({"a": null, "b": [{"c": null, "d": 0}], "e": {"f": null}, "g": ""});
        assert_eq!(plain(&answer), json!({"b": [{"d": 0}], "e": {}, "g": ""}));
    }

    #[test]
    fn words_of_others_have_no_secrets() {
        let mut value = json!({"service": {"error": "TOKEN=abcdefgh1", "name": "TOKEN=abcdefgh1"}});
        redact_words(&mut value);
        let shown = json!({"service": {"error": "TOKEN=[redacted]", "name": "TOKEN=abcdefgh1"}});
        assert_eq!(value, shown);

        let mut value = json!({
            "notices": ["one", "password=hunter2"],
            "health_endpoint": "http://me:hunter2@localhost/health?k=1",
            "mcp": {"endpoint": "http://localhost/mcp?key=abc"},
            "reason": {"error": ["SECRET=a"]},
        });
        redact_words(&mut value);
        let shown = json!({
            "notices": ["one", "password=[redacted]"],
            "health_endpoint": "http://me:[redacted]@localhost/health?[redacted]",
            "mcp": {"endpoint": "http://localhost/mcp?[redacted]"},
            "reason": {"error": ["SECRET=[redacted]"]},
        });
        assert_eq!(value, shown);
    }

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
