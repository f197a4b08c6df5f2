//! The guard before every route: against DNS rebinding, forged cross-site requests, and strangers.
//!
//! A web page anywhere can make its visitor's browser send requests to `localhost`. What gives it
//! away is in headers that the page cannot set: `Host` names a stranger if the page rebound its
//! own name to this machine, `Origin` and `Sec-Fetch-Site` say that the request came from
//! elsewhere. The guard looks at these before the request is routed and before its body is read,
//! and then at the token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;

use crate::edge::{EdgeConfig, HostPort, Origin};
use crate::error::ApiError;
use crate::listen::Peer;
use crate::token::Token;

/// Why the guard turned a request away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request does not say, in one well-formed way, whom it is for.
    NoHost(&'static str),
    /// It is for somebody else.
    ForeignHost(String),
    /// It came from a web page of another origin.
    ForeignOrigin(String),
    /// A browser says that another site sent it.
    CrossSite(String),
    /// It lacks the token.
    NoToken,
    /// As many others just did.
    TooManyGuesses,
    /// Where it ends is a matter of taste.
    OddFraming,
}

/// What the guard goes by, and what it remembers.
#[derive(Debug)]
pub(crate) struct Guard {
    edge: EdgeConfig,
    guesses: Mutex<Guesses>,
}

impl Guard {
    pub(crate) fn new(edge: EdgeConfig) -> Self {
        Self { edge, guesses: Mutex::new(Guesses { since: Instant::now(), count: 0 }) }
    }

    fn admit(&self, parts: &Parts) -> Result<(), Refusal> {
        framed_plainly(parts)?;
        decide(parts, &self.edge).map_err(|refusal| match refusal {
            Refusal::NoToken if self.is_guessing() => Refusal::TooManyGuesses,
            refusal => refusal,
        })
    }

    /// Notes a request without the token; whether there were too many of late.
    fn is_guessing(&self) -> bool {
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(guesses.since) >= Duration::from_secs(1) {
            *guesses = Guesses { since: now, count: 0 };
        }
        guesses.count = guesses.count.saturating_add(1);
        guesses.count > GUESSES_A_SECOND
    }
}

/// Requests without the token, in a second that began at `since`. Whoever has the token is never
/// counted, and never kept waiting for the sake of these.
#[derive(Debug)]
struct Guesses {
    since: Instant,
    count: u32,
}

const GUESSES_A_SECOND: u32 = 10;

/// The guard as middleware.
pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    match guard.admit(&parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refusal) => ApiError::from(refusal).into_response(),
    }
}

/// A proxy before us and we must agree where a request ends. `chunked` alone is the one coding that
/// all understand; hyper would also take it after others, which we could not undo anyway.
fn framed_plainly(parts: &Parts) -> Result<(), Refusal> {
    match single(&parts.headers, &TRANSFER_ENCODING) {
        Single::None => Ok(()),
        Single::One(coding) if coding.eq_ignore_ascii_case("chunked") => Ok(()),
        _ => Err(Refusal::OddFraming),
    }
}

/// Whether a request may pass.
///
/// Whoever reaches the unix socket was let in by its file mode: for these the host and the token
/// do not matter, but a browser's headers still do.
pub(crate) fn decide(parts: &Parts, config: &EdgeConfig) -> Result<(), Refusal> {
    let trusted = matches!(parts.extensions.get(), Some(Peer::Unix));
    let host = if trusted { None } else { Some(known_host(parts, config)?) };
    let origin = known_origin(&parts.headers, host.as_ref(), config)?;
    if origin == FromPage::Unknown {
        same_site(parts)?;
    }
    match &config.token {
        Some(token) if !trusted => bearer(&parts.headers, token),
        _ => Ok(()),
    }
}

fn known_host(parts: &Parts, config: &EdgeConfig) -> Result<HostPort, Refusal> {
    let text = match single(&parts.headers, &HOST) {
        Single::One(text) => text,
        Single::None => return Err(Refusal::NoHost("The request has no Host header")),
        Single::Odd => return Err(Refusal::NoHost("The request must have one Host header")),
    };
    let host = HostPort::parse(text).ok_or(Refusal::NoHost("The Host header is not valid"))?;
    let target = parts.uri.authority().map(|target| HostPort::parse(target.as_str()));
    if target.is_some_and(|target| target.as_ref() != Some(&host)) {
        return Err(Refusal::NoHost("The request target and the Host header differ"));
    }
    if config.answers_to(&host) { Ok(host) } else { Err(Refusal::ForeignHost(text.to_owned())) }
}

/// What the `Origin` header says about the page that sent a request.
#[derive(Debug, PartialEq, Eq)]
enum FromPage {
    /// It is one of ours.
    Allowed,
    /// Nothing.
    Unknown,
}

fn known_origin(
    headers: &HeaderMap,
    host: Option<&HostPort>,
    config: &EdgeConfig,
) -> Result<FromPage, Refusal> {
    let text = match single(headers, &ORIGIN) {
        Single::One(text) => text,
        Single::None => return Ok(FromPage::Unknown),
        Single::Odd => return Err(Refusal::ForeignOrigin("several".to_owned())),
    };
    let allowed = Origin::parse(text).is_some_and(|origin| {
        let web = matches!(origin.scheme.as_str(), "http" | "https");
        let same = web && host == Some(&origin.host);
        let own = origin.scheme == "http" && config.is_own(&origin.host, 80);
        same || own || config.allowed_origins.iter().any(|allowed| allowed.0 == origin)
    });
    if allowed { Ok(FromPage::Allowed) } else { Err(Refusal::ForeignOrigin(text.to_owned())) }
}

/// A browser tells whether the page that sent a request is of this origin. Following a link or
/// typing an address is not the doing of a page that could read or change anything.
fn same_site(parts: &Parts) -> Result<(), Refusal> {
    let from = match single(&parts.headers, &SEC_FETCH_SITE) {
        Single::None | Single::One("same-origin" | "none") => return Ok(()),
        Single::One(from) => from,
        Single::Odd => return Err(Refusal::CrossSite("several".to_owned())),
    };
    let is = |name, value| matches!(single(&parts.headers, name), Single::One(is) if is == value);
    let reads = parts.method == Method::GET || parts.method == Method::HEAD;
    let followed = reads
        && is(&SEC_FETCH_MODE, "navigate")
        && (is(&SEC_FETCH_DEST, "document") || !parts.headers.contains_key(&SEC_FETCH_DEST));
    if followed { Ok(()) } else { Err(Refusal::CrossSite(from.to_owned())) }
}

fn bearer(headers: &HeaderMap, token: &Token) -> Result<(), Refusal> {
    let Single::One(text) = single(headers, &AUTHORIZATION) else {
        return Err(Refusal::NoToken);
    };
    let (scheme, presented) = text.split_once(' ').unwrap_or((text, ""));
    // The digests are compared before the scheme is looked at, so that every refusal takes as long.
    let matches = token.matches(presented.trim_start_matches(' ').as_bytes());
    if matches && scheme.eq_ignore_ascii_case("bearer") { Ok(()) } else { Err(Refusal::NoToken) }
}

/// A header that may be there once.
enum Single<'a> {
    None,
    One(&'a str),
    Odd,
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Single::None,
        (Some(value), None) => value.to_str().map_or(Single::Odd, Single::One),
        (Some(_), Some(_)) => Single::Odd,
    }
}

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
static SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

#[cfg(test)]
mod tests;
