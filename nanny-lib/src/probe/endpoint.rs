//! Health endpoints: the few kinds of URL that a probe understands.

use std::fmt;

/// Where a health probe knocks: an `http`, `https` or `tcp` URL taken apart.
///
/// Its `Display` is for people and logs: it leaves out credentials and the query.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) scheme: Scheme,
    /// A name or an address, an IPv6 address without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// At least `/`, without the query.
    path: String,
    /// The whole URL as written, which is not for showing.
    #[cfg(feature = "http-probe")]
    pub(crate) url: String,
}

/// What is spoken at an [`Endpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
    Tcp,
}

impl Endpoint {
    /// Reads a URL. The error says what is wrong with it and how to write it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("it does not begin with a scheme; {EXAMPLE}"));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "tcp" => Scheme::Tcp,
            _ => {
                return Err(format!("its scheme is none of http, https and tcp; {EXAMPLE}"));
            }
        };
        // A backslash is a slash to who asks, which would be another host than the one shown.
        if text.contains(|c: char| !c.is_ascii_graphic() || c == '\\') {
            return Err("it contains a space or another character that a URL must escape; \
                        escape it as %20 and the like"
                .to_owned());
        }
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
        let (host, port) = split_address(address)?;
        let port = match (port, scheme) {
            (Some(port), _) => port,
            (None, Scheme::Http) => 80,
            (None, Scheme::Https) => 443,
            (None, Scheme::Tcp) => {
                return Err("it names no port; write tcp://localhost:8000".to_owned());
            }
        };
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            #[cfg(feature = "http-probe")]
            url: text.to_owned(),
        })
    }

    /// `host:port`, without the scheme's own port.
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match (self.scheme, port) {
            (Scheme::Http, 80) | (Scheme::Https, 443) => host,
            _ => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Tcp => return write!(f, "tcp://{}", self.authority()),
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const EXAMPLE: &str = "write http://localhost:8000/health or tcp://localhost:8000";

fn split_address(address: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("its '[' has no ']'")?;
            (host, port.strip_prefix(':').or((!port.is_empty()).then_some(port)))
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err("it names no host; write one, such as localhost".to_owned());
    }
    let Some(port) = port.filter(|port| !port.is_empty()) else {
        return Ok((host, None));
    };
    match port.parse() {
        Ok(port) if port != 0 => Ok((host, Some(port))),
        _ if port.contains('$') => Err(format!(
            "its port '{port}' is a variable, and none are filled in here; write the number"
        )),
        _ => Err(format!("its port '{port}' is not a number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, host, port, path) in [
            ("http://localhost:8000/health", "localhost", 8000, "/health"),
            ("HTTP://localhost", "localhost", 80, "/"),
            ("https://models.test?x=1", "models.test", 443, "/"),
            ("http://[::1]:9000/a?b#c", "::1", 9000, "/a"),
            ("tcp://127.0.0.1:5432", "127.0.0.1", 5432, "/"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            let found = (endpoint.host.as_str(), endpoint.port, endpoint.path.as_str());
            assert_eq!(found, (host, port, path), "{text}");
        }
    }

    #[test]
    fn what_is_shown_has_neither_credentials_nor_query() {
        let endpoint = Endpoint::parse("http://me:secret@[::1]:80/health?token=abc").unwrap();
        assert_eq!(format!("{endpoint} {endpoint:?}"), "http://[::1]/health http://[::1]/health");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_a_cure() {
        for (text, part) in [
            ("localhost:8000/health", "does not begin with a scheme"),
            ("/health", "does not begin with a scheme"),
            ("ftp://x", "none of http, https and tcp"),
            ("http://", "names no host"),
            ("http://:80/", "names no host"),
            ("tcp://localhost", "names no port"),
            ("http://localhost:${PORT}/", "is a variable"),
            ("http://localhost:70000/", "from 1 to 65535"),
            ("http://localhost:0/", "from 1 to 65535"),
            ("http://local host/", "contains a space"),
            ("http://a\\@b/", "contains a space"),
            ("http://[::1/", "no ']'"),
        ] {
            let error = Endpoint::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
