//! What looks like a secret in a text that is not ours, such as a log, is not shown.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The same text without what looks like a secret. Secrets that look like any other word are not
/// found.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let text = replaced(Cow::Borrowed(text), &HEADERS, |found| {
        // "Basic authentication" is no secret.
        let is_one = found.name("header").is_some() || has_digit(&found["value"]);
        if is_one { format!("{}{SHOWN}", &found["kept"]) } else { found[0].to_owned() }
    });
    let text = replaced(text, &TOKENS, |_| SHOWN.to_owned());
    let text = replaced(text, &LOGINS, |found| format!("{}{SHOWN}@", &found["kept"]));
    replaced(text, &FIELDS, |found| {
        let (kept, value) = (&found["kept"], &found["value"]);
        // Models speak of tokens all day: a number counts them, and a word is one.
        let counts = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_word = found.name("token").is_some() && !has_digit(value);
        let is_one = !counts && !is_word && value != SHOWN;
        if is_one { format!("{kept}{SHOWN}") } else { found[0].to_owned() }
    })
}

fn has_digit(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}

fn replaced<'a>(
    text: Cow<'a, str>,
    pattern: &Regex,
    by: impl FnMut(&Captures<'_>) -> String,
) -> Cow<'a, str> {
    match pattern.replace_all(&text, by) {
        Cow::Borrowed(_) => text,
        Cow::Owned(text) => Cow::Owned(text),
    }
}

fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the patterns here are valid, as every test shows")
}

const SHOWN: &str = "[redacted]";

/// `Authorization: Bearer …`, `Basic …`.
static HEADERS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r#"(?i)(?<kept>(?<header>authorization["']?\s*[:=]\s*["']?)?\b(?:bearer|basic)\s+)"#,
        r"(?<value>[a-z0-9._~+/=-]{8,})",
    ))
});

/// Tokens whose issuers mark them, keys of cloud services, and JSON Web Tokens.
static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"\b(?:",
        r"hf_[A-Za-z0-9]{16,}",
        r"|sk-[A-Za-z0-9_-]{20,}",
        r"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}",
        r"|gh[pousr]_[A-Za-z0-9]{16,}",
        r"|github_pat_[A-Za-z0-9_]{16,}",
        r"|glpat-[A-Za-z0-9_-]{16,}",
        r"|xox[abeprs]-[A-Za-z0-9-]{10,}",
        r"|AIza[A-Za-z0-9_-]{30,}",
        r"|(?:AKIA|ASIA)[A-Z0-9]{16}",
        r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        r")",
    ))
});

/// `https://user:password@host`.
static LOGINS: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?<kept>://[^/\s:@]*:)[^/\s@]+@"));

/// `API_KEY=…`, `"password": "…"`, `--token …=…`.
static FIELDS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r#"(?i)(?<kept>(?:password|passwd|passphrase|secret|(?<token>token)|api[_-]?key|access[_-]?key|"#,
        r#"private[_-]?key|credential)["']?\s*[:=]\s*["']?)"#,
        r#"(?<value>\[redacted\]|[^\s"'<>(){}\[\],;&|]{8,})"#,
    ))
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_not_shown() {
        for (text, shown) in [
            ("Authorization: Bearer abc.def-123456", "Authorization: Bearer [redacted]"),
            ("authorization: basic dXNlcjpwYXNz", "authorization: basic [redacted]"),
            ("using hf_AbCdEfGhIjKlMnOpQrSt now", "using [redacted] now"),
            ("key sk-proj-abcdefghijklmnopqrst.", "key [redacted]."),
            ("ghp_abcdefghijklmnop1234", "[redacted]"),
            ("AKIAABCDEFGHIJKLMNOP", "[redacted]"),
            ("jwt eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl!", "jwt [redacted]!"),
            ("GET https://me:pa55@host/x", "GET https://me:[redacted]@host/x"),
            ("HF_TOKEN=abcdefgh1", "HF_TOKEN=[redacted]"),
            (r#"{"api_key": "abcdefgh1", "n": 1}"#, r#"{"api_key": "[redacted]", "n": 1}"#),
            ("DB_PASSWORD: correct-horse", "DB_PASSWORD: [redacted]"),
            ("token=hf_AbCdEfGhIjKlMnOpQrSt", "token=[redacted]"),
        ] {
            assert_eq!(redact(text), shown, "{text}");
        }
    }

    #[test]
    fn what_models_say_of_themselves_is_shown() {
        for text in [
            "llama_context: n_ctx = 4096, max_token=12345678",
            "bos_token: '<|begin_of_text|>', eos_token = '</s>'",
            "Basic authentication is off, bearer authentication is on",
            "SyntaxError: unexpected token: identifier",
            "prompt tokens: 123456789, 53.2 tokens per second",
            "loading /models/sk-learn/model.safetensors",
            "listening on http://0.0.0.0:8000/v1",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "",
        ] {
            assert_eq!(redact(text), text);
        }
    }
}
