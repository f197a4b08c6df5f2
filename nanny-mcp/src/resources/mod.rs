//! The resources: what a client can read and watch.

mod uri;

use std::sync::Arc;

use nanny_lib::{Error, ServiceName, ServiceView};
use nanny_wire::logs::{self, LogRequest};
use nanny_wire::metrics::Metrics;
use rmcp::ErrorData;
use rmcp::model::{
    Annotations, CacheScope, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult,
    Resource, ResourceContents, ResourceTemplate, Role,
};
use serde_json::json;

pub(crate) use self::uri::ResourceUri;
use crate::answer;
use crate::redact::redact;
use crate::server::Shared;

/// The resources there are now: those about everything, then two for each service, by name.
pub(crate) fn list(shared: &Shared) -> ListResourcesResult {
    let now = shared.nanny.snapshot();
    let services = now.services.values().flat_map(|view| [status_of(view), logs_of(view)]);
    let resources = [overview(), metrics()].into_iter().chain(services).collect();
    ListResourcesResult::with_all_items(resources)
        .with_ttl_ms(0)
        .with_cache_scope(CacheScope::Private)
}

/// The kinds of resources there are.
pub(crate) fn templates() -> ListResourceTemplatesResult {
    let status = ResourceTemplate::new(STATUS_TEMPLATE, "service_status")
        .with_title("Status of a service")
        .with_description(
            "State, health, uptime, containers, GPUs and the last error of one service.",
        )
        .with_mime_type(JSON)
        .with_annotations(notes(0.8));
    let logs = ResourceTemplate::new(LOGS_TEMPLATE, "service_logs")
        .with_title("Logs of a service")
        .with_description("The last 200 lines that one service wrote.")
        .with_mime_type(TEXT)
        .with_annotations(notes(0.6));
    ListResourceTemplatesResult::with_all_items(vec![status, logs])
        .with_ttl_ms(0)
        .with_cache_scope(CacheScope::Private)
}

/// Reads one.
pub(crate) async fn read(shared: &Shared, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let known = ResourceUri::parse(uri).ok_or_else(|| unknown(uri))?;
    let contents = contents(shared, &known, uri).await?;
    Ok(ReadResourceResult::new(vec![contents]).with_ttl_ms(0).with_cache_scope(CacheScope::Private))
}

/// What `uri` holds now, under the name that it was asked for by.
pub(crate) async fn contents(
    shared: &Shared,
    uri: &ResourceUri,
    asked: &str,
) -> Result<ResourceContents, ErrorData> {
    let nanny = &shared.nanny;
    let now = nanny.snapshot();
    let service = |name: &ServiceName| -> Result<Arc<ServiceView>, ErrorData> {
        now.services.get(name).cloned().ok_or_else(|| unknown(asked))
    };
    let limit = shared.config.output_limit;
    let value = match uri {
        ResourceUri::Overview => answer::overview(&now, limit),
        ResourceUri::Metrics => answer::metrics(&Metrics::collect(nanny).await, limit),
        ResourceUri::Status(name) => answer::status(&*service(name)?, &now, limit),
        ResourceUri::Logs(name) => {
            let mut request = LogRequest::tail(Some(LOG_LINES));
            // As many bytes as characters at the most: four for each.
            request.limit = limit.saturating_mul(4);
            let read = logs::read(nanny, &*service(name)?, request).await;
            let logs = read.map_err(|error| unreadable(asked, &error))?.logs;
            let logs = redact(&logs);
            let last = answer::end_of(last_lines(&logs), limit);
            return Ok(ResourceContents::text(last, asked).with_mime_type(TEXT));
        }
    };
    Ok(ResourceContents::text(value.to_string(), asked).with_mime_type(JSON))
}

fn overview() -> Resource {
    Resource::new(ResourceUri::Overview.to_string(), "status")
        .with_title("All services and GPUs")
        .with_description("What services there are, what runs, and who has the GPU.")
        .with_mime_type(JSON)
        .with_annotations(notes(1.0))
}

fn metrics() -> Resource {
    Resource::new(ResourceUri::Metrics.to_string(), "metrics")
        .with_title("Metrics")
        .with_description(
            "By service: uptime, starts, failures, GPU seconds, video memory, processor time and \
             memory. By GPU: memory, utilization, temperature.",
        )
        .with_mime_type(JSON)
        .with_annotations(notes(0.4))
}

fn status_of(view: &ServiceView) -> Resource {
    let name = view.name();
    let since = view.state_since.to_string();
    let mut notes = notes(0.8);
    notes.last_modified = Some(since);
    Resource::new(ResourceUri::Status(name.clone()).to_string(), format!("status of {name}"))
        .with_title(format!("Status of {name}"))
        .with_description(brief(&view.manifest.description))
        .with_mime_type(JSON)
        .with_annotations(notes)
}

fn logs_of(view: &ServiceView) -> Resource {
    let name = view.name();
    Resource::new(ResourceUri::Logs(name.clone()).to_string(), format!("logs of {name}"))
        .with_title(format!("Logs of {name}"))
        .with_description("The last 200 lines that it wrote.")
        .with_mime_type(TEXT)
        .with_annotations(notes(0.6))
}

/// For the user as much as for the model.
fn notes(priority: f32) -> Annotations {
    Annotations::default().with_audience(vec![Role::User, Role::Assistant]).with_priority(priority)
}

/// A description at a length that a list of many bears.
fn brief(description: &str) -> String {
    match description.char_indices().nth(DESCRIPTION) {
        None => description.to_owned(),
        Some((end, _)) => format!("{}…", &description[..end]),
    }
}

/// Of several containers' last lines the last ones.
fn last_lines(text: &str) -> &str {
    let ends = text.trim_end_matches('\n').rmatch_indices('\n');
    let begin = ends.map(|(at, _)| at + 1).nth(LOG_LINES as usize - 1);
    &text[begin.unwrap_or(0)..]
}

fn unknown(uri: &str) -> ErrorData {
    ErrorData::resource_not_found(
        format!("there is no resource '{}'; resources/list has those there are", brief(uri)),
        Some(json!({ "uri": brief(uri) })),
    )
}

fn unreadable(uri: &str, error: &logs::LogsError) -> ErrorData {
    match error {
        logs::LogsError::Nanny(Error::NotFound { .. }) => unknown(uri),
        error => ErrorData::internal_error(
            redact(&error.to_string()).into_owned(),
            Some(json!({ "uri": brief(uri) })),
        ),
    }
}

/// The templates; each takes a `name`.
pub(crate) const TEMPLATES: [&str; 2] = [STATUS_TEMPLATE, LOGS_TEMPLATE];
const STATUS_TEMPLATE: &str = "service://status/{name}";
const LOGS_TEMPLATE: &str = "service://logs/{name}";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain";
const LOG_LINES: u32 = 200;
/// So many characters of a description.
const DESCRIPTION: usize = 300;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod texts {
    use super::*;

    #[test]
    fn the_last_lines_are_whole_ones() {
        let text: String = (0..300).map(|line| format!("a  | {line}\n")).collect();
        let last = last_lines(&text);
        assert!(last.starts_with("a  | 100\n"), "{last}");
        assert!(last.ends_with("a  | 299\n"), "{last}");
        assert_eq!(last.lines().count(), 200);
        for short in ["", "a  | one\n", "a  | one\na  | two"] {
            assert_eq!(last_lines(short), short);
        }
    }

    #[test]
    fn a_long_description_is_cut_between_characters() {
        assert_eq!(brief("größe"), "größe");
        assert_eq!(brief(&"ö".repeat(400)).chars().count(), 301);
    }
}
