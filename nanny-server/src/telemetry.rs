//! Logging, to standard error.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError};
use tracing_subscriber::fmt::format::{self, Writer};

use crate::config::LogArgs;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs, one object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json"),
        }
    }
}

/// Starts logging, at `level` unless `args` name another. Does nothing if something else in this process logs already.
///
/// # Errors
///
/// If the level is none.
pub fn start(args: &LogArgs, level: &str) -> Result<(), ParseError> {
    let filter = filter(args.log_level.as_deref().unwrap_or(level))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would print them, and where that fails, too, panic: on a full disk, or a closed terminal.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal());
    let started = match args.log_format {
        LogFormat::Text => log.fmt_fields(format::debug_fn(write_field).delimited(" ")).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("something else logs already");
    }
    Ok(())
}

/// What is logged at `level`. The MCP library tells of every request's beginning and end; whoever wants
/// that names it.
fn filter(level: &str) -> Result<EnvFilter, ParseError> {
    if !level.contains(['=', ',', '[']) {
        // One word is a level, and no program that alone is to be heard.
        level.parse::<LevelFilter>()?;
    }
    if level.contains("rmcp") {
        return EnvFilter::try_new(level);
    }
    EnvFilter::try_new(format!("rmcp=warn,{level}"))
}

/// A field is part of one line, whatever its text is.
fn write_field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = plain(&format!("{value:?}"));
    match field.name() {
        "message" => to.write_str(&value),
        name => write!(to, "{name}={value}"),
    }
}

/// Without characters that would tell a terminal what to do, or begin another line: names and keys
/// come from files.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() {
            plain.extend(letter.escape_default());
        } else {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mcp_library_is_quiet_unless_it_is_named() {
        assert_eq!(filter("info").unwrap().to_string(), "rmcp=warn,info");
        assert_eq!(filter("rmcp=trace,info").unwrap().to_string(), "rmcp=trace,info");
        assert!(filter("rmcp=loud").is_err());
    }

    #[test]
    fn one_word_is_a_level_or_an_error() {
        for level in ["error", "WARN", "off", "3", "nanny_lib=debug", "nanny_lib=debug,info"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        for level in ["loud", "nanny_lib"] {
            assert!(filter(level).is_err(), "{level}");
        }
    }

    #[test]
    fn what_is_plain_stays_and_what_is_not_is_shown() {
        assert_eq!(plain("häuser\t\u{1b}[31m\n\u{9b}2J\0"), r"häuser\t\u{1b}[31m\n\u{9b}2J\u{0}");
    }
}
