//! What looks like a secret in a text that is not ours, such as a log, is not shown.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex, RegexBuilder};

/// The same text without what looks like a secret. Secrets that look like any other word are not
/// found.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let text = replaced(Cow::Borrowed(text), &KEYS, |_| SHOWN.to_owned());
    let text = replaced(text, &HEADERS, |found| {
        // "Basic authentication" is no secret.
        let is_one = found.name("header").is_some() || has_digit(&found["value"]);
        if is_one { format!("{}{SHOWN}", &found["kept"]) } else { found[0].to_owned() }
    });
    let text = replaced(text, &TOKENS, |_| SHOWN.to_owned());
    let text = replaced(text, &LOGINS, |found| format!("{}{SHOWN}@", &found["kept"]));
    let text = replaced(text, &FIELDS, hidden);
    replaced(text, &FLAGS, hidden)
}

/// The address of something, without its password and without what is asked of it.
pub(crate) fn redact_address(address: &str) -> String {
    let shown = redact(address);
    match shown.split_once('?') {
        Some((start, _)) => format!("{start}?{SHOWN}"),
        None => shown.into_owned(),
    }
}

/// A name and its value, without the value if that looks like a secret.
fn hidden(found: &Captures<'_>) -> String {
    let (kept, value) = (&found["kept"], &found["value"]);
    let bare = value.trim_matches(['\\', '"', '\'']);
    // Models speak of tokens all day: a number counts them, and a word is one.
    let is_one = if found.name("token").is_some() {
        let counts = bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let is_special = bare.starts_with('<') || bare.contains(char::is_whitespace);
        bare.len() >= 8 && has_digit(bare) && !counts && !is_special
    } else {
        !bare.is_empty() && !HARMLESS.contains(&bare.to_ascii_lowercase().as_str())
    };
    if !is_one || bare == SHOWN {
        return found[0].to_owned();
    }
    // Its quotes stay, with the strokes before them.
    let open = value.len() - value.trim_start_matches(['\\', '"', '\'']).len();
    let close = value.trim_end_matches(['\\', '"', '\'']).len();
    format!("{kept}{}{SHOWN}{}", &value[..open], &value[close..])
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
    RegexBuilder::new(pattern)
        .multi_line(true)
        .build()
        .expect("the patterns here are valid, as every test shows")
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

/// Private keys: whole ones, and those whose beginning or end is not there.
static KEYS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?:(?s:.*?)-----END [A-Z0-9 ]*PRIVATE KEY-----",
        r"|(?:\s*\n(?:[^\n|]*\| )?[A-Za-z0-9+/=]{16,}[ \t]*$)*)",
        r"|(?:^(?:[^\n|]*\| )?[A-Za-z0-9+/=]{16,}[ \t]*\n)+(?:[^\n|]*\| )?-----END [A-Z0-9 ]*PRIVATE KEY-----",
    ))
});

/// `API_KEY=…`, `"password": "…"`, `OPENAI_KEY=…`; a value in quotes goes on to the closing one.
static FIELDS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        r#"(?<kept>(?:(?i:{NAMES})|\b[A-Z][A-Z0-9_]*_(?:KEY|PASS))\\*["']?[ \t]*[:=][ \t]*){VALUE}"#
    ))
});

/// `--password …`.
static FLAGS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(r#"(?<kept>--(?i:[a-z0-9_-]*?(?:{NAMES}))(?:["'],)?[ \t]+){VALUE}"#))
});

const NAMES: &str = "password|passwd|passphrase|secret(?:[_-]?access)?(?:[_-]?key(?:[_-]?base)?)?|\
                     (?<token>token)|api[_-]?key|access[_-]?key|private[_-]?key|credentials?";
const VALUE: &str = r#"(?<value>\[redacted\]|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\\+"[^"\n]*"|["']?[^\s"'<>,;&|-][^\s"'<>,;&|]*)"#;
/// What is said of a secret instead of it.
const HARMLESS: &[&str] = &[
    "true",
    "false",
    "none",
    "null",
    "nil",
    "yes",
    "no",
    "not",
    "set",
    "unset",
    "is",
    "must",
    "and",
    "or",
    "required",
    "missing",
    "empty",
    "invalid",
    "incorrect",
    "(none)",
    "***",
];

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
            ("password=hunter2", "password=[redacted]"),
            ("PASSWORD=12345678", "PASSWORD=[redacted]"),
            ("WEBUI_SECRET_KEY=t0p", "WEBUI_SECRET_KEY=[redacted]"),
            ("SECRET_KEY_BASE=abc def", "SECRET_KEY_BASE=[redacted] def"),
            ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7", "AWS_SECRET_ACCESS_KEY=[redacted]"),
            ("OPENAI_KEY=whatever", "OPENAI_KEY=[redacted]"),
            ("DB_PASS: hunter2", "DB_PASS: [redacted]"),
            (r#"password="a, b (c) d" x"#, r#"password="[redacted]" x"#),
            (r"{'password': 'it, (is)', 'n': 1}", r"{'password': '[redacted]', 'n': 1}"),
            (r#"{\"secret\": \"a, b\", \"n\": 1}"#, r#"{\"secret\": \"[redacted]\", \"n\": 1}"#),
            ("run --password hunter2 --port 80", "run --password [redacted] --port 80"),
            ("run --api-key 'a b' now", "run --api-key '[redacted]' now"),
            ("run --hf-token abcdefgh1", "run --hf-token [redacted]"),
            (
                "x\n-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----\ny",
                "x\n[redacted]\ny",
            ),
            (
                "a  | -----BEGIN PRIVATE KEY-----\na  | MIIEpAIBAAKCAQEAMII\na  | MIIEpAIBAAKCAQEA=\na  | on",
                "a  | [redacted]\na  | on",
            ),
            (
                "a  | one\na  | MIIEpAIBAAKCAQEAMII\na  | -----END PRIVATE KEY-----\na  | on",
                "a  | one\n[redacted]\na  | on",
            ),
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
            "max_tokens=4096, key=value, sort_key=name, cache_key: 12ab34cd",
            "step 3/10 loss=0.25 lr=1e-4 epoch=2",
            "token count: 12, token: 12, next_token=3",
            "password: required; --password is required; secret=None",
            "run --max-token 4096 --key k",
            "",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn an_address_says_where_and_no_more() {
        for (address, shown) in [
            ("http://localhost:80/health", "http://localhost:80/health"),
            ("http://me:pa55@host/x?key=1&b=2", "http://me:[redacted]@host/x?[redacted]"),
        ] {
            assert_eq!(redact_address(address), shown);
        }
    }

    #[test]
    fn what_was_redacted_stays_as_it_is() {
        let once = redact("password=hunter2 API_KEY: 'a b' --secret x").into_owned();
        assert_eq!(redact(&once), once);
    }
}
