//! The field `mcp`: a service that is an MCP server itself.
//!
//! Many a manifest has it from a template, with examples for content. As long as it is not enabled
//! it says nothing, whatever it says.

use nanny_compose::yaml::{Node, Value};

use super::{Endpoint, Fault, Fields, Report, place, scalar};
use crate::manifest::service::McpEndpoint;

/// Where a service is reached; `None` if it is not enabled, or says so in no way that can be used.
pub(super) fn read(node: &Node, report: &mut Report<'_>) -> Option<McpEndpoint> {
    match (&node.value, scalar::flag(node)) {
        (_, Ok(false)) | (Value::Null, _) => return None,
        (Value::Mapping(_), _) => {}
        _ => {
            let message = format!(
                "'mcp' must be a mapping, not {}; write 'enabled: true' and 'port: 8000' on lines of \
                 their own, indented",
                node.kind()
            );
            report.error(place(node), message);
            return None;
        }
    }
    let mut fields = Fields::new(node.as_mapping(), "mcp.");
    if fields.entry("enabled").is_none() {
        report.hint(place(node), "'mcp' does nothing without 'enabled: true'");
        return None;
    }
    if !fields.read("enabled", report, scalar::flag)? {
        return None;
    }
    let endpoint = address(&mut fields, node, report);
    let tools = fields.read("tools", report, names).unwrap_or_default();
    let resources = fields.read("resources", report, names).unwrap_or_default();
    fields.hint_at_unknown(report);
    Some(McpEndpoint { endpoint: endpoint?, tools, resources })
}

/// The address that `port` and `endpoint` come to.
fn address(fields: &mut Fields<'_>, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let port_at = fields.entry("port").map(|entry| (entry.key.line, entry.key.column));
    let endpoint_at = fields.entry("endpoint").map(|entry| place(&entry.value));
    let port = fields.read("port", report, port);
    let endpoint = fields.read("endpoint", report, endpoint);
    match (endpoint, endpoint_at, port_at) {
        (Some(Where::Url(url)), _, port_at) => {
            if let Some(at) = port_at {
                report.hint(at, "'mcp.port' does nothing beside a whole 'mcp.endpoint'");
            }
            Some(url)
        }
        (Some(Where::Path(_)), Some(at), None) => {
            let message = "'mcp.endpoint' is a path and needs a port; write 'port: 8000' beside it";
            report.error(at, message);
            None
        }
        (Some(Where::Path(path)), _, _) => Some(local(port?, &path)),
        (None, None, Some(_)) => Some(local(port?, "/mcp")),
        (None, None, None) => {
            let message = "'mcp' is enabled and does not say where; write 'port: 8000' for \
                           http://localhost:8000/mcp, or the whole address as 'endpoint'";
            report.hint(place(node), message);
            None
        }
        // It was at fault.
        (None, Some(_), _) => None,
    }
}

fn local(port: u16, path: &str) -> String {
    format!("http://localhost:{port}{path}")
}

/// What an `endpoint` may be.
enum Where {
    Url(String),
    /// On the port that is named beside it.
    Path(String),
}

fn port(node: &Node) -> Result<u16, Fault> {
    // Ports are often in quotes, as Compose's are.
    let port = scalar::text(node)?.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| Fault {
        at: place(node),
        message: "must be a port; write a number from 1 to 65535".to_owned(),
    })
}

/// No message repeats it: what is at fault may be a secret in it.
fn endpoint(node: &Node) -> Result<Where, Fault> {
    let text = scalar::text(node)?;
    let fault = |message: String| Err(Fault { at: place(node), message });
    // As one that is whole, for whatever else must be so of it.
    let whole = if text.starts_with('/') { local(80, &text) } else { text.clone() };
    let Some((scheme, rest)) = whole.split_once("://") else {
        return fault(format!("is no address; {EXAMPLES}"));
    };
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return fault(format!("is no address of http or https; {EXAMPLES}"));
    }
    if let Err(reason) = Endpoint::parse(&whole) {
        return fault(format!("is no address: {reason}"));
    }
    if rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@')) {
        let message = "must have no user and no password in it, for it is shown";
        return fault(format!("{message}; leave them to whoever connects"));
    }
    Ok(if text.starts_with('/') { Where::Path(text) } else { Where::Url(text) })
}

/// Names, or mappings as in `{name: chat, description: Ask the model}`.
fn names(node: &Node) -> Result<Vec<String>, Fault> {
    let one = |node: &Node| {
        let Some(mapping) = node.as_mapping() else { return scalar::text(node) };
        match mapping.get("name").filter(|name| !name.is_null()) {
            Some(name) => scalar::text(name),
            None => {
                let message = "must have a name each; write '- name: its-name'".to_owned();
                Err(Fault { at: place(node), message })
            }
        }
    };
    match &node.value {
        Value::Sequence(items) => items.iter().map(one).collect(),
        _ => Ok(vec![one(node)?]),
    }
}

