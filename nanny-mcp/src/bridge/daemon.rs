//! The daemon at the other end: where it is, how it is asked, and what can go wrong with that.

use std::error::Error;
use std::fmt;
use std::iter;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, ClientBuilder, Method, Response, StatusCode, Url, redirect, retry};
use tokio::time::timeout;

use super::events::Body;
use super::failure::Failure;
use super::link::LONGEST_ANSWER;

/// Why a daemon cannot be asked at all, whether it is there or not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnusableAddress(String);

/// A running nanny, by its address.
#[derive(Clone)]
pub struct Daemon {
    address: String,
    endpoint: Url,
    client: Client,
    token: Option<HeaderValue>,
}

impl Daemon {
    /// The one at `url`, such as `http://127.0.0.1:8080`; `/mcp` need not be said.
    ///
    /// # Errors
    ///
    /// If it is no address of a server, or needs TLS that this build does not have.
    pub fn at_url(url: &str) -> Result<Self, UnusableAddress> {
        let unusable =
            |why: &str| UnusableAddress(format!("cannot use the address {url:?}: {why}"));
        let mut endpoint =
            Url::parse(url).map_err(|_| unusable("expected one such as http://127.0.0.1:8080"))?;
        // It would be shown wherever the address is.
        if !endpoint.username().is_empty() || endpoint.password().is_some() {
            let why = "it holds a name or a password; \
                       give the token with --token-file or NANNY_TOKEN";
            return Err(UnusableAddress(format!("cannot use this address: {why}")));
        }
        if endpoint.query().is_some() || endpoint.fragment().is_some() {
            return Err(unusable("it must end with its path"));
        }
        let tls = match endpoint.scheme() {
            "http" => false,
            "https" if cfg!(feature = "bridge-tls") => true,
            "https" => return Err(unusable("this build has no TLS (feature `tls`)")),
            _ => return Err(unusable("it must begin with http:// or https://")),
        };
        let base = endpoint.path().trim_end_matches('/');
        let base = base.strip_suffix("/mcp").unwrap_or(base).to_owned();
        endpoint.set_path(&base);
        let address = endpoint.as_str().trim_end_matches('/').to_owned();
        endpoint.set_path(&format!("{base}/mcp"));
        Self::new(address, endpoint, client(tls)?)
    }

    /// The one behind the unix socket at `path`.
    ///
    /// # Errors
    ///
    /// If no client can be set up.
    pub fn at_unix_socket(path: &Path) -> Result<Self, UnusableAddress> {
        let address = format!("the unix socket {}", path.display());
        // Who is asked there, nobody looks at.
        let endpoint = Url::parse("http://localhost/mcp")
            .map_err(|error| UnusableAddress(format!("cannot use {address}: {error}")))?;
        Self::new(address, endpoint, client(false)?.unix_socket(path.to_owned()))
    }

    fn new(address: String, endpoint: Url, client: ClientBuilder) -> Result<Self, UnusableAddress> {
        let client = client.build().map_err(|error| {
            UnusableAddress(format!("cannot set the HTTP client up: {}", root(&error)))
        })?;
        Ok(Self { address, endpoint, client, token: None })
    }

    /// Says who we are to a daemon that wants a token.
    ///
    /// # Errors
    ///
    /// If `token` cannot be written in a header.
    pub fn with_token(mut self, token: &str) -> Result<Self, UnusableAddress> {
        let unusable =
            |_| UnusableAddress("the token must be one word of visible ASCII".to_owned());
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(unusable)?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(self)
    }

    /// As people write it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Sends a message. Whatever is answered with a status of success is handed back with its body
    /// still to be read.
    pub(super) async fn post(
        &self,
        message: &str,
        headers: HeaderMap,
        limit: Duration,
    ) -> Result<Response, Failure> {
        let request = self
            .client
            .request(Method::POST, self.endpoint.clone())
            .headers(headers)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .body(message.to_owned());
        self.send(request, limit).await
    }

    /// Asks for the stream of what the daemon has to say by itself, or for the rest of another one.
    pub(super) async fn get(
        &self,
        headers: HeaderMap,
        limit: Duration,
    ) -> Result<Response, Failure> {
        let request = self.client.get(self.endpoint.clone()).headers(headers);
        self.send(request.header(ACCEPT, "text/event-stream"), limit).await
    }

