//! JSON as Go's `encoding/json` writes it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::spec::{Field, Json, Object, Shape};
use crate::yaml::{Node, Value};

/// Writes canonical trees, each mapping in the order of Compose's struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// As Compose hashes it: without what has no part in the hash.
    Hashed,
    /// As Compose hashes it for a container's label: with what it took from files by their names.
    Labelled,
    /// As Compose shows it: with dollar signs doubled, so that it can be read as a file again.
    Shown,
}

impl Writer {
    /// A whole project: its sections, and the author's notes, in the order of their names.
    pub(crate) fn project(self, object: &Object, root: &Node) -> String {
        let mut out = String::new();
        let entries = root.as_mapping().into_iter().flat_map(crate::yaml::Mapping::iter);
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by(|a, b| a.key.text.cmp(&b.key.text));
        let mut list = Separated::open('{', &mut out);
        for entry in entries {
            let field = object.field(&entry.key.text);
            if field.is_some_and(|field| !is_shown(field, Some(&entry.value))) {
                continue;
            }
            self.key(&entry.key.text, &mut list);
            match field {
                Some(field) => self.value(field.shape, &entry.value, list.out),
                None => self.note(&entry.value, list.out),
            }
        }
        list.close('}');
        out
    }

    /// A note of the author, in which Compose takes an empty list for nothing, and a date for a
    /// time.
    fn note(self, node: &Node, out: &mut String) {
        match &node.value {
            Value::Sequence(items) if items.is_empty() => out.push_str("null"),
            Value::Sequence(items) => self.list(items, |node, out| self.note(node, out), out),
            Value::Mapping(_) => self.map(node, |node, out| self.note(node, out), out),
            Value::Date(text) => self.text(&go_time(text), out),
            _ => self.any(node, out),
        }
    }

    /// A canonical mapping.
    pub(crate) fn object(self, object: &Object, node: &Node, out: &mut String) {
        let mapping = node.as_mapping();
        let mut list = Separated::open('{', out);
        for field in object.fields {
            if self != Self::Shown && field.is_unhashed {
                continue;
            }
            let value = mapping.and_then(|mapping| mapping.get(field.key));
            let is_hidden = field.json == Json::InLabel && self != Self::Labelled;
            if is_hidden || !is_shown(field, value) {
                continue;
            }
            self.key(field.key, &mut list);
            match (value, field.json) {
                (None, Json::Always(absent)) => list.out.push_str(absent),
                (None, _) => {}
                (Some(value), _) => self.value(field.shape, value, list.out),
            }
        }
        list.close('}');
    }

    fn value(self, shape: &Shape, node: &Node, out: &mut String) {
        match (shape, &node.value) {
            (Shape::Short(_, long) | Shape::Optional(long), _) => self.value(long, node, out),
            // One number for both limits; Go takes zero for none.
            (Shape::Object(_), Value::Int(0)) => out.push_str("{}"),
            (Shape::Object(object), Value::Mapping(_)) => {
                self.object(object, node, out);
            }
            (Shape::Named(shape), Value::Mapping(_)) => {
                self.map(node, |node, out| self.value(shape, node, out), out);
            }
            (Shape::Pairs | Shape::Variables | Shape::ContextRef, Value::Mapping(_)) => {
                self.map(node, |node, out| self.any(node, out), out);
            }
            (Shape::List(list), Value::Sequence(items)) => {
                self.list(items, |node, out| self.value(list.item, node, out), out);
            }
            (Shape::Hosts, Value::Sequence(items)) => {
                let mut lines: Vec<_> = items.iter().filter_map(Node::as_str).map(host).collect();
                lines.sort();
                let mut list = Separated::open('[', out);
                for line in lines {
                    list.item();
                    self.text(&line, list.out);
                }
                list.close(']');
            }
            (Shape::Size(_), Value::Int(bytes)) => {
                let _ = write!(out, "\"{bytes}\"");
            }
            (Shape::Loose(_), Value::Int(number)) => {
                let _ = write!(out, "\"{number}\"");
            }
            (Shape::Decimal, Value::Float(number)) => out.push_str(&single(*number)),
            _ => self.any(node, out),
        }
    }

    /// A tree of the author's own.
    pub(crate) fn any(self, node: &Node, out: &mut String) {
        match &node.value {
            Value::Null => out.push_str("null"),
            Value::Bool(value) => {
                let _ = write!(out, "{value}");
            }
            Value::Int(value) => {
                let _ = write!(out, "{value}");
            }
            Value::Float(value) => out.push_str(&double(*value)),
            Value::Date(text) | Value::String(text) => self.text(text, out),
            Value::Sequence(items) => self.list(items, |node, out| self.any(node, out), out),
            Value::Mapping(_) => self.map(node, |node, out| self.any(node, out), out),
        }
    }

    fn map(self, node: &Node, write: impl Fn(&Node, &mut String), out: &mut String) {
        let entries = node.as_mapping().into_iter().flat_map(crate::yaml::Mapping::iter);
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by(|a, b| a.key.text.cmp(&b.key.text));
        let mut list = Separated::open('{', out);
        for entry in entries {
            self.key(&entry.key.text, &mut list);
            write(&entry.value, list.out);
        }
        list.close('}');
    }

