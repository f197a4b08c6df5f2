//! Query parameters. Unknown ones are ignored; of one given twice the last counts.

use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;
use nanny_lib::{ServiceView, StartOptions, Status};
use nanny_wire::logs::Timestamps;

use crate::error::{ApiError, FieldError};

/// Which services a list shows: those that fit all that was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    tags: Vec<String>,
    status: Option<Status>,
    gpu: Option<bool>,
}

impl Filter {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let mut filter = Self::default();
        for (name, value) in parameters(uri) {
            match name.as_str() {
                "tag" => filter.tags.push(value),
                "status" => filter.status = Some(status(&value)?),
                "gpu" => filter.gpu = Some(flag("gpu", &value)?),
                _ => {}
            }
        }
        Ok(filter)
    }

    pub(crate) fn picks(&self, view: &ServiceView) -> bool {
        self.tags.iter().all(|tag| view.manifest.tags.contains(tag))
            && self.status.is_none_or(|status| view.status == status)
            && self.gpu.is_none_or(|gpu| view.manifest.gpu_required == gpu)
    }
}

/// Which part of a log is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LogQuery {
    /// So many lines of each container; `None` is all.
    pub(crate) tail: Option<u32>,
    pub(crate) timestamps: Timestamps,
}

impl LogQuery {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let mut query = Self { tail: Some(100), timestamps: Timestamps::Hidden };
        for (name, value) in parameters(uri) {
            match name.as_str() {
                "tail" => query.tail = tail(&value)?,
                "timestamps" if flag("timestamps", &value)? => query.timestamps = Timestamps::Shown,
                "timestamps" => query.timestamps = Timestamps::Hidden,
                _ => {}
            }
        }
        Ok(query)
    }
}

/// The parameters of a plan: those of the body of a start that change its verdict.
pub(crate) fn plan_options(uri: &Uri) -> Result<StartOptions, ApiError> {
    let mut options = StartOptions::default();
    for (name, value) in parameters(uri) {
        match name.as_str() {
            "force" => options.force = flag("force", &value)?,
            "queue" if flag("queue", &value)? => options.queue = Duration::MAX,
            "queue" => options.queue = Duration::ZERO,
            _ => {}
        }
    }
    Ok(options)
}

fn parameters(uri: &Uri) -> Vec<(String, String)> {
    Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default()
}

fn tail(value: &str) -> Result<Option<u32>, ApiError> {
    let must = "must be a number from 0 to 10000, or -1 or 'all' for everything";
    match value {
        "all" | "-1" => Ok(None),
        _ => match value.parse() {
            Ok(lines) if lines <= 10_000 => Ok(Some(lines)),
            _ => Err(invalid("tail", must)),
        },
    }
}

fn flag(name: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(invalid(name, "must be true or false")),
    }
}

fn status(value: &str) -> Result<Status, ApiError> {
    let known = Status::ALL.into_iter().find(|status| status.as_str() == value);
    known.ok_or_else(|| {
        let words: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
        invalid("status", &format!("must be one of {}", words.join(", ")))
    })
}

fn invalid(name: &str, must: &str) -> ApiError {
    ApiError::Invalid(vec![FieldError::query(name, must)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(query: &str) -> Result<LogQuery, ApiError> {
        LogQuery::parse(&format!("/services/x/logs{query}").parse().unwrap())
    }

    #[test]
    fn tail_is_a_number_or_everything() {
        for (query, tail) in [
            ("", Some(100)),
            ("?tail=50", Some(50)),
            ("?tail=0", Some(0)),
            ("?tail=10000", Some(10_000)),
            ("?tail=-1", None),
            ("?tail=all", None),
            ("?tail=1&tail=2", Some(2)),
            ("?other=x", Some(100)),
        ] {
            assert_eq!(logs(query).unwrap().tail, tail, "{query}");
        }
        for query in
            ["?tail=", "?tail=10001", "?tail=-2", "?tail=1.5", "?tail=x", "?tail=99999999999"]
        {
            let problem = logs(query).unwrap_err().problem();
            assert_eq!(problem.status.as_u16(), 422, "{query}");
            assert_eq!(problem.extras["errors"][0]["loc"], serde_json::json!(["query", "tail"]));
        }
    }

    #[test]
    fn timestamps_are_shown_when_asked_for() {
        assert_eq!(logs("").unwrap().timestamps, Timestamps::Hidden);
        assert_eq!(logs("?timestamps=true").unwrap().timestamps, Timestamps::Shown);
        assert!(logs("?timestamps=maybe").is_err());
    }

    #[test]
    fn a_filter_takes_known_words_only() {
        let filter = |query: &str| Filter::parse(&format!("/services{query}").parse().unwrap());
        assert_eq!(filter("").unwrap(), Filter::default());
        let all = filter("?tag=a%20b&tag=c&status=running&gpu=true").unwrap();
        assert_eq!(all.tags, ["a b", "c"]);
        assert_eq!((all.status, all.gpu), (Some(Status::Running), Some(true)));
        for query in ["?status=up", "?status=", "?gpu=maybe", "?gpu"] {
            assert!(filter(query).is_err(), "{query}");
        }
    }

    #[test]
    fn a_plan_neither_forces_nor_waits_unless_said() {
        let read = |query: &str| plan_options(&format!("/services/x/plan{query}").parse().unwrap());
        assert_eq!(read("").unwrap(), StartOptions::default());
        assert_eq!(read("?force=true").unwrap(), StartOptions::forced());
        assert!(!read("?force=true&force=false").unwrap().force);
        assert_eq!(read("?queue=true").unwrap().queue, Duration::MAX);
        assert_eq!(read("?queue=true&queue=false").unwrap().queue, Duration::ZERO);
        for query in ["?force=yes", "?queue=30"] {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