    /// Ends a session.
    pub(super) async fn delete(&self, headers: HeaderMap, limit: Duration) -> Result<(), Failure> {
        let request = self.client.delete(self.endpoint.clone()).headers(headers);
        self.send(request, limit).await.map(drop)
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        limit: Duration,
    ) -> Result<Response, Failure> {
        let request = match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        };
        let sent = timeout(limit, request.send()).await;
        match sent {
            Err(_) => Err(Failure::Cut(format!("it did not answer within {limit:?}"))),
            Ok(Err(error)) if error.is_connect() => Err(Failure::Absent(why_absent(&error))),
            Ok(Err(error)) => Err(Failure::Cut(root(&error))),
            Ok(Ok(response)) if response.status().is_success() => Ok(response),
            Ok(Ok(response)) => Err(self.refusal(response).await),
        }
    }

    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status();
        let json = is_json(&response);
        // The status says enough if the text does not come.
        let body = Body::new(response, CONNECT).whole(LONGEST_ANSWER).await.unwrap_or_default();
        let value = if json { serde_json::from_slice(&body).unwrap_or_default() } else { None };
        let value: serde_json::Value = value.unwrap_or_default();
        if value["jsonrpc"].is_string() && value["error"].is_object() {
            return Failure::Answered(value);
        }
        let said = value["message"].as_str().or(value["error"]["message"].as_str());
        let said = said.map_or_else(|| String::from_utf8_lossy(&body).into_owned(), str::to_owned);
        let said = said.chars().filter(|letter| !letter.is_control()).take(300).collect();
        match status {
            StatusCode::UNAUTHORIZED => Failure::Unauthorized(said),
            StatusCode::NOT_FOUND => Failure::NotFound(said),
            _ => Failure::Refused(status.as_u16(), said),
        }
    }
}

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon").field("address", &self.address).finish_non_exhaustive()
    }
}

pub(super) fn is_json(response: &Response) -> bool {
    has_type(response, "application/json")
}

pub(super) fn is_event_stream(response: &Response) -> bool {
    has_type(response, "text/event-stream")
}

fn has_type(response: &Response, wanted: &str) -> bool {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(wanted)
}

/// A client, with `tls` or without.
fn client(tls: bool) -> Result<ClientBuilder, UnusableAddress> {
    let client = Client::builder()
        .user_agent(concat!("service-nanny/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .connect_timeout(CONNECT)
        // A connection for each request: one that was closed meanwhile would leave open whether the
        // request was read.
        .pool_max_idle_per_host(0);
    #[cfg(feature = "bridge-tls")]
    let client = super::tls::set_up(client, tls)
        .map_err(|error| UnusableAddress(format!("TLS cannot be set up: {error}")))?;
    let _ = tls;
    Ok(client)
}

fn why_absent(error: &reqwest::Error) -> String {
    if error.is_timeout() { "no connection within the time".to_owned() } else { root(error) }
}

/// The last cause: the error itself shows the whole URL.
pub(super) fn root(error: &reqwest::Error) -> String {
    let causes = iter::successors(error.source(), |cause| (*cause).source());
    causes.last().map_or_else(|| "no reason given".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_a_server_or_of_its_endpoint() {
        for url in ["http://127.0.0.1:8080", "http://127.0.0.1:8080/", "http://127.0.0.1:8080/mcp"]
        {
            let daemon = Daemon::at_url(url).unwrap();
            assert_eq!(daemon.address(), "http://127.0.0.1:8080");
            assert_eq!(daemon.endpoint.as_str(), "http://127.0.0.1:8080/mcp");
        }
        let behind = Daemon::at_url("http://gpu.lan/nanny/").unwrap();
        assert_eq!(behind.endpoint.as_str(), "http://gpu.lan/nanny/mcp");
    }

    #[test]
    fn an_address_that_is_none_is_refused_and_a_secret_in_it_is_not_shown() {
        for url in ["127.0.0.1:8080", "", "ftp://a", "http://a/?token=b", "http://a/#b"] {
            assert!(Daemon::at_url(url).is_err(), "{url}");
        }
        let error = Daemon::at_url("http://me:canary@127.0.0.1:8080").unwrap_err().to_string();
        assert!(error.contains("NANNY_TOKEN") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn a_token_is_never_shown() {
        let daemon = Daemon::at_url("http://127.0.0.1:8080").unwrap().with_token("canary").unwrap();
        assert!(!format!("{daemon:?} {:?}", daemon.token).contains("canary"));
        assert!(daemon.with_token("two\nlines").is_err());
    }
}
