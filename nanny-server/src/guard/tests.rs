//! The guard's decisions, as tables (rows G1 to G7 and G15 of the faults).

use axum::http::Request;

use super::*;

fn parts(request: &str) -> Parts {
    let mut lines = request.split('\n');
    let (method, target) = lines.next().unwrap_or_default().split_once(' ').unwrap_or_default();
    let mut builder = Request::builder().method(method).uri(target);
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or_default();
        builder = builder.header(name, value);
    }
    builder.body(()).expect("the tables hold well-formed requests").into_parts().0
}

fn loopback() -> EdgeConfig {
    EdgeConfig::new(([127, 0, 0, 1], 8080).into())
}

fn named() -> EdgeConfig {
    loopback()
        .allowing_host("nanny.lan".parse().expect("a host"))
        .allowing_host("proxy.lan:9000".parse().expect("a host and port"))
        .allowing_origin("http://localhost:3000".parse().expect("an origin"))
}

#[test]
fn g1_g2_only_the_servers_own_names_pass() {
    for host in ["localhost:8080", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080"] {
        assert_eq!(decide(&parts(&format!("GET /\nhost: {host}")), &loopback()), Ok(()), "{host}");
    }
    for host in [
        "evil.test",
        "evil.test:8080",
        "localhost",
        "localhost:80",
        "localhost.:8080",
        "localhost.evil.test:8080",
        "127.1:8080",
        "127.0.0.2:8080",
        "0.0.0.0:8080",
        "[::ffff:127.0.0.1]:8080",
        "nanny.lan",
    ] {
        let refusal = decide(&parts(&format!("GET /\nhost: {host}")), &loopback());
        assert_eq!(refusal, Err(Refusal::ForeignHost(host.to_owned())));
    }
}

#[test]
fn g2_an_odd_host_header_is_refused() {
    for request in [
        "GET /",
        "GET /\nhost: localhost:8080\nhost: localhost:8080",
        "GET /\nhost: local host",
        "GET /\nhost: ",
        "GET /\nhost: @localhost:8080",
        "GET /\nhost: user@localhost:8080",
        "GET /\nhost: localhost:8080/",
        "GET http://evil.test/\nhost: localhost:8080",
        "GET http://localhost:8081/\nhost: localhost:8080",
    ] {
        let refusal = decide(&parts(request), &loopback());
        assert!(matches!(refusal, Err(Refusal::NoHost(_))), "{request:?}: {refusal:?}");
    }
    let absolute = "GET http://localhost:8080/health\nhost: localhost:8080";
    assert_eq!(decide(&parts(absolute), &loopback()), Ok(()));
}

#[test]
fn a_port_may_be_left_out_where_it_is_the_default() {
    let at_80 = EdgeConfig::new(([127, 0, 0, 1], 80).into());
    assert_eq!(decide(&parts("GET /\nhost: localhost"), &at_80), Ok(()));
}

#[test]
fn allowed_hosts_pass_at_their_ports() {
    for (host, passes) in [
        ("nanny.lan", true),
        ("nanny.lan:8080", true),
        ("nanny.lan:9000", false),
        ("proxy.lan:9000", true),
        ("proxy.lan", false),
        ("sub.nanny.lan", false),
    ] {
        let decision = decide(&parts(&format!("GET /\nhost: {host}")), &named());
        assert_eq!(decision.is_ok(), passes, "{host}");
    }
}

#[test]
fn g3_g4_pages_of_other_origins_are_refused() {
    for (origin, passes) in [
        ("http://localhost:8080", true),
        ("http://127.0.0.1:8080", true),
        ("https://localhost:8080", true), // the very host that was asked for, behind a TLS proxy
        ("http://localhost:3000", true),
        ("https://localhost:3000", false),
        ("http://localhost", false),
        ("http://localhost:8188", false),
        ("http://evil.test", false),
        ("http://evil.test:8080", false),
        ("http://nanny.lan", false),
        ("null", false),
        ("file://", false),
        ("chrome-extension://localhost:8080", false),
    ] {
        for method in ["GET", "POST"] {
            let request = format!("{method} /\nhost: localhost:8080\norigin: {origin}");
            assert_eq!(decide(&parts(&request), &named()).is_ok(), passes, "{method} {origin}");
        }
    }
    let twice = "GET /\nhost: localhost:8080\norigin: http://localhost:8080\norigin: null";
    assert!(decide(&parts(twice), &named()).is_err());
    let proxied = "POST /\nhost: nanny.lan\norigin: https://nanny.lan";
    assert_eq!(decide(&parts(proxied), &named()), Ok(()));
}

