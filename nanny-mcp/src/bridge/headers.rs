//! The headers of a message. From 2026-07-28 on, they repeat what the message says, so that whoever
//! forwards it need not read it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::message::Message;
use super::session::Session;

static PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
static METHOD: HeaderName = HeaderName::from_static("mcp-method");
static NAME: HeaderName = HeaderName::from_static("mcp-name");
static SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
static LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// Those of a message that needs no session.
pub(super) fn stateless(message: &Message) -> HeaderMap {
    let mut headers = HeaderMap::new();
    insert(&mut headers, &PROTOCOL_VERSION, message.own_version());
    insert(&mut headers, &METHOD, Some(message.method()));
    insert(&mut headers, &NAME, name(message).map(encoded).as_deref());
    headers
}

/// Those of whatever belongs to a session.
pub(super) fn of_session(session: &Session) -> HeaderMap {
    let mut headers = HeaderMap::new();
    insert(&mut headers, &PROTOCOL_VERSION, Some(&session.version));
    insert(&mut headers, &SESSION, session.id.as_deref());
    headers
}

/// Those of a request in a session, which may name its revision itself.
pub(super) fn in_session(session: &Session, message: &Message) -> HeaderMap {
    let mut headers = of_session(session);
    if let Some(version) = message.own_version() {
        insert(&mut headers, &PROTOCOL_VERSION, Some(version));
    }
    headers
}

/// Those of a second `initialize`, which names its revision itself.
pub(super) fn of_session_alone(session: &Session) -> HeaderMap {
    let mut headers = of_session(session);
    headers.remove(&PROTOCOL_VERSION);
    headers
}

/// Those of a stream that is taken up again after the event `last`.
pub(super) fn after_event(session: &Session, last: Option<&str>) -> HeaderMap {
    let mut headers = of_session(session);
    insert(&mut headers, &LAST_EVENT, last);
    headers
}

/// What a session is called, in the answer that begins it.
pub(super) fn session_id(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(&SESSION)?.to_str().ok()?.to_owned())
}

/// What cannot be written in a header is left out; the daemon says what is missing.
fn insert(headers: &mut HeaderMap, name: &HeaderName, value: Option<&str>) {
    if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
        headers.insert(name, value);
    }
}

fn name(message: &Message) -> Option<&str> {
    let key = match message.method() {
        "tools/call" | "prompts/get" => "name",
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return None,
    };
    message.params()[key].as_str()
}

/// As it is, or in Base64 where a header could not carry it, or could be taken for Base64.
fn encoded(value: &str) -> String {
    let plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let trimmed = value.trim_matches([' ', '\t']).len() == value.len();
    let alike = value.starts_with("=?base64?") && value.ends_with("?=");
    if plain && trimmed && !alike {
        value.to_owned()
    } else {
        format!("=?base64?{}?=", STANDARD.encode(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_header_carries_are_encoded() {
        assert_eq!(encoded("start_service"), "start_service");
        assert_eq!(encoded("service://status/a b"), "service://status/a b");
        assert_eq!(encoded(""), "");
        assert_eq!(encoded("ä"), "=?base64?w6Q=?=");
        assert_eq!(encoded(" a"), "=?base64?IGE=?=");
        assert_eq!(encoded("a\nb"), "=?base64?YQpi?=");
        assert_eq!(encoded("=?base64?w6Q=?="), "=?base64?PT9iYXNlNjQ/dzZRPT89?=");
    }
}
