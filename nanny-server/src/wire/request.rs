//! Request bodies. Each field is checked on its own, so that one answer names all that is wrong.

use std::time::Duration;

use nanny_lib::{StartOptions, StopOptions, Wait};
use serde_json::{Map, Value};

use crate::error::{ApiError, FieldError};

/// Reads the body of a start or a restart.
pub(crate) fn start_options(body: &[u8]) -> Result<StartOptions, ApiError> {
    let mut fields = Fields::parse(body)?;
    let mut options = StartOptions::default();
    fields.flag("force", &mut options.force);
    fields.flag("rollback", &mut options.rollback);
    fields.flag("recreate", &mut options.recreate);
    if let Some(wait) = fields.read("wait", "must be 'running', 'healthy' or 'none'", wait) {
        options.wait = wait;
    }
    if let Some(timeout) = fields.read("timeout", "must be a number of seconds above 0", seconds) {
        options.timeout = timeout;
    }
    let must = "must be true, false or a number of seconds";
    if let Some(queue) = fields.read("queue", must, queue) {
        options.queue = queue;
    }
    fields.finish(options)
}

/// Reads the body of a stop.
pub(crate) fn stop_options(body: &[u8]) -> Result<StopOptions, ApiError> {
    let mut fields = Fields::parse(body)?;
    let mut options = StopOptions::default();
    fields.flag("remove", &mut options.remove);
    fields.finish(options)
}

/// Reads a body that has nothing to say.
pub(crate) fn nothing(body: &[u8]) -> Result<(), ApiError> {
    Fields::parse(body)?.finish(())
}

fn wait(value: &Value) -> Option<Wait> {
    match value.as_str()? {
        "running" => Some(Wait::Running),
        "healthy" => Some(Wait::Healthy),
        "none" => Some(Wait::None),
        _ => None,
    }
}

/// How long to wait for room on the GPU: as long as it takes, not at all, or for so long.
fn queue(value: &Value) -> Option<Duration> {
    match value {
        Value::Bool(true) => Some(Duration::MAX),
        Value::Bool(false) => Some(Duration::ZERO),
        value if value.as_f64() == Some(0.0) => Some(Duration::ZERO),
        value => seconds(value),
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().filter(|seconds| *seconds > 0.0)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(A_YEAR).min(A_YEAR))
}

/// Longer than anybody waits, and short enough for arithmetic on clocks.
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// The fields of a body that were not read yet, and what was wrong with those that were.
struct Fields {
    rest: Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Reads a JSON object, whatever the content type says. An empty body, and `null`, are `{}`.
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let invalid = |msg: String| ApiError::Invalid(vec![FieldError::body(None, msg)]);
        let rest = if body.trim_ascii().is_empty() {
            Map::new()
        } else {
            match serde_json::from_slice(body) {
                Ok(Value::Object(fields)) => fields,
                Ok(Value::Null) => Map::new(),
                Ok(_) => return Err(invalid("must be a JSON object".to_owned())),
                Err(error) => return Err(invalid(format!("is not valid JSON: {error}"))),
            }
        };
        Ok(Self { rest, known: Vec::new(), errors: Vec::new() })
    }

    fn flag(&mut self, name: &'static str, flag: &mut bool) {
        if let Some(value) = self.read(name, "must be true or false", Value::as_bool) {
            *flag = value;
        }
    }

    /// Takes a field, if it is there, and notes that it `must be…` if `read` cannot make sense of it.
    fn read<T>(
        &mut self,
        name: &'static str,
        must: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(name);
        let value = self.rest.remove(name)?;
        let read = read(&value);
        if read.is_none() {
            self.errors.push(FieldError::body(name.to_owned(), must));
        }
        read
    }

    /// `value`, unless something was wrong or there are fields that nobody read.
    fn finish<T>(mut self, value: T) -> Result<T, ApiError> {
        let known = match &self.known[..] {
            [] => "there are none here".to_owned(),
            known => format!("there are {}", known.join(", ")),
        };
        for (name, _) in self.rest {
            let name: String = name.chars().take(LONGEST_NAME_SHOWN).collect();
            self.errors.push(FieldError::body(name, format!("is not known; {known}")));
        }
        self.errors.truncate(MOST_ERRORS_SHOWN);
        if self.errors.is_empty() { Ok(value) } else { Err(ApiError::Invalid(self.errors)) }
    }
}