    fn list(self, items: &[Node], write: impl Fn(&Node, &mut String), out: &mut String) {
        let mut list = Separated::open('[', out);
        for item in items {
            list.item();
            write(item, list.out);
        }
        list.close(']');
    }

    fn key(self, key: &str, list: &mut Separated<'_>) {
        list.item();
        self.text(key, list.out);
        list.out.push(':');
    }

    fn text(self, text: &str, out: &mut String) {
        match self {
            Self::Shown if text.contains('$') => push_string(&text.replace('$', "$$"), out),
            Self::Shown | Self::Hashed | Self::Labelled => push_string(text, out),
        }
    }
}

/// Whether Go would show a field.
fn is_shown(field: &Field, value: Option<&Node>) -> bool {
    let Some(value) = value else {
        return matches!(field.json, Json::Always(_));
    };
    match field.json {
        Json::Never => false,
        Json::Always(_) => true,
        Json::IfPresent => !value.is_null(),
        Json::IfFilled | Json::InLabel => match &value.value {
            // A number that stands for a text is not zero.
            Value::Int(_) if matches!(field.shape, Shape::Loose(_)) => true,
            Value::Null | Value::Bool(false) | Value::Int(0) => false,
            Value::Float(number) => *number != 0.0,
            Value::String(text) => !text.is_empty(),
            Value::Sequence(items) => !items.is_empty(),
            Value::Mapping(mapping) => !mapping.is_empty(),
            Value::Bool(true) | Value::Int(_) | Value::Date(_) => true,
        },
    }
}

/// A line of `extra_hosts` as Compose writes it.
fn host(line: &str) -> String {
    let (host, address) = host_parts(line);
    format!("{host}={address}")
}

/// Host and address of a line of `extra_hosts`: `host=address` or `host:address`.
pub(crate) fn host_parts(line: &str) -> (&str, &str) {
    let (host, address) =
        line.split_once('=').or_else(|| line.split_once(':')).unwrap_or((line, ""));
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    (host, bare.unwrap_or(address))
}

/// A list or mapping under construction.
struct Separated<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl<'a> Separated<'a> {
    fn open(bracket: char, out: &'a mut String) -> Self {
        out.push(bracket);
        Self { out, is_first: true }
    }

    fn item(&mut self) {
        if !self.is_first {
            self.out.push(',');
        }
        self.is_first = false;
    }

    fn close(self, bracket: char) {
        self.out.push(bracket);
    }
}

/// A number of single precision: the shortest digits that read back the same.
fn single(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "Compose keeps single precision")]
    let number = number as f32;
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        return exponent(format!("{number:e}"));
    }
    format!("{number}")
}

fn double(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        return exponent(format!("{number:e}"));
    }
    format!("{number}")
}

/// Go writes the sign of an exponent, and at least one digit.
fn exponent(text: String) -> String {
    if text.contains("e-") { text } else { text.replacen('e', "e+", 1) }
}

/// A string with the escapes of Go, which also keep HTML and JavaScript safe.
pub(crate) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_string(text, &mut out);
    out
}

fn push_string(text: &str, out: &mut String) {
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
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A date of YAML, with or without a time after it, as Go prints it: `2001-02-03T00:00:00Z`.
fn go_time(text: &str) -> String {
    let date_end = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let (date, time) = text.split_at(date_end);
    let time = time.trim_start_matches(['T', 't', ' ']);
    let clock_end = time.find(|c: char| !c.is_ascii_digit() && !matches!(c, ':' | '.'));
    let (clock, zone) = time.split_at(clock_end.unwrap_or(time.len()));
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let two = |part: &str| format!("{part:0>2}");
    let date = date.split('-').map(two).collect::<Vec<_>>().join("-");
    let clock = clock.split(':').map(two).collect::<Vec<_>>().join(":");
    let clock = if time.is_empty() { "00:00:00" } else { &clock };
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let zone = match zone.trim_start() {
        "" | "+00:00" | "-00:00" => "Z",
        zone => zone,
    };
    format!("{date}T{clock}{dot}{fraction}{zone}")
}

/// A duration as Go prints it: `1m30s`, `1.5s`, `200ms`, `0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
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
    fn numbers_print_as_go_prints_them() {
        assert_eq!(single(0.1), "0.1");
        assert_eq!(single(1.0), "1");
        assert_eq!(single(0.1 + 0.2), "0.3");
        assert_eq!(double(2.5), "2.5");
        assert_eq!(double(1e21), "1e+21");
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
    fn times_print_as_go_prints_them() {
        for (text, expected) in [
            ("2001-02-03", "2001-02-03T00:00:00Z"),
            ("2001-2-3", "2001-02-03T00:00:00Z"),
            ("2001-02-03t4:5:6.50-05:30", "2001-02-03T04:05:06.5-05:30"),
            ("2001-02-03T04:05:06+00:00", "2001-02-03T04:05:06Z"),
            ("2001-02-03 04:05:06.123456789", "2001-02-03T04:05:06.123456789Z"),
        ] {
            assert_eq!(go_time(text), expected);
        }
    }

    #[test]
    fn hosts_have_either_separator_and_may_have_brackets() {
        assert_eq!(host("a:1.1.1.1"), "a=1.1.1.1");
        assert_eq!(host("a=::1"), "a=::1");
        assert_eq!(host("a:[::1]"), "a=::1");
    }
}
