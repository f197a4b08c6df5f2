//! What comes over the network.

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use nanny_server::{EdgeConfig, Token, fuzzing};

/// A request's head, as `GET /health` and a header a line: the guard lets in only what a list of
/// all that is allowed, written without it, allows as well.
pub fn guard(data: &[u8]) {
    let Some(parts) = head(data) else { return };
    let edge = EdgeConfig::new(([127, 0, 0, 1], 8080).into())
        .allowing_host("nanny.lan".parse().expect("a host"))
        .allowing_host("proxy.lan:9000".parse().expect("a host and port"))
        .allowing_origin("http://localhost:3000".parse().expect("an origin"));
    let stranger = fuzzing::guard_admits(&parts, &edge);
    let bearer = fuzzing::guard_admits(&parts, &edge.with_token(Token::new(TOKEN).expect("one")));
    if stranger {
        check_names(&parts);
    }
    if bearer {
        assert!(stranger, "the token opens what is closed without one: {parts:?}");
        let given = only(&parts, "authorization").expect("admitted without it");
        let (scheme, token) = given.split_once(' ').expect("admitted without a scheme");
        assert!(scheme.eq_ignore_ascii_case("bearer") && token.trim_start() == TOKEN, "{given}");
    }
}

const TOKEN: &str = "t0ken";

const HOSTS: [&str; 6] = [
    "localhost:8080",
    "127.0.0.1:8080",
    "[::1]:8080",
    "nanny.lan",
    "nanny.lan:8080",
    "proxy.lan:9000",
];

/// Panics unless the names in an admitted request are ours, and no other page's.
fn check_names(parts: &Parts) {
    let host = only(parts, "host").expect("admitted without a host").to_ascii_lowercase();
    assert!(HOSTS.contains(&&*host), "admitted as {host}");
    if let Some(target) = parts.uri.authority() {
        assert_eq!(target.as_str().to_ascii_lowercase(), host, "the target is another");
    }
    if parts.headers.contains_key("origin") {
        let origin = only(parts, "origin").expect("two origins").to_ascii_lowercase();
        let own = HOSTS[..3].iter().map(|host| format!("http://{host}"));
        let same = ["http", "https"].map(|scheme| format!("{scheme}://{host}"));
        let mut allowed = own.chain(same).chain(["http://localhost:3000".to_owned()]);
        assert!(allowed.any(|allowed| allowed == origin), "admitted from {origin}");
    } else if parts.headers.contains_key("sec-fetch-site") {
        let site = only(parts, "sec-fetch-site").expect("two sites");
        let reads = parts.method == Method::GET || parts.method == Method::HEAD;
        let navigates = reads && only(parts, "sec-fetch-mode") == Some("navigate");
        assert!(matches!(site, "same-origin" | "none") || navigates, "admitted from {site}");
    }
}

/// The value of a header that is there once.
fn only<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    let mut values = parts.headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn head(data: &[u8]) -> Option<Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, target) = first.split_once(' ')?;
    let uri: Uri = target.parse().ok()?;
    let mut request = Request::builder().method(method).uri(uri).body(()).ok()?;
    for line in lines.take(100) {
        let end = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..end]).ok()?;
        let value = HeaderValue::from_bytes(line[end + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request.into_parts().0)
}

/// A request's target, then its body: whatever is wrong with either is said in few words.
pub fn request(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (target, body) = data.split_at(end);
    let mut told = fuzzing::read_body(body.strip_prefix(b"\n").unwrap_or(body));
    if let Ok(uri) = Uri::try_from(target) {
        told.extend(fuzzing::read_query(&uri));
    }
    for told in told {
        assert!(told.len() <= 20 * 1024 && !told.is_empty(), "{} bytes", told.len());
    }
}