const LONGEST_NAME_SHOWN: usize = 100;
const MOST_ERRORS_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn errors<T: std::fmt::Debug>(read: Result<T, ApiError>) -> Vec<(Option<String>, String)> {
        match read {
            Err(ApiError::Invalid(errors)) => {
                errors.into_iter().map(|error| (error.loc.1, error.msg)).collect()
            }
            other => panic!("expected field errors, not {other:?}"),
        }
    }

    #[test]
    fn no_body_means_the_defaults() {
        for body in ["", " \r\n", "{}", "null", r#"{"queue": false}"#] {
            assert_eq!(start_options(body.as_bytes()).unwrap(), StartOptions::default());
        }
        assert!(!start_options(b"").unwrap().force);
        assert_eq!(stop_options(b"").unwrap(), StopOptions::default());
        nothing(b"{}").unwrap();
    }

    #[test]
    fn every_field_is_read() {
        let body = br#"{"force": true, "wait": "healthy", "timeout": 1.5, "rollback": false,
            "recreate": true}"#;
        let options = start_options(body).unwrap();
        assert!(options.force && options.recreate && !options.rollback);
        assert_eq!((options.wait, options.timeout), (Wait::Healthy, Duration::from_millis(1500)));
        assert_eq!(start_options(br#"{"wait": "none"}"#).unwrap().wait, Wait::None);
        assert!(stop_options(br#"{"remove": true}"#).unwrap().remove);
    }

    #[test]
    fn wrong_values_name_their_field() {
        for (body, field) in [
            (r#"{"force": "true"}"#, "force"),
            (r#"{"force": 1}"#, "force"),
            (r#"{"force": null}"#, "force"),
            (r#"{"wait": "ready"}"#, "wait"),
            (r#"{"wait": true}"#, "wait"),
            (r#"{"timeout": 0}"#, "timeout"),
            (r#"{"timeout": -1}"#, "timeout"),
            (r#"{"timeout": "10"}"#, "timeout"),
            (r#"{"queue": "30"}"#, "queue"),
            (r#"{"queue": -1}"#, "queue"),
            (r#"{"queue": null}"#, "queue"),
            (r#"{"forced": true}"#, "forced"),
        ] {
            let errors = errors(start_options(body.as_bytes()));
            assert_eq!(errors.len(), 1, "{body}");
            assert_eq!(errors[0].0.as_deref(), Some(field), "{body}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let errors = errors(start_options(br#"{"x": 1, "timeout": 0, "force": 2}"#));
        let fields: Vec<_> = errors.iter().filter_map(|(field, _)| field.as_deref()).collect();
        assert_eq!(fields, ["force", "timeout", "x"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in
            ["[]", "true", "{", "force=true", "\"x\"", "{\"timeout\": NaN}", "{\"timeout\": 1e999}"]
        {
            assert_eq!(errors(start_options(body.as_bytes()))[0].0, None, "{body}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(errors(start_options(deep.as_bytes())).len(), 1);
    }

    #[test]
    fn a_start_waits_for_the_gpu_as_long_as_it_says() {
        for (queue, wait) in [
            ("true", Duration::MAX),
            ("false", Duration::ZERO),
            ("0", Duration::ZERO),
            ("30", Duration::from_secs(30)),
            ("0.5", Duration::from_millis(500)),
            ("1e300", A_YEAR),
        ] {
            let body = format!(r#"{{"queue": {queue}}}"#);
            assert_eq!(start_options(body.as_bytes()).unwrap().queue, wait, "{queue}");
        }
    }

    #[test]
    fn an_endless_timeout_is_a_long_one() {
        assert_eq!(start_options(br#"{"timeout": 1e300}"#).unwrap().timeout, A_YEAR);
    }
}