const EXAMPLES: &str = "write http://localhost:8000/mcp, or a path as in /mcp beside a 'port'";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Parsed, parse};
    use super::*;
    use crate::manifest::{Problem, Severity};

    fn parse_text(text: &str) -> Result<Parsed, Vec<Problem>> {
        parse(text, Path::new("/srv/chat"), Path::new("service.yaml"))
    }

    fn endpoint_of(text: &str) -> Option<McpEndpoint> {
        let parsed = parse_text(text).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
        assert!(parsed.problems.is_empty(), "{text}: {:?}", parsed.problems);
        parsed.manifest.mcp
    }

    #[test]
    fn a_service_is_reached_where_its_port_or_its_endpoint_says() {
        for (fields, endpoint) in [
            ("port: 8001", "http://localhost:8001/mcp"),
            ("port: '8001'", "http://localhost:8001/mcp"),
            ("port: 8001, endpoint: /api/mcp?v=1", "http://localhost:8001/api/mcp?v=1"),
            ("endpoint: 'https://models.test/mcp'", "https://models.test/mcp"),
            ("endpoint: 'HTTP://[::1]:9/x@y'", "HTTP://[::1]:9/x@y"),
        ] {
            let text = format!("mcp: {{enabled: true, {fields}}}");
            assert_eq!(endpoint_of(&text), Some(McpEndpoint::new(endpoint)), "{text}");
        }
    }

    #[test]
    fn what_it_offers_is_a_list_of_names_or_of_mappings_with_one() {
        let text = "\
mcp:
  enabled: yes
  port: 8001
  tools:
    - chat
    - {name: draw, description: Paint a picture, inputSchema: {type: object}}
  resources: models
";
        let mut expected = McpEndpoint::new("http://localhost:8001/mcp");
        expected.tools = vec!["chat".to_owned(), "draw".to_owned()];
        expected.resources = vec!["models".to_owned()];
        assert_eq!(endpoint_of(text), Some(expected));
    }

    #[test]
    fn what_is_not_enabled_is_a_placeholder_whatever_it_says() {
        for text in [
            "mcp:",
            "mcp: false",
            "mcp: {enabled: false, port: YOUR_PORT, tools: {name: 3}, colour: red}",
            "mcp: {enabled: off, endpoint: 'http://me:secret@x'}",
        ] {
            assert_eq!(endpoint_of(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_of_no_use_is_hinted_at_and_harms_nothing() {
        for (fields, expected) in [
            ("{tools: [chat]}", "1:6: 'mcp' does nothing without 'enabled: true'"),
            (
                "{enabled: true, tools: [chat]}",
                "1:6: 'mcp' is enabled and does not say where; write 'port: 8000' for \
                 http://localhost:8000/mcp, or the whole address as 'endpoint'",
            ),
            (
                "{enabled: true, endpoint: 'http://x/', port: 80}",
                "1:45: 'mcp.port' does nothing beside a whole 'mcp.endpoint'",
            ),
            (
                "{enabled: true, port: 80, tool: chat}",
                "1:32: 'mcp.tool' is no field and does nothing; did you mean 'mcp.tools'?",
            ),
        ] {
            let parsed = parse_text(&format!("mcp: {fields}")).unwrap();
            let hints = parsed.problems.iter().filter(|it| it.severity == Severity::Hint);
            let hints: Vec<_> = hints.map(ToString::to_string).collect();
            assert_eq!(hints, [format!("service.yaml:{expected}")], "{fields}");
        }
    }

    #[test]
    fn faults_have_a_place_and_a_cure_and_repeat_no_address() {
        let no_secret = "must have no user and no password in it, for it is shown; \
                         leave them to whoever connects";
        for (fields, expected) in [
            (
                "[chat]",
                "6: 'mcp' must be a mapping, not a list; write 'enabled: true' and \
                       'port: 8000' on lines of their own, indented"
                    .to_owned(),
            ),
            (
                "{enabled: maybe}",
                "16: 'mcp.enabled' must be true or false, not a string; \
                                 write true or false without quotes"
                    .to_owned(),
            ),
            (
                "{enabled: true, port: 0}",
                "28: 'mcp.port' must be a port; write a number from 1 to \
                                         65535"
                    .to_owned(),
            ),
            (
                "{enabled: true, endpoint: /mcp}",
                "32: 'mcp.endpoint' is a path and needs a port; \
                                                write 'port: 8000' beside it"
                    .to_owned(),
            ),
            (
                "{enabled: true, endpoint: chat}",
                format!("32: 'mcp.endpoint' is no address; {EXAMPLES}"),
            ),
            (
                "{enabled: true, endpoint: 'tcp://x:1'}",
                format!(
                    "32: 'mcp.endpoint' is no address of \
                                                              http or https; {EXAMPLES}"
                ),
            ),
            (
                "{enabled: true, endpoint: 'http:///mcp'}",
                "32: 'mcp.endpoint' is no address: it names \
                                                        no host; write one, such as localhost"
                    .to_owned(),
            ),
            (
                "{enabled: true, endpoint: 'http://me:hunter2@x/'}",
                format!("32: 'mcp.endpoint' {no_secret}"),
            ),
            (
                "{enabled: true, port: 80, tools: [{description: x}]}",
                "40: 'mcp.tools' must have a name \
                                                                    each; write '- name: its-name'"
                    .to_owned(),
            ),
        ] {
            let problems = parse_text(&format!("mcp: {fields}")).unwrap_err();
            let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(said, [format!("service.yaml:1:{expected}")], "{fields}");
        }
    }

    #[test]
    fn it_is_shown_as_it_was_written_too() {
        for text in ["mcp: {enabled: true, port: 80}", "mcp: {enabled: false, tools: [{name: x}]}"]
        {
            let parsed = parse_text(text).unwrap();
            let all: serde_json::Value = serde_yaml::from_str(text).unwrap();
            assert_eq!(parsed.manifest.extra["mcp"], all["mcp"], "{text}");
        }
    }
}
