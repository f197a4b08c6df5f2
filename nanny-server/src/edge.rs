//! Who may talk to the server: its own names, further hosts and origins, and the token.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::http::uri::Authority;

use crate::token::Token;

/// What the edge of the server lets through.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EdgeConfig {
    /// Where the server listens: its address and port are part of its own names.
    pub listen: SocketAddr,
    /// Names by which it may be called beside `localhost` and the address it listens on.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Web origins whose pages may call it beside its own.
    pub allowed_origins: Vec<AllowedOrigin>,
    /// The token that every request over TCP must carry, if there is one.
    pub token: Option<Token>,
    /// What an assistant may do at `/mcp`; `None` for nothing.
    #[cfg(feature = "mcp")]
    pub mcp: Option<nanny_mcp::McpConfig>,
}

impl EdgeConfig {
    /// A server at `listen` that needs no token and has no further names.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            token: None,
            #[cfg(feature = "mcp")]
            mcp: Some(nanny_mcp::McpConfig::default()),
        }
    }

    /// The same, asking for `token`.
    #[must_use]
    pub fn with_token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// The same, also answering to `host`.
    #[must_use]
    pub fn allowing_host(mut self, host: AllowedHost) -> Self {
        self.allowed_hosts.push(host);
        self
    }

    /// The same, also serving pages of `origin`.
    #[must_use]
    pub fn allowing_origin(mut self, origin: AllowedOrigin) -> Self {
        self.allowed_origins.push(origin);
        self
    }

    /// Whether `host` is one of the server's names.
    pub(crate) fn answers_to(&self, host: &HostPort) -> bool {
        self.is_own(host, 80)
            || self.allowed_hosts.iter().any(|allowed| self.matches(allowed, host))
    }

    /// Whether `host` is one of the names every server has, at its own port.
    pub(crate) fn is_own(&self, host: &HostPort, default_port: u16) -> bool {
        let at_own_port = host.port.unwrap_or(default_port) == self.listen.port();
        let own_address =
            !self.listen.ip().is_unspecified() && host.name == bracketed(self.listen.ip());
        at_own_port && (own_address || LOOPBACK_NAMES.contains(&host.name.as_str()))
    }

    fn matches(&self, allowed: &AllowedHost, host: &HostPort) -> bool {
        let port_fits = match allowed.0.port {
            Some(port) => host.port == Some(port),
            None => host.port.is_none_or(|port| port == self.listen.port()),
        };
        port_fits && allowed.0.name == host.name
    }
}

const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// A host, in lower case, and a port if one was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
}

impl HostPort {
    /// Reads `name`, `name:port`, `[address]` or `[address]:port`, and nothing else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let name = authority.host().to_ascii_lowercase();
        let rest = text.get(name.len()..)?;
        let port = match rest.strip_prefix(':') {
            Some(port) if is_plain_number(port) => Some(port.parse().ok()?),
            None if rest.is_empty() => None,
            _ => return None,
        };
        (!name.is_empty() && !text.contains('@')).then_some(Self { name, port })
    }
}

/// Written with digits alone, and in one way.
fn is_plain_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0')
}

/// A further name of the server: `nanny.lan` at its own port or at none, `nanny.lan:9000` at just
/// that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHost(HostPort);

impl FromStr for AllowedHost {
    type Err = InvalidEdge;

    fn from_str(text: &str) -> Result<Self, InvalidEdge> {
        let expected = "a host name such as nanny.lan, or nanny.lan:9000";
        HostPort::parse(text).map(Self).ok_or(InvalidEdge { expected })
    }
}

/// A web origin: `https://nanny.lan`, with a port if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedOrigin(pub(crate) Origin);

impl FromStr for AllowedOrigin {
    type Err = InvalidEdge;

    fn from_str(text: &str) -> Result<Self, InvalidEdge> {
        let expected = "an origin such as https://nanny.lan or http://localhost:3000";
        Origin::parse(text.trim_end_matches('/')).map(Self).ok_or(InvalidEdge { expected })
    }
}

/// Where a web page came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) scheme: String,
    pub(crate) host: HostPort,
}

impl Origin {
    /// Reads `scheme://host` with or without a port. `null` is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, host) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let known =
            scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        (known && !scheme.is_empty()).then_some(Self { scheme, host: HostPort::parse(host)? })
    }
}

/// Why a text names no host or origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidEdge {
    expected: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_exactly() {
        let read = |text: &str| HostPort::parse(text).map(|host| (host.name, host.port));
        assert_eq!(read("LocalHost:8080"), Some(("localhost".to_owned(), Some(8080))));
        assert_eq!(read("[::1]:8080"), Some(("[::1]".to_owned(), Some(8080))));
        assert_eq!(read("[::1]"), Some(("[::1]".to_owned(), None)));
        for odd in [
            "",
            "a b",
            "user@localhost",
            "localhost:",
            "localhost:+1",
            "localhost:99999",
            "a/b",
            "a:080",
        ] {
            assert_eq!(read(odd), None, "{odd:?} passed");
        }
    }

    #[test]
    fn an_unspecified_address_is_no_name() {
        let config = EdgeConfig::new(([0, 0, 0, 0], 8080).into());
        assert!(!config.answers_to(&HostPort::parse("0.0.0.0:8080").unwrap()));
        let config = EdgeConfig::new(([192, 168, 0, 7], 8080).into());
        assert!(config.answers_to(&HostPort::parse("192.168.0.7:8080").unwrap()));
    }
}
