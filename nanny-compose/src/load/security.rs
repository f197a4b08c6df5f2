//! Security options, of which one names a file.

use std::path::Path;

use super::at::At;
use super::reading::Reading;
use super::scalars;

/// A security option as the engine takes it: a seccomp profile is sent as it is, not where it is.
///
/// One that cannot be read stays a path, with a warning: Compose, too, complains only of those that
/// a container is to be made with.
pub(super) fn option(text: &str, at: &At<'_>, dir: &Path, reading: &Reading<'_>) -> String {
    let Some(file) = profile(text) else { return text.to_owned() };
    match reading.read(&scalars::clean(&dir.join(file))) {
        Ok(profile) => format!("seccomp={}", compact(&profile)),
        Err(reason) => {
            at.warn(format!("the seccomp profile cannot be read: {}", reason.message));
            text.to_owned()
        }
    }
}

/// The file that a security option names, as it is written.
fn profile(option: &str) -> Option<&str> {
    let (name, value) = option.split_once('=').or_else(|| option.split_once(':'))?;
    let is_file = name == "seccomp" && !matches!(value, "unconfined" | "builtin");
    is_file.then_some(value)
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
