//! What tools and resources both answer with: the types of the wire, without what is not known.

use jiff::Timestamp;
use nanny_lib::{ServiceView, Snapshot};
use nanny_wire::gpu::GpuList;
use nanny_wire::service::{ServiceList, ServiceStatus};
use serde::Serialize;
use serde_json::Value;

/// All services, and the GPUs.
pub(crate) fn overview(now: &Snapshot) -> Value {
    let mut overview = plain(&ServiceList::new(now, |_| true));
    let gpus = plain(&GpuList::from(now)).get_mut("gpus").map(Value::take);
    if let (Value::Object(overview), Some(gpus)) = (&mut overview, gpus) {
        overview.insert("gpus".to_owned(), gpus);
    }
    overview
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_left_out_at_every_depth() {
        let answer = json!({"a": null, "b": [{"c": null, "d": 0}], "e": {"f": null}, "g": ""});
        assert_eq!(plain(&answer), json!({"b": [{"d": 0}], "e": {}, "g": ""}));
    }
}