#[test]
fn g4_requests_that_a_browser_calls_cross_site_are_refused() {
    for (request, passes) in [
        ("POST /\nsec-fetch-site: same-origin", true),
        ("GET /\nsec-fetch-site: none", true),
        ("GET /\nsec-fetch-site: cross-site", false),
        ("GET /\nsec-fetch-site: same-site", false),
        ("GET /\nsec-fetch-site: whatever", false),
        ("GET /\nsec-fetch-site: cross-site\nsec-fetch-mode: no-cors", false),
        ("GET /\nsec-fetch-site: cross-site\nsec-fetch-mode: navigate", true),
        ("HEAD /\nsec-fetch-site: cross-site\nsec-fetch-mode: navigate", true),
        ("POST /\nsec-fetch-site: cross-site\nsec-fetch-mode: navigate", false),
        (
            "GET /\nsec-fetch-site: cross-site\nsec-fetch-mode: navigate\nsec-fetch-dest: iframe",
            false,
        ),
        (
            "GET /\nsec-fetch-site: cross-site\nsec-fetch-mode: navigate\nsec-fetch-dest: document",
            true,
        ),
        ("POST /\nsec-fetch-site: same-site\norigin: http://localhost:3000", true),
        (
            "GET /\nsec-fetch-site: none\nsec-fetch-site: cross-site\nsec-fetch-mode: navigate",
            false,
        ),
    ] {
        let decision = decide(&parts(&format!("{request}\nhost: localhost:8080")), &named());
        assert_eq!(decision.is_ok(), passes, "{request}");
    }
}

#[test]
fn g6_g7_only_the_token_in_its_header_passes() {
    let token = Token::new("0123456789abcdef").expect("a token");
    let config = loopback().with_token(token);
    for (header, passes) in [
        ("authorization: Bearer 0123456789abcdef", true),
        ("authorization: bearer 0123456789abcdef", true),
        ("authorization: Bearer 0123456789abcde", false),
        ("authorization: Bearer 0123456789abcdef0", false),
        ("authorization: Bearer", false),
        ("authorization: Bearer ", false),
        ("authorization: Basic 0123456789abcdef", false),
        ("authorization: 0123456789abcdef", false),
        ("authorization: Bearer 0123456789abcdef\nauthorization: Bearer x", false),
        ("cookie: token=0123456789abcdef", false),
        ("accept: */*", false),
    ] {
        let decision = decide(&parts(&format!("GET /\nhost: localhost:8080\n{header}")), &config);
        assert_eq!(decision, if passes { Ok(()) } else { Err(Refusal::NoToken) }, "{header}");
    }
    let in_query = "GET /?token=0123456789abcdef\nhost: localhost:8080";
    assert_eq!(decide(&parts(in_query), &config), Err(Refusal::NoToken));
}

#[test]
fn a_stranger_learns_nothing_about_the_token() {
    let config = loopback().with_token(Token::new("t").expect("a token"));
    let request = "GET /\nhost: evil.test\nauthorization: Bearer t";
    assert!(matches!(decide(&parts(request), &config), Err(Refusal::ForeignHost(_))));
}

#[test]
fn the_unix_socket_needs_neither_host_nor_token_but_no_page_may_use_it() {
    let config = loopback().with_token(Token::new("t").expect("a token"));
    for (request, passes) in [
        ("GET /", true),
        ("POST /\nhost: whatever", true),
        ("POST /\norigin: http://evil.test", false),
        ("POST /\nsec-fetch-site: cross-site", false),
    ] {
        let mut parts = parts(request);
        parts.extensions.insert(Peer::Unix);
        assert_eq!(decide(&parts, &config).is_ok(), passes, "{request}");
    }
}
