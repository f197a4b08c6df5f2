//! Variables in values: `$NAME`, `${NAME}` and the six operators of Compose.
//!
//! | form | gives |
//! |---|---|
//! | `$NAME`, `${NAME}` | the value; empty, with a warning, if unset |
//! | `${NAME:-default}` | the default if unset or empty |
//! | `${NAME-default}` | the default if unset |
//! | `${NAME:?message}` | an error if unset or empty |
//! | `${NAME?message}` | an error if unset |
//! | `${NAME:+other}` | the other text if set and not empty, else nothing |
//! | `${NAME+other}` | the other text if set, else nothing |
//! | `$$` | a dollar sign |
//!
//! Defaults, messages and other texts may hold variables again. Values come from a lookup; this
//! module reads no process environment, and no value ever gets into an error.

use std::ops::Range;

use indexmap::IndexSet;

/// The text with its variables replaced.
#[derive(Clone, PartialEq, Eq)]
pub struct Interpolated {
    /// The result. It may hold secrets.
    pub text: String,
    /// Whether the value of a variable went into it.
    pub has_values: bool,
    /// Variables that are unset and have no default, each once.
    pub unset: Vec<String>,
}

/// Says which variables it used, not what they held.
impl std::fmt::Debug for Interpolated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { has_values, unset, .. } = self;
        f.debug_struct("Interpolated")
            .field("has_values", has_values)
            .field("unset", unset)
            .finish_non_exhaustive()
    }
}

/// Why a text cannot be interpolated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterpolateError {
    /// A dollar sign with a brace that holds no variable.
    #[error(
        "a '$' at character {at} begins no variable; write '$$' for a dollar sign, \
         or '${{NAME}}', '${{NAME:-default}}' and the like for a variable"
    )]
    Malformed {
        /// The position of the dollar sign in the text, in characters from 1.
        at: usize,
    },
    /// A variable marked with `?` has no value.
    #[error("the variable {name} must be set{}", reason(message))]
    Required {
        /// The variable's name.
        name: String,
        /// What the file's author says about it, as written.
        message: String,
    },
    /// Defaults inside defaults, deeper than any author would go.
    #[error("variables are nested more than {MAX_DEPTH} deep; make the default simpler")]
    TooDeep,
    /// The result is far longer than any value a container gets.
    #[error("the text grows to more than {MAX_LENGTH} bytes; make the variables in it shorter")]
    TooLong,
}

/// Replaces the variables in a text.
///
/// # Errors
///
/// When a `$` begins no variable, a required variable has no value, or a limit is exceeded.
pub fn interpolate(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Interpolated, InterpolateError> {
    let mut run = Run { text, lookup, has_values: false, unset: IndexSet::new() };
    let text = run.expand(0..text.len(), 0)?;
    let unset = run.unset.into_iter().map(str::to_owned).collect();
    Ok(Interpolated { text, has_values: run.has_values, unset })
}

const MAX_DEPTH: usize = 16;
const MAX_LENGTH: usize = 1 << 20;

/// One interpolation; all positions are offsets into its text.
struct Run<'a> {
    text: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    has_values: bool,
    /// A set, since a text may name a hundred thousand.
    unset: IndexSet<&'a str>,
}

impl<'a> Run<'a> {
    fn expand(&mut self, part: Range<usize>, depth: usize) -> Result<String, InterpolateError> {
        if depth > MAX_DEPTH {
            return Err(InterpolateError::TooDeep);
        }
        let (mut at, end) = (part.start, part.end);
        let mut out = String::with_capacity(part.len());
        while let Some(found) = self.text[at..end].find('$') {
            let dollar = at + found;
            out.push_str(&self.text[at..dollar]);
            let after = dollar + 1;
            at = match self.text.as_bytes()[after..end].first() {
                Some(b'$') => {
                    out.push('$');
                    after + 1
                }
                Some(b'{') => {
                    let length = closing_brace(&self.text[dollar..end])
                        .ok_or_else(|| self.malformed(dollar))?;
                    out.push_str(&self.braced(after + 1..dollar + length, depth)?);
                    dollar + length + 1
                }
                _ => {
                    let name = &self.text[after..end];
                    let length = name_length(name);
                    // One that begins no variable is itself, as in `$(date)`.
                    match length {
                        0 => out.push('$'),
                        _ => out.push_str(&self.plain(&name[..length])),
                    }
                    after + length
                }
            };
            if out.len() > MAX_LENGTH {
                return Err(InterpolateError::TooLong);
            }
        }
        out.push_str(&self.text[at..end]);
        Ok(out)
    }

    /// What stands between the braces: a name, then perhaps an operator and its word.
    fn braced(&mut self, inner: Range<usize>, depth: usize) -> Result<String, InterpolateError> {
        let text = self.text;
        let dollar = inner.start - 2;
        let (name, operation) = text[inner.clone()].split_at(name_length(&text[inner.clone()]));
        // Compose looks for the end of a variable on its own line only.
        if name.is_empty() || operation.contains('\n') {
            return Err(self.malformed(dollar));
        }
        if operation.is_empty() {
            return Ok(self.plain(name));
        }
        let (or_empty, operation) = match operation.strip_prefix(':') {
            Some(rest) => (true, rest),
            None => (false, operation),
        };
        let word = inner.end - operation.len().saturating_sub(1)..inner.end;
        let value = (self.lookup)(name).filter(|value| !(or_empty && value.is_empty()));
        match (operation.as_bytes().first(), value) {
            (Some(b'-' | b'?'), Some(value)) => {
                self.has_values = true;
                Ok(value)
            }
            (Some(b'-'), None) | (Some(b'+'), Some(_)) => self.expand(word, depth + 1),
            (Some(b'+'), None) => Ok(String::new()),
            (Some(b'?'), None) => Err(InterpolateError::Required {
                name: name.to_owned(),
                message: text[word].to_owned(),
            }),
            _ => Err(self.malformed(dollar)),
        }
    }

