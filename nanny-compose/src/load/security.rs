//! Security options, of which one names a file.

use std::path::Path;

use super::at::At;
use super::reading::Reading;
use super::scalars;

/// A security option as the engine takes it: a seccomp profile is sent as it is, not where it is.
pub(super) fn option(text: &str, at: &At<'_>, dir: &Path, reading: &Reading<'_>) -> String {
    let (name, value) = text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
    if name != "seccomp" || matches!(value, "unconfined" | "builtin") {
        return text.to_owned();
    }
    match reading.read(&scalars::clean(&dir.join(value))) {
        Ok(profile) => format!("seccomp={}", compact(&profile)),
        Err(reason) => {
            at.problem(format!("the seccomp profile cannot be read: {}", reason.message));
            text.to_owned()
        }
    }
}

/// JSON without the white space between its words.
fn compact(json: &str) -> String {
    let mut in_string = false;
    let mut escaped = false;
    let is_kept = |c: &char| {
        let kept = in_string || !matches!(c, ' ' | '\t' | '\n' | '\r');
        if *c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && *c == '\\' && !escaped;
        kept
    };
    json.chars().filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_white_space_between_words_goes() {
        let json = "{ \"a b\" :\t[ 1 ,\r\n \"c \\\" d\" , \"e\\\\\" ] }\n";
        assert_eq!(compact(json), r#"{"a b":[1,"c \" d","e\\"]}"#);
    }
}
