//! What single values of a manifest may be, and how to say that one is not.

use std::collections::BTreeMap;
use std::time::Duration;

use nanny_compose::yaml::{Node, Value};
use serde_json::Number;

use crate::backend::Environment;

/// Why a value cannot be used: reads on after the field's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: (usize, usize),
    pub(super) message: String,
}

/// Line and column of a node.
pub(super) fn place(node: &Node) -> (usize, usize) {
    (node.line, node.column)
}

/// `must be {expected}, not {what it is}`, with a cure.
fn must_be<T>(node: &Node, expected: &str, cure: &str) -> Result<T, Fault> {
    let message = format!("must be {expected}, not {}; {cure}", node.kind());
    Err(Fault { at: place(node), message })
}

/// A single value as it was written: `1.10` stays `1.10`.
pub(super) fn text(node: &Node) -> Result<String, Fault> {
    match node
        .text
        .as_deref()
        .filter(|_| !node.is_null())
        .map(str::to_owned)
        .or_else(|| node.to_text())
    {
        Some(text) => Ok(text.trim_end().to_owned()),
        None => must_be(node, "text", "put it in quotes"),
    }
}

/// Text that is not empty; an empty one counts as absent.
pub(super) fn some_text(node: &Node) -> Result<Option<String>, Fault> {
    Ok(Some(text(node)?).filter(|text| !text.is_empty()))
}

/// A list of texts; a single one counts as a list of one.
pub(super) fn texts(node: &Node) -> Result<Vec<String>, Fault> {
    match &node.value {
        Value::Sequence(items) => items.iter().map(text).collect(),
        Value::Mapping(_) => must_be(node, "a list", "begin each line with '- '"),
        _ => Ok(vec![text(node)?]),
    }
}

/// `true` or `false`, and what older YAML takes for them.
pub(super) fn flag(node: &Node) -> Result<bool, Fault> {
    match &node.value {
        Value::Bool(flag) => Ok(*flag),
        Value::String(word) if ["yes", "on", "true"].contains(&word.to_lowercase().as_str()) => {
            Ok(true)
        }
        Value::String(word) if ["no", "off", "false"].contains(&word.to_lowercase().as_str()) => {
            Ok(false)
        }
        _ => must_be(node, "true or false", "write true or false without quotes"),
    }
}

/// Gigabytes: an integer stays one.
pub(super) fn gigabytes(node: &Node) -> Result<Number, Fault> {
    let number = match &node.value {
        Value::Int(whole) => u64::try_from(*whole).ok().map(Number::from),
        Value::Float(value) if *value >= 0.0 => Number::from_f64(*value),
        Value::Float(_) => None,
        _ => {
            return must_be(
                node,
                "a number",
                "write the GB as in 8 or 7.5, without quotes or unit",
            );
        }
    };
    number.ok_or_else(|| Fault {
        at: place(node),
        message: "must not be negative or infinite; write the GB as in 8 or 7.5".to_owned(),
    })
}

/// A whole number from `least` to `most`.
pub(super) fn whole<T>(node: &Node, least: T, most: T) -> Result<T, Fault>
where
    T: Copy + TryFrom<i128> + Into<i128> + std::fmt::Display,
{
    let cure = format!("write one from {least} to {most}");
    let Value::Int(number) = node.value else {
        return must_be(node, "a whole number", &cure);
    };
    let fits = (least.into()..=most.into()).contains(&number);
    let number = fits.then(|| T::try_from(number).ok()).flatten();
    let message = format!("must be from {least} to {most}");
    number.ok_or(Fault { at: place(node), message })
}

/// Seconds as a number, or a time such as `10s`, `1m30s` or `500ms`.
pub(super) fn duration(node: &Node) -> Result<Duration, Fault> {
    const EXAMPLES: &str = "write seconds as in 30, or 10s, 1m30s, 500ms";
    let found = match &node.value {
        Value::Int(_) | Value::Float(_) | Value::String(_) => {
            parse_duration(text(node)?.trim()).filter(|duration| *duration <= LONGEST)
        }
        _ => return must_be(node, "a time", EXAMPLES),
    };
    let message = format!("is no time that can be waited for; {EXAMPLES}");
    found.ok_or(Fault { at: place(node), message })
}

