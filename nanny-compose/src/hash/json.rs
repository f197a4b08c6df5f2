//! JSON as Go's `encoding/json` writes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// An object under construction. Like Go's `omitempty`, it leaves out what is empty.
#[derive(Debug, Default)]
pub(super) struct Object {
    fields: String,
}

impl Object {
    /// A field with JSON that is already written.
    pub(super) fn raw(&mut self, name: &str, json: &str) {
        if !self.fields.is_empty() {
            self.fields.push(',');
        }
        self.fields.push_str(&string(name));
        self.fields.push(':');
        self.fields.push_str(json);
    }

    pub(super) fn text(&mut self, name: &str, value: Option<&String>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.raw(name, &string(value));
        }
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.raw(name, "true");
        }
    }

    /// A field that Go holds by pointer: false is shown, absence is not.
    pub(super) fn maybe_flag(&mut self, name: &str, value: Option<bool>) {
        if let Some(value) = value {
            self.raw(name, &value.to_string());
        }
    }

    pub(super) fn number(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.raw(name, &value.to_string());
        }
    }

    /// A size in bytes, which Compose writes as a decimal string.
    pub(super) fn bytes(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value.filter(|&value| value != 0) {
            self.raw(name, &string(&value.to_string()));
        }
    }

    /// A duration that Go holds by pointer: zero is shown, absence is not.
    pub(super) fn duration(&mut self, name: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.raw(name, &string(&go_duration(value)));
        }
    }

    pub(super) fn strings(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.raw(name, &string_array(values));
        }
    }

    pub(super) fn map(&mut self, name: &str, values: &BTreeMap<String, String>) {
        if values.is_empty() {
            return;
        }
        let mut map = Self::default();
        for (key, value) in values {
            map.raw(key, &string(value));
        }
        self.raw(name, &map.finish());
    }

    pub(super) fn finish(self) -> String {
        format!("{{{}}}", self.fields)
    }
}

pub(super) fn array(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<_> = items.into_iter().collect();
    format!("[{}]", items.join(","))
}

pub(super) fn string_array(values: &[String]) -> String {
    array(values.iter().map(|value| string(value)))
}

/// A string with the escapes of Go, which also keep HTML and JavaScript safe.
pub(super) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A duration as Go prints it: `1m30s`, `1.5s`, `200ms`, `0s`.
fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let unit = |size: u128, name: &str| {
        let fraction = format!("{:09}", nanos % size * 1_000_000_000 / size);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        format!("{}{dot}{fraction}{name}", nanos / size)
    };
    match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => return unit(1, "ns"),
        1_000..1_000_000 => return unit(1_000, "µs"),
        1_000_000..1_000_000_000 => return unit(1_000_000, "ms"),
        _ => {}
    }
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = Duration::new(seconds % 60, duration.subsec_nanos());
    let fraction = format!("{:09}", rest.subsec_nanos());
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let tail = format!("{}{dot}{fraction}s", rest.as_secs());
    match (hours, minutes) {
        (0, 0) => tail,
        (0, _) => format!("{minutes}m{tail}"),
        _ => format!("{hours}h{minutes}m{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        assert_eq!(string("a\"\\\n\t\u{1}\u{8}"), r#""a\"\\\n\t\u0001\b""#);
        assert_eq!(string("<&>\u{2028}ä\u{7f}"), "\"\\u003c\\u0026\\u003e\\u2028ä\u{7f}\"");
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        for (millis, expected) in [
            (0, "0s"),
            (500, "500ms"),
            (1500, "1.5s"),
            (90_000, "1m30s"),
            (60_000, "1m0s"),
            (3_600_000, "1h0m0s"),
            (90_000_000, "25h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
        assert_eq!(go_duration(Duration::from_nanos(1_500)), "1.5µs");
        assert_eq!(go_duration(Duration::from_nanos(7)), "7ns");
    }

    #[test]
    fn what_is_empty_is_left_out() {
        let mut object = Object::default();
        object.text("a", Some(&String::new()));
        object.flag("b", false);
        object.strings("c", &[]);
        object.maybe_flag("d", Some(false));
        object.number("e", 0);
        assert_eq!(object.finish(), r#"{"d":false}"#);
    }
}