    fn plain(&mut self, name: &'a str) -> String {
        if let Some(value) = (self.lookup)(name) {
            self.has_values = true;
            return value;
        }
        self.unset.insert(name);
        String::new()
    }

    fn malformed(&self, dollar: usize) -> InterpolateError {
        InterpolateError::Malformed { at: self.text[..dollar].chars().count() + 1 }
    }
}

/// The end of the `${…}` that a text begins with. Compose counts `${` as opening and `}` as
/// closing; a lone `{` opens nothing.
fn closing_brace(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut open = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'}' {
            open = open.saturating_sub(1);
            if open == 0 {
                return Some(at);
            }
        } else if bytes[at..].starts_with(b"${") {
            open += 1;
            at += 1;
        }
        at += 1;
    }
    None
}

fn name_length(text: &str) -> usize {
    let part_of_name = |(at, byte): (usize, u8)| {
        byte == b'_' || byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit())
    };
    text.bytes().enumerate().take_while(|&next| part_of_name(next)).count()
}

fn reason(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("$SET".to_owned()),
            _ => None,
        }
    }

    fn expand(text: &str) -> String {
        interpolate(text, &variables).expect("the text is sound").text
    }

    #[test]
    fn every_operator_does_what_compose_does() {
        for (text, expected) in [
            ("a $SET b", "a value b"),
            ("${SET}s", "values"),
            ("$SET.x", "value.x"),
            ("${UNSET}", ""),
            ("${SET:-d}", "value"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${UNSET-d}", "d"),
            ("${SET:?m}", "value"),
            ("${EMPTY?m}", ""),
            ("${SET:+r}", "r"),
            ("${EMPTY:+r}", ""),
            ("${EMPTY+r}", "r"),
            ("${UNSET+r}", ""),
            ("$$SET $${SET}", "$SET ${SET}"),
        ] {
            assert_eq!(expand(text), expected, "{text}");
        }
    }

    #[test]
    fn defaults_may_hold_variables() {
        assert_eq!(expand("${UNSET:-${ALSO:-$SET}}/x"), "value/x");
        assert_eq!(expand("${SET:+<${SET}>}"), "<value>");
        assert_eq!(expand("${UNSET:-a:-b?c}"), "a:-b?c");
    }

    #[test]
    fn a_value_is_not_interpolated_again() {
        assert_eq!(expand("$DOLLAR"), "$SET");
    }

    #[test]
    fn a_lone_brace_opens_nothing() {
        assert_eq!(expand(r#"${UNSET:-{"a": 1}}"#), r#"{"a": 1}"#);
    }

    #[test]
    fn unset_variables_are_reported_once() {
        let result = interpolate("$A ${A} ${B:-x} $C", &variables).expect("the text is sound");
        assert_eq!(result.unset, ["A", "C"]);
        assert!(!result.has_values);
    }

    #[test]
    fn required_variables_are_named_with_the_authors_message() {
        let error = interpolate("${KEY:?get one at $SET}", &variables).expect_err("it is unset");
        assert_eq!(error.to_string(), "the variable KEY must be set: get one at $SET");
        let error = interpolate("${KEY?}", &variables).expect_err("it is unset");
        assert_eq!(error.to_string(), "the variable KEY must be set");
    }

    #[test]
    fn a_brace_that_holds_no_variable_is_an_error_with_its_place() {
        for (text, at) in [("ä${", 2), ("a ${", 3), ("${}", 1), ("x${5}", 2), ("${A!b}", 1)] {
            let error = interpolate(text, &variables).expect_err(text);
            assert_eq!(error, InterpolateError::Malformed { at }, "{text}");
        }
    }

    #[test]
    fn a_dollar_sign_before_no_name_is_itself() {
        for text in ["ä$", "$5", "$(date)", "a $ b", "$-"] {
            assert_eq!(expand(text), text);
        }
        assert_eq!(expand("$$$"), "$$");
    }

    #[test]
    fn bottomless_defaults_are_refused() {
        let text = format!("{}{}", "${A:-".repeat(1000), "}".repeat(1000));
        assert_eq!(interpolate(&text, &variables), Err(InterpolateError::TooDeep));
    }

    #[test]
    fn errors_and_debug_never_show_a_value() {
        let lookup = |_: &str| Some("hunter2".to_owned());
        let result = interpolate("$A", &lookup).expect("the text is sound");
        assert!(!format!("{result:?}").contains("hunter2"));
        let error = interpolate("$A ${", &lookup).expect_err("a brace that is not closed");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn interpolation_never_panics(text in "[ab$\\{\\}:?+\\-ä_0-9]{0,40}") {
            let _ = interpolate(&text, &variables);
        }

        #[test]
        fn text_without_dollar_signs_stays(text in "[^$]*") {
            prop_assert_eq!(expand(&text), text);
        }

        #[test]
        fn doubled_dollar_signs_come_back_single(text in any::<String>()) {
            prop_assert_eq!(expand(&text.replace('$', "$$")), text);
        }
    }
}
