//! Files of variables: `.env` and `env_file`, as Compose reads them.
//!
//! One `NAME=value` a line, `NAME: value` too, perhaps after `export`. A value stands as it is,
//! in `'single quotes'` (literally) or in `"double quotes"` (with escapes); quoted values may run
//! over several lines. Outside single quotes `$NAME` and its forms are interpolated. ` #` begins
//! a comment after an unquoted value. A bare `NAME` takes its value from the lookup, if it has one.

use std::collections::BTreeMap;
use std::fmt;

use crate::interpolate::{InterpolateError, interpolate};

/// Why a file of variables cannot be read. Never shows a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct DotenvError {
    /// Line of the fault, from 1.
    pub line: usize,
    /// What is wrong.
    pub kind: DotenvErrorKind,
}

/// What is wrong in a file of variables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DotenvErrorKind {
    /// A name with a character that names do not have.
    #[error("a variable's name cannot hold {0:?}; use letters, digits and _ . -")]
    BadName(char),
    /// Words where only one name can be, or none at all.
    #[error("a line must be NAME=value")]
    NotAPair,
    /// A quote without its end.
    #[error("the value of {0} has a quote that is not closed")]
    Unterminated(String),
    /// A value's variables cannot be replaced: the variable's name, and why.
    #[error("the value of {0}: {1}")]
    Value(String, InterpolateError),
    /// The values, with the variables in them replaced, are far longer than any container wants.
    #[error("the values up to here have more than {MAX_LENGTH} bytes; make them shorter")]
    TooLong,
}

/// How long all values of a file together may be: one long value named very often must not fill
/// the memory.
const MAX_LENGTH: usize = 8 << 20;

/// The variables of a file. `Debug` shows their names only.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variables {
    /// The variables by name.
    pub values: BTreeMap<String, String>,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Reads a file of variables. What the lookup knows goes before what the file says, in
/// interpolation; a later line may use an earlier one.
///
/// # Errors
///
/// The first line that is not sound.
pub fn parse(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Variables, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let variables = Variables::default();
    let mut parser = Parser { rest: text, line: 1, variables, length: 0, lookup };
    while parser.skip_to_statement() {
        let line = parser.line;
        parser.statement().map_err(|kind| DotenvError { line, kind })?;
    }
    Ok(parser.variables)
}

/// Reads a file of variables in the `raw` format: no quotes, no interpolation, no comments after
/// values.
///
/// # Errors
///
/// The first line whose name is empty or holds a space.
pub fn parse_raw(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Variables, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = Variables::default();
    for (index, line) in text.lines().enumerate() {
        let statement = line.trim_start();
        if statement.is_empty() || statement.starts_with('#') {
            continue;
        }
        let (name, value) = match statement.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (statement, lookup(statement)),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(DotenvError { line: index + 1, kind: DotenvErrorKind::NotAPair });
        }
        if let Some(value) = value {
            variables.values.insert(name.to_owned(), value);
        }
    }
    Ok(variables)
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    variables: Variables,
    length: usize,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Parser<'a> {
    /// Skips blank lines and comments; false at the end.
    fn skip_to_statement(&mut self) -> bool {
        loop {
            let start = self.rest.trim_start();
            self.advance(self.rest.len() - start.len());
            if !self.rest.starts_with('#') {
                return !self.rest.is_empty();
            }
            self.advance(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
    }

    fn statement(&mut self) -> Result<(), DotenvErrorKind> {
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with(is_space)
        {
            self.advance(self.rest.len() - after.trim_start_matches(is_space).len());
        }
        let (name, has_value) = self.name()?;
        if !has_value {
            if let Some(value) = (self.lookup)(&name) {
                self.variables.values.insert(name, value);
            }
            return Ok(());
        }
        let blank = self.rest.len() - self.rest.trim_start_matches(is_space).len();
        self.advance(blank);
        let value = match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(&name, quote)?,
            _ => self.unquoted(&name)?,
        };
        self.length += value.len();
        if self.length > MAX_LENGTH {
            return Err(DotenvErrorKind::TooLong);
        }
        self.variables.values.insert(name, value);
        Ok(())
    }

    /// The name, and whether a value follows it.
    fn name(&mut self) -> Result<(String, bool), DotenvErrorKind> {
        let end = self.rest.find(['=', ':', '\n']).unwrap_or(self.rest.len());
        let name = self.rest[..end].trim_end();
        let allowed = |c: char| {
            c.is_alphanumeric() || is_space(c) || matches!(c, '_' | '.' | '-' | '[' | ']')
        };
        if let Some(bad) = name.chars().find(|&c| !allowed(c)) {
            return Err(DotenvErrorKind::BadName(bad));
        }
        if name.is_empty() || name.contains(' ') {
            return Err(DotenvErrorKind::NotAPair);
        }
        let has_value = self.rest[end..].starts_with(['=', ':']);
        self.advance(self.rest.len().min(end + 1));
        Ok((name.to_owned(), has_value))
    }

    fn unquoted(&mut self, name: &str) -> Result<String, DotenvErrorKind> {
        let end = self.rest.find('\n').unwrap_or(self.rest.len());
        let line = &self.rest[..end];
        let value = line.split_once(" #").map_or(line, |(value, _)| value).trim_end();
        let value = self.interpolate(name, value)?;
        self.advance(end);
        Ok(value)
    }

    fn quoted(&mut self, name: &str, quote: char) -> Result<String, DotenvErrorKind> {
        let mut value = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            if c == quote {
                if quote == '"' {
                    value = self.interpolate(name, &unescape(&value))?;
                }
                self.advance(at + 1);
                return Ok(value);
            }
            value.push(c);
            if c == '\\'
                && let Some((_, escaped)) = characters.next()
            {
                if escaped == quote {
                    value.pop();
                }
                value.push(escaped);
            }
        }
        Err(DotenvErrorKind::Unterminated(name.to_owned()))
    }

    fn interpolate(&mut self, name: &str, value: &str) -> Result<String, DotenvErrorKind> {
        let known = |wanted: &str| {
            (self.lookup)(wanted).or_else(|| self.variables.values.get(wanted).cloned())
        };
        let done = interpolate(value, &known);
        done.map(|done| done.text).map_err(|error| DotenvErrorKind::Value(name.to_owned(), error))
    }

    fn advance(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.rest = &self.rest[bytes..];
    }
}