/// A [`duration`] that is not zero.
pub(super) fn interval(node: &Node) -> Result<Duration, Fault> {
    let found = duration(node)?;
    if found >= SHORTEST_INTERVAL {
        return Ok(found);
    }
    Err(Fault { at: place(node), message: "must be at least 100ms".to_owned() })
}

/// Memory in bytes: `4G`, `512m`.
pub(super) fn bytes(node: &Node) -> Result<u64, Fault> {
    let found = nanny_compose::parse_bytes(&text(node)?).filter(|bytes| *bytes > 0);
    found.ok_or_else(|| Fault {
        at: place(node),
        message: "must be an amount of memory; write it as in 4G or 512m".to_owned(),
    })
}

/// Processors, in billionths: `2`, `0.5`.
pub(super) fn processors(node: &Node) -> Result<u64, Fault> {
    let found = text(node)?.parse::<f64>().ok().filter(|number| (0.001..1e6).contains(number));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within a range that fits"
    )]
    let billionths = found.map(|number| (number * 1e9).round() as u64);
    billionths.ok_or_else(|| Fault {
        at: place(node),
        message: "must be a number of processors; write it as in 2 or 0.5".to_owned(),
    })
}

/// A program and its arguments: a list, or a line for the shell.
pub(super) fn command(node: &Node) -> Result<Vec<String>, Fault> {
    let words = match &node.value {
        Value::String(line) if line.trim().is_empty() => Vec::new(),
        Value::String(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
        _ => texts(node)?,
    };
    if words.is_empty() {
        let message = "names no program; write it as in [python, server.py]".to_owned();
        return Err(Fault { at: place(node), message });
    }
    Ok(words)
}

/// Variables: a mapping, or a list of `NAME=value`. No message repeats a value.
pub(super) fn environment(node: &Node) -> Result<Environment, Fault> {
    let mut variables = BTreeMap::new();
    match &node.value {
        Value::Mapping(mapping) => {
            for entry in mapping.iter() {
                let value = &entry.value;
                let value = if value.is_null() { None } else { Some(text(value)?) };
                variables.insert(entry.key.text.clone(), value);
            }
        }
        Value::Sequence(items) => {
            for item in items {
                let line = text(item)?;
                let (name, value) = match line.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (line.as_str(), None),
                };
                variables.insert(name.to_owned(), value);
            }
        }
        _ => return must_be(node, "a mapping", "write NAME: value on lines of their own"),
    }
    Ok(Environment(variables))
}

/// Longer times are a slip of the pen, and would overflow a deadline.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Anything shorter would do nothing but probe.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

fn parse_duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit.trim() {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use nanny_compose::yaml::{Limits, parse};

    use super::*;

    fn node(text: &str) -> Node {
        parse(text, &Limits::default()).expect("the test writes YAML")
    }

    #[test]
    fn times_are_seconds_or_have_units() {
        for (text, millis) in [
            ("30", 30_000),
            ("0.5", 500),
            ("'12'", 12_000),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(duration(&node(text)), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["-1", "10 parsecs", "''", "1e300", ".inf", "s", "true", "[1]", "1..5s"] {
            assert!(duration(&node(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn text_stays_as_it_was_written() {
        for written in ["1.10", "0755", "2024-01-31", "true", "1_000"] {
            assert_eq!(text(&node(written)).as_deref(), Ok(written));
        }
    }

    #[test]
    fn flags_may_be_in_old_yaml() {
        for (text, expected) in [("true", true), ("Yes", true), ("off", false), ("'no'", false)] {
            assert_eq!(flag(&node(text)), Ok(expected), "{text}");
        }
        assert!(flag(&node("1")).is_err());
    }

    #[test]
    fn a_command_is_a_line_or_a_list() {
        let words = Ok(["/bin/sh", "-c", "a b | c"].map(str::to_owned).to_vec());
        assert_eq!(command(&node("a b | c")), words);
        assert_eq!(command(&node("[/bin/sh, -c, a b | c]")), words);
        assert!(command(&node("' '")).is_err());
        assert!(command(&node("[]")).is_err());
    }

    #[test]
    fn variables_are_a_mapping_or_a_list() {
        let expected = [("A", Some("1")), ("B", None), ("C", Some(""))];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        let expected = Ok(Environment(expected.into()));
        assert_eq!(environment(&node("{A: 1, B: , C: ''}")), expected);
        assert_eq!(environment(&node("[A=1, B, C=]")), expected);
    }
}
