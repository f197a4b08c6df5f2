//! JSON-RPC messages, taken apart as far as is needed to forward them.

use serde_json::{Value, json};

/// One message as it came, and what it is.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// All of it, on one line.
    pub(super) text: String,
    pub(super) body: Value,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// It has an id, and wants exactly one answer.
    Request(Value),
    Notification,
    /// The answer to a request of the other side.
    Response,
}

/// Why a line is no message, as the answer that it gets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Malformed(pub(super) String);

impl Message {
    pub(super) fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let unreadable = |why: &str| Malformed(error(&Value::Null, -32700, why, None));
        let text = std::str::from_utf8(line).map_err(|_| unreadable("a message must be UTF-8"))?;
        let body: Value = serde_json::from_str(text)
            .map_err(|error| unreadable(&format!("a message must be one line of JSON: {error}")))?;
        let kind = kind(&body)?;
        Ok(Self { text: text.to_owned(), body, kind })
    }

    /// What is asked for or told; nothing in an answer.
    pub(super) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(super) fn params(&self) -> &Value {
        &self.body["params"]
    }

    /// The revision that a request of 2026-07-28 and later carries itself.
    pub(super) fn own_version(&self) -> Option<&str> {
        self.params()["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str()
    }

    /// Whether it belongs to a session, which begins with `initialize`; what is newer needs none.
    pub(super) fn is_of_session(&self) -> bool {
        let newer = |version: &str| version >= STATELESS;
        self.method() != "server/discover" && !self.own_version().is_some_and(newer)
    }
}

/// The first revision without sessions.
const STATELESS: &str = "2026-07-28";

fn kind(body: &Value) -> Result<Kind, Malformed> {
    let id = body.get("id");
    let usable = id.filter(|id| id.is_string() || id.is_number());
    let refused = |why| {
        let id = usable.unwrap_or(&Value::Null);
        Err(Malformed(error(id, -32600, why, None)))
    };
    if body.is_array() {
        return refused("several messages in one: send each on a line of its own");
    }
    if body["method"].is_string() {
        return match (id, usable) {
            (None, _) => Ok(Kind::Notification),
            (_, Some(id)) => Ok(Kind::Request(id.clone())),
            _ => refused("the id of a request must be a string or a number"),
        };
    }
    if body.get("result").is_some() || body.get("error").is_some() {
        return Ok(Kind::Response);
    }
    refused("neither a request, nor a notification, nor an answer")
}

/// The text of an error answer.
pub(super) fn error(id: &Value, code: i32, message: &str, data: Option<Value>) -> String {
    let mut error = json!({"code": code, "message": message});
    if let Some(data) = data {
        error["data"] = data;
    }
    json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Kind, (i64, Value)> {
        Message::parse(text.as_bytes()).map(|message| message.kind).map_err(|Malformed(answer)| {
            let answer: Value = serde_json::from_str(&answer).unwrap();
            (answer["error"]["code"].as_i64().unwrap(), answer["id"].clone())
        })
    }

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(parse(r#"{"id": 1, "method": "ping"}"#), Ok(Kind::Request(json!(1))));
        assert_eq!(parse(r#"{"id": "a", "method": "ping"}"#), Ok(Kind::Request(json!("a"))));
        assert_eq!(parse(r#"{"method": "notifications/initialized"}"#), Ok(Kind::Notification));
        assert_eq!(parse(r#"{"id": 1, "result": {}}"#), Ok(Kind::Response));
        assert_eq!(parse(r#"{"id": 1, "error": {}}"#), Ok(Kind::Response));
    }

    #[test]
    fn what_is_no_message_is_answered_with_what_is_wrong() {
        assert_eq!(parse("hello"), Err((-32700, Value::Null)));
        assert_eq!(parse(r#"{"id": 1"#), Err((-32700, Value::Null)));
        assert!(Message::parse(b"\"\xff\"").map(drop).unwrap_err().0.contains("UTF-8"));
        assert_eq!(parse(&"[".repeat(100_000)), Err((-32700, Value::Null)));
        assert_eq!(parse(r#"[{"id": 1, "method": "ping"}]"#), Err((-32600, Value::Null)));
        assert_eq!(parse("7"), Err((-32600, Value::Null)));
        assert_eq!(parse(r#"{"id": 1}"#), Err((-32600, json!(1))));
        assert_eq!(parse(r#"{"id": null, "method": "ping"}"#), Err((-32600, Value::Null)));
        assert_eq!(parse(r#"{"id": [1], "method": "ping"}"#), Err((-32600, Value::Null)));
    }

    #[test]
    fn the_revision_in_a_message_says_whether_it_needs_a_session() {
        let of_session = |text: &str| Message::parse(text.as_bytes()).unwrap().is_of_session();
        let versioned = |version| {
            format!(
                r#"{{"id": 1, "method": "tools/list", "params": {{"_meta":
                {{"io.modelcontextprotocol/protocolVersion": "{version}"}}}}}}"#
            )
        };
        assert!(of_session(r#"{"id": 1, "method": "tools/list"}"#));
        assert!(of_session(&versioned("2025-11-25")));
        assert!(!of_session(&versioned("2026-07-28")));
        assert!(!of_session(r#"{"id": 1, "method": "server/discover"}"#));
    }
}