/// Blank, but not the end of a line.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{a0}')
}

/// The escapes of double quotes. An escaped dollar sign is doubled, to survive interpolation.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let octal = after.strip_prefix('0').and_then(|digits| digits.get(..3));
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (replacement, used) = match (after.as_bytes().first(), octal) {
            (Some(b'0'), Some(code)) => (char::from(code).to_string(), 4),
            (Some(b'a'), _) => ("\u{7}".to_owned(), 1),
            (Some(b'b'), _) => ("\u{8}".to_owned(), 1),
            (Some(b'f'), _) => ("\u{c}".to_owned(), 1),
            (Some(b'n'), _) => ("\n".to_owned(), 1),
            (Some(b'r'), _) => ("\r".to_owned(), 1),
            (Some(b't'), _) => ("\t".to_owned(), 1),
            (Some(b'v'), _) => ("\u{b}".to_owned(), 1),
            (Some(b'$'), _) => ("$$".to_owned(), 1),
            (Some(b'"'), _) => ("\"".to_owned(), 1),
            (Some(b'\\'), _) => ("\\".to_owned(), 1),
            _ => ("\\".to_owned(), 0),
        };
        out.push_str(&replacement);
        rest = &after[used..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ambient(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    fn variables(text: &str) -> Vec<(String, String)> {
        parse(text, &ambient).expect("the text is sound").values.into_iter().collect()
    }

    fn value(text: &str) -> String {
        let variables = variables(text);
        variables.first().expect("there is a variable").1.clone()
    }

    #[test]
    fn lines_comments_and_export_are_understood() {
        let text = "# first\n\nA=1\nexport B = two words  # why\r\n C: 3\nexporter=x\n";
        let expected = [("A", "1"), ("B", "two words"), ("C", "3"), ("exporter", "x")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables(text), expected);
    }

    #[test]
    fn quotes_keep_what_they_hold() {
        assert_eq!(value("A='a $HOME # \\n'\n"), "a $HOME # \\n");
        assert_eq!(value("A=\"a\\nb\\\"c\" # why\n"), "a\nb\"c");
        assert_eq!(value("A='it\\'s'\n"), "it's");
        assert_eq!(value("A=\"two\nlines\"\nB=1\n"), "two\nlines");
        assert_eq!(value("A=\"\\$HOME\\0101\"\n"), "$HOMEA");
        assert_eq!(value("A=a\"b#c\n"), "a\"b#c");
        assert_eq!(value("A=\n"), "");
    }

    #[test]
    fn values_are_interpolated_from_outside_and_from_above() {
        let text = "HOME=/other\nDATA=${HOME}/data\nALL=\"$DATA:${NONE:-x}\"\n";
        assert!(variables(text).contains(&("DATA".to_owned(), "/root/data".to_owned())));
        assert!(variables(text).contains(&("ALL".to_owned(), "/root/data:x".to_owned())));
    }

    #[test]
    fn a_bare_name_takes_what_is_outside() {
        assert_eq!(variables("HOME\nNOWHERE\nexport HOME\n").len(), 1);
        assert_eq!(value("HOME"), "/root");
    }

    #[test]
    fn a_dollar_that_begins_no_variable_is_itself_and_an_unsound_brace_an_error() {
        assert_eq!(value("USERID=$(id -u) $\n"), "$(id -u) $");
        let error = parse("A=1\nUSERID=${id -u}\n", &ambient).expect_err("no name has a space");
        assert!(error.to_string().starts_with("line 2: the value of USERID: "), "{error}");
    }

    #[test]
    fn errors_name_the_line_and_no_value() {
        for (text, line) in [
            ("A=1\nB!=hunter2\n", 2),
            ("A=\"x\ny\"\nhunter2 and more\n", 3),
            ("\nA='hunter2\n", 2),
            ("=hunter2\n", 1),
        ] {
            let error = parse(text, &ambient).expect_err(text);
            assert_eq!(error.line, line, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_long_value_named_often_is_refused() {
        let text = format!("A={}\n{}", "x".repeat(100_000), "B=$A\n".repeat(1000));
        assert_eq!(
            parse(&text, &ambient).map_err(|error| error.kind),
            Err(DotenvErrorKind::TooLong)
        );
    }

    #[test]
    fn raw_files_are_taken_literally() {
        let text = "# c\nA=\"x\" # y\n B=$HOME\nHOME\nNOWHERE\n";
        let raw = parse_raw(text, &ambient).expect("the text is sound");
        let expected = [("A", "\"x\" # y"), ("B", "$HOME"), ("HOME", "/root")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(raw.values.into_iter().collect::<Vec<_>>(), expected);
        assert!(parse_raw("a b=1", &ambient).is_err());
    }

    proptest! {
        #[test]
        fn parse_never_panics(text in any::<String>()) {
            let _ = parse(&text, &ambient);
            let _ = parse_raw(&text, &ambient);
        }

        #[test]
        fn parse_never_panics_on_likely_text(text in "[aA=:'\"\\\\$\\{\\}# \n0-3é]{0,40}") {
            let _ = parse(&text, &ambient);
        }
    }
}
