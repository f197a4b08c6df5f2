//! What tools and resources both answer with: the types of the wire, without what is not known, and
//! without what looks like a secret in the words of others.

use jiff::Timestamp;
use nanny_lib::{ServiceView, Snapshot};
use nanny_wire::service::{Overview, ServiceStatus};
use serde::Serialize;
use serde_json::Value;

use crate::redact::redact;

/// All services, and the GPUs.
pub(crate) fn overview(now: &Snapshot) -> Value {
    plain(&Overview::new(now, |_| true))
}

/// One service.
pub(crate) fn status(view: &ServiceView, now: &Snapshot) -> Value {
    plain(&ServiceStatus::new(view, now, Timestamp::now()))
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
                match field {
                    Value::String(text) if FOREIGN.contains(&name.as_str()) => {
                        *text = redact(text).into_owned();
                    }
                    field => redact_words(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact_words),
        _ => {}
    }
}

/// Fields with words of others.
const FOREIGN: &[&str] = &["error", "reason", "message", "notices", "description"];

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
    }
}
