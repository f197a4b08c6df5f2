//! The URIs of the resources, read and written.

use std::fmt;

use nanny_lib::ServiceName;

/// What a URI of ours names. Names of services are percent-decoded in here; whether there is such a
/// service is another question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ResourceUri {
    /// `service://status`: all services, and the GPUs.
    Overview,
    /// `service://metrics`: what is counted and measured.
    Metrics,
    /// `service://status/{name}`: one service.
    Status(ServiceName),
    /// `service://logs/{name}`: the last lines that a service wrote.
    Logs(ServiceName),
}

impl ResourceUri {
    /// Reads a URI; `None` if it is none of ours. The scheme may be in any case, one slash may be at
    /// the end, and a name may be percent-encoded or not.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("service") {
            return None;
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        match rest.split_once('/') {
            None if rest == "status" => Some(Self::Overview),
            None if rest == "metrics" => Some(Self::Metrics),
            Some(("status", name)) => decoded(name).map(Self::Status),
            Some(("logs", name)) => decoded(name).map(Self::Logs),
            _ => None,
        }
    }

    /// The service that it is about, if it is about one.
    pub(crate) fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::Overview | Self::Metrics => None,
            Self::Status(name) | Self::Logs(name) => Some(name),
        }
    }
}

impl fmt::Display for ResourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overview => f.write_str("service://status"),
            Self::Metrics => f.write_str("service://metrics"),
            Self::Status(name) => write!(f, "service://status/{}", Encoded(name)),
            Self::Logs(name) => write!(f, "service://logs/{}", Encoded(name)),
        }
    }
}

/// A name as a path segment: everything but what RFC 3986 calls unreserved is percent-encoded.
struct Encoded<'a>(&'a ServiceName);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.as_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// The name that a path segment stands for.
fn decoded(segment: &str) -> Option<ServiceName> {
    // These would begin another part of the URI.
    if segment.contains(['/', '?', '#']) {
        return None;
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'%' {
            let (code, after) = after.split_at_checked(2)?;
            bytes.push(hex(code[0])? << 4 | hex(code[1])?);
            rest = after;
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    ServiceName::new(String::from_utf8(bytes).ok()?).ok()
}

fn hex(digit: u8) -> Option<u8> {
    let digit = char::from(digit).to_digit(16)?;
    u8::try_from(digit).ok()
}

/// A name of 128 bytes, each of them encoded, leaves room.
const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    #[test]
    fn the_case_of_the_scheme_a_slash_at_the_end_and_encoding_do_not_matter() {
        for (text, uri) in [
            ("service://status", ResourceUri::Overview),
            ("service://status/", ResourceUri::Overview),
            ("SERVICE://metrics", ResourceUri::Metrics),
            ("service://status/llm-chat", ResourceUri::Status(name("llm-chat"))),
            ("Service://logs/llm%2dchat/", ResourceUri::Logs(name("llm-chat"))),
            ("service://logs/gr%C3%B6%C3%9Fe", ResourceUri::Logs(name("größe"))),
            ("service://logs/größe", ResourceUri::Logs(name("größe"))),
            ("service://logs/image gen", ResourceUri::Logs(name("image gen"))),
            ("service://logs/a%3Fb%25", ResourceUri::Logs(name("a?b%"))),
        ] {
            assert_eq!(ResourceUri::parse(text), Some(uri), "{text}");
        }
    }

    #[test]
    fn everything_else_is_none_of_ours() {
        for text in [
            "",
            "service",
            "service:",
            "service://",
            "service://Status",
            "service:///status",
            " service://status",
            "service://status//",
            "service://status?all",
            "service://status#all",
            "service://logs",
            "service://logs/",
            "service://logs//",
            "service://logs/a//",
            "service://logs/a/b",
            "service://logs/a%2Fb",
            "service://logs/a?tail=1",
            "service://logs/a%",
            "service://logs/a%2",
            "service://logs/a%zz",
            "service://logs/a%+1",
            "service://logs/%FF",
            "service://logs/%0A",
            "service://logs/..",
            "service://metrics/a",
            "file:///etc/passwd",
            "http://status/a",
        ] {
            assert_eq!(ResourceUri::parse(text), None, "{text}");
        }
        assert_eq!(ResourceUri::parse(&format!("service://logs/{}", "a".repeat(129))), None);
        assert_eq!(ResourceUri::parse(&format!("service://logs/{}", "%61".repeat(200))), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(name in "[\\p{L}\\p{N}][^/\\p{C}]{0,20}") {
            let Ok(name) = ServiceName::new(name) else { return Ok(()) };
            for uri in [ResourceUri::Status(name.clone()), ResourceUri::Logs(name)] {
                let text = uri.to_string();
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
                prop_assert_eq!(ResourceUri::parse(&text), Some(uri));
            }
        }

        #[test]
        fn nothing_makes_it_panic_and_what_it_takes_it_writes_alike(text in "\\PC*|service://(logs|status)/\\PC*") {
            if let Some(uri) = ResourceUri::parse(&text) {
                prop_assert_eq!(ResourceUri::parse(&uri.to_string()), Some(uri));
            }
        }
    }
}
