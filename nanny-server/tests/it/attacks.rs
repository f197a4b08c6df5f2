//! Attacks, byte by byte on a real socket: whatever comes, nobody's service is started by it.

use std::time::Duration;

use nanny_server::Limits;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::socket::{HEALTH, Server, rest};

/// What an attacker wants done.
const START: &str = "POST /services/web/start HTTP/1.1\r\nhost: HOST\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// One that waits neither long for the rest of a request nor for the next one.
async fn server() -> Server {
    let mut limits = Limits::default();
    limits.header_timeout = Duration::from_millis(500);
    Server::start(limits).await
}

impl Server {
    /// Sends each attack on a connection of its own and answers what came back, until the end.
    async fn attacked(&self, attacks: impl IntoIterator<Item = String>) -> Vec<(String, String)> {
        let mut under_way = JoinSet::new();
        for attack in attacks {
            let bytes = attack.replace("HOST", &self.address.to_string());
            let mut stream = self.connect().await;
            under_way.spawn(async move {
                // The server may have closed the connection before it has read everything.
                let _ = stream.write_all(bytes.as_bytes()).await;
                (attack, rest(&mut stream).await)
            });
        }
        under_way.join_all().await
    }

    /// Nothing was started, others are served, and what was attempted would have worked.
    async fn ends_unharmed(self) {
        assert_eq!(self.api.engine.runs("web-main-1"), 0, "an attack has started it");
        assert!(self.ask(HEALTH).await.contains("200 OK"));
        assert!(self.ask(START).await.contains("started successfully"));
        assert_eq!(self.api.engine.runs("web-main-1"), 1);
        self.stop().await;
    }
}

fn with_header(header: &str) -> String {
    START.replace("content-length: 0\r\n", &format!("content-length: 0\r\n{header}\r\n"))
}

#[tokio::test]
async fn g1_g2_who_means_another_host_is_refused() {
    let server = server().await;
    let port = server.address.port();
    let hosts = [
        "evil.test".to_owned(),
        format!("evil.test:{port}"),
        "localhost".to_owned(),
        format!("localhost.:{port}"),
        format!("localhost:0{port}"),
        format!("127.1:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f.0.0.1:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("user@localhost:{port}"),
        format!("localhost:{port}@evil.test"),
        format!("localhost:{port},evil.test"),
        format!("localhost:{port} evil.test"),
        format!("localhost%00.evil.test:{port}"),
        "[::1".to_owned(),
        String::new(),
        format!("localhost:{port}\r\nhost: evil.test"),
        format!("evil.test\r\nhost: localhost:{port}"),
        format!("localhost:{port}\r\nhost: localhost:{port}"),
        format!("evil.test\r\nx-forwarded-host: localhost:{port}"),
    ];
    let targets = [
        format!("http://evil.test:{port}/services/web/start"),
        "http://evil.test/services/web/start".to_owned(),
        format!("http://user@localhost:{port}/services/web/start"),
        "//evil.test/services/web/start".to_owned(),
    ];
    let attacks = hosts
        .iter()
        .map(|host| START.replace("HOST", host))
        .chain(targets.iter().map(|target| START.replace("/services/web/start", target)))
        .chain([
            START.replace("host: HOST\r\n", ""),
            START.replace("host: HOST\r\n", "").replace("HTTP/1.1", "HTTP/1.0"),
        ]);
    for (attack, answer) in server.attacked(attacks).await {
        assert!(
            answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4"),
            "{attack:?}: {answer}"
        );
    }
    server.ends_unharmed().await;
}

#[tokio::test]
async fn g3_g4_what_a_page_elsewhere_can_send_is_refused() {
    let server = server().await;
    let foreign = [
        "origin: http://evil.test",
        "origin: null",
        "origin: http://localhost",
        "origin: file://",
        "origin: http://HOST.evil.test",
        "origin: http://evil.test\r\norigin: http://HOST",
        "sec-fetch-site: cross-site",
        "sec-fetch-site: same-site\r\nsec-fetch-mode: no-cors",
        "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\nsec-fetch-dest: document",
    ];
    let bodies = [
        "content-length: 0\r\n",
        "content-type: text/plain\r\ncontent-length: 0\r\n",
        "content-type: application/x-www-form-urlencoded\r\ncontent-length: 0\r\n",
        "content-type: multipart/form-data; boundary=x\r\ncontent-length: 0\r\n",
        "",
    ];
    let attacks = foreign.iter().flat_map(|foreign| {
        bodies.iter().map(move |body| with_header(foreign).replace("content-length: 0\r\n", body))
    });
    for (attack, answer) in server.attacked(attacks).await {
        assert!(answer.starts_with("HTTP/1.1 403 "), "{attack:?}: {answer}");
        assert!(answer.contains("\"code\":\"forbidden_origin\""), "{attack:?}: {answer}");
    }
    server.ends_unharmed().await;
}

#[tokio::test]
async fn g5_no_preflight_is_answered_with_a_permission() {
    let server = server().await;
    let paths = ["/", "/services", "/services/web/start", "/rediscover", "/nope", "*"];
    let origins = ["http://evil.test", "null", "http://HOST"];
    let asked = "access-control-request-method: POST\r\naccess-control-request-headers: x-a\r\n\
                 access-control-request-private-network: true";
    let attacks = paths.iter().flat_map(|path| {
        origins.iter().map(move |origin| {
            with_header(&format!("origin: {origin}\r\n{asked}"))
                .replace("POST /services/web/start", &format!("OPTIONS {path}"))
        })
    });
    for (attack, answer) in server.attacked(attacks).await {
        assert!(answer.starts_with("HTTP/1.1 4"), "{attack:?}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control-"), "{attack:?}: {answer}");
    }
    server.ends_unharmed().await;
}

/// Requests that two parsers would end at different places, each with [`START`] where one of them
/// would see a second request.
fn smuggling() -> Vec<String> {
    let post = |headers: &str, body: &str| {
        format!("POST /services/nobody/stop HTTP/1.1\r\nhost: HOST\r\n{headers}\r\n\r\n{body}")
    };
    let length = START.len();
    let framings = [
        "content-length: 0\r\ncontent-length: 5".to_owned(),
        "content-length: 0, 5".to_owned(),
        "content-length: 2, 2".to_owned(),
        "content-length: +0".to_owned(),
        "content-length: -0".to_owned(),
        "content-length: 0x0".to_owned(),
        "content-length: 0 0".to_owned(),
        "content-length:".to_owned(),
        "content-length: 18446744073709551616".to_owned(),
        "content-length : 0".to_owned(),
        "content-length\t: 0".to_owned(),
        " content-length: 0".to_owned(),
        "x: y\r\n content-length: 0".to_owned(),
        "x: a\0b".to_owned(),
        "x: a\rb".to_owned(),
        "x\0y: a".to_owned(),
        ": a".to_owned(),
        "no colon".to_owned(),
        "transfer-encoding: xchunked".to_owned(),
        "transfer-encoding: chunked, identity".to_owned(),
        "transfer-encoding: identity, chunked".to_owned(),
        "transfer-encoding: gzip, chunked".to_owned(),
        "transfer-encoding: chunked, chunked".to_owned(),
        "transfer-encoding: identity".to_owned(),
        "transfer-encoding: \"chunked\"".to_owned(),
        "transfer-encoding: \u{b}chunked".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity".to_owned(),
        "transfer-encoding: identity\r\ntransfer-encoding: chunked".to_owned(),
        "transfer-encoding:\r\n chunked".to_owned(),
        "transfer-encoding : chunked".to_owned(),
        format!("content-length: {length}\r\ntransfer-encoding: chunked"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}"),
    ];
    let chunks = [
        "0x0\r\n\r\n",
        "-0\r\n\r\n",
        "+0\r\n\r\n",
        "\r\n\r\n",
        "0 0\r\n\r\n",
        "0\n\n",
        "10000000000000000\r\n",
        "1\r\naX0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1;\n\r\na\r\n0\r\n\r\n",
    ];
    let lines = [
        "GET /health",
        "GET  /health HTTP/1.1",
        "GET /health HTTP/1.1 HTTP/1.1",
        "GET /health HTTP/9.9",
        "GET /health HTTP/2.0",
        "GET /health http/1.1",
        "GET /health\tHTTP/1.1",
        "GET \0 HTTP/1.1",
        "PRI * HTTP/2.0",
        "\u{16}\u{3}\u{1} \u{2} HTTP/1.1",
    ];
    framings
        .iter()
        .map(|framing| post(framing, &format!("0\r\n\r\n{START}")))
        .chain(
            chunks
                .iter()
                .map(|chunk| post("transfer-encoding: chunked", &format!("{chunk}{START}"))),
        )
        .chain(lines.iter().map(|line| format!("{line}\r\nhost: HOST\r\n\r\n{START}")))
        .chain([post("transfer-encoding: chunked", &format!("0\r\n\r\n{START}"))
            .replace("HTTP/1.1\r\nhost: HOST\r\ntransfer", "HTTP/1.0\r\nhost: HOST\r\ntransfer")])
        .collect()
}

#[tokio::test]
async fn g2_no_second_request_is_smuggled_behind_an_odd_first_one() {
    let server = server().await;
    for (attack, answer) in server.attacked(smuggling()).await {
        let refused = answer.is_empty()
            || answer.starts_with("HTTP/1.1 4")
            || answer.starts_with("HTTP/1.0 4");
        assert!(refused && answer.matches("HTTP/1.").count() <= 1, "{attack:?}: {answer}");
    }
    server.ends_unharmed().await;
}

#[tokio::test]
async fn g2_a_body_that_nobody_reads_is_no_request() {
    let server = server().await;
    let length = START.len();
    let carriers = [
        "GET /health HTTP/1.1\r\nhost: HOST",
        "GET /nope HTTP/1.1\r\nhost: HOST",
        "DELETE /services/web HTTP/1.1\r\nhost: HOST",
        "POST /health HTTP/1.1\r\nhost: HOST",
        "POST /services/web/start HTTP/1.1\r\nhost: evil.test",
        "POST /services/web/start HTTP/1.1\r\nhost: HOST\r\norigin: null",
        "POST /nope HTTP/1.1\r\nhost: HOST\r\nexpect: 100-continue",
        "HEAD /health HTTP/1.1\r\nhost: HOST",
    ];
    let plain =
        carriers.iter().map(|head| format!("{head}\r\ncontent-length: {length}\r\n\r\n{START}"));
    let chunk = format!("{length:x}\r\n{START}\r\n0\r\n\r\n");
    let chunked =
        carriers.iter().map(|head| format!("{head}\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"));
    // HOST is longer once it is written out: the body ends before START does.
    for (attack, answer) in server.attacked(plain.chain(chunked)).await {
        assert!(answer.starts_with("HTTP/1.1 "), "{attack:?}: {answer}");
        assert!(!answer.contains("started"), "{attack:?}: {answer}");
    }
    server.ends_unharmed().await;
}

#[tokio::test]
async fn i4_what_is_too_much_is_refused() {
    let server = server().await;
    let head = "POST /services/web/start HTTP/1.1\r\nhost: HOST\r\n";
    let chunks = format!("10000\r\n{}\r\n", " ".repeat(0x10000)).repeat(17);
    let deep = "[".repeat(100_000);
    let deep_object = r#"{"force":"#.repeat(100_000);
    // Who is still sending when the connection closes may miss the answer.
    let (read, unread) = (false, true);
    for (attack, status, may_miss) in [
        (format!("{head}content-length: 1000000000\r\n\r\n"), 413, read),
        (format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}"), 413, unread),
        (format!("{head}x: {}\r\n\r\n", "y".repeat(300_000)), 431, unread),
        (format!("{head}{}: y\r\n\r\n", "x".repeat(300_000)), 431, unread),
        (format!("{head}{}\r\n", "x: y\r\n".repeat(101)), 431, read),
        (format!("GET /{} HTTP/1.1\r\nhost: HOST\r\n\r\n", "x".repeat(70_000)), 414, unread),
        (format!("{head}content-length: {}\r\n\r\n{deep}", deep.len()), 422, read),
        (format!("{head}content-length: {}\r\n\r\n{deep_object}", deep_object.len()), 422, read),
    ] {
        let [(_, answer)] = &server.attacked([attack.clone()]).await[..] else { unreachable!() };
        let refused = answer.starts_with(&format!("HTTP/1.1 {status} "));
        let refused = refused || (status == 414 && answer.starts_with("HTTP/1.1 431 "));
        let refused = refused || (may_miss && answer.is_empty());
        assert!(refused, "{attack:.80}: {answer}");
    }
    server.ends_unharmed().await;
}

#[tokio::test]
async fn i1_a_body_that_nobody_wants_is_not_waited_for() {
    let server = server().await;
    for head in [
        "POST /nope HTTP/1.1\r\nhost: HOST",
        "POST /services/web/start HTTP/1.1\r\nhost: evil.test",
        "GET /health HTTP/1.1\r\nhost: HOST",
    ] {
        // It never comes; the answer and the end of the connection do.
        let attack = format!("{head}\r\ncontent-length: 1000000000\r\n\r\n{{");
        let [(_, answer)] = &server.attacked([attack]).await[..] else { unreachable!() };
        assert!(answer.starts_with("HTTP/1.1 "), "{head}: {answer}");
    }
    server.ends_unharmed().await;
}

#[tokio::test]
async fn g12_g17_tricks_in_paths_lead_nowhere() {
    let server = server().await;
    let long = "x".repeat(60_000);
    let names = [
        "..",
        ".",
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "web%00",
        "%00",
        "web%0a",
        "web;x=y",
        "web%2fstart",
        "web%5c..",
        "..;",
        "%c0%ae%c0%ae",
        "%ff",
        "%u002e",
        "web ",
        "WEB",
        "w\u{435}b",
        "con",
        "-v",
        "--help",
        "~",
        "$(id)",
        "%24%7bHOME%7d",
        "*",
        &long,
        "%0d%0aset-cookie:a=b",
        "<script>alert(1)<%2fscript>",
    ];
    let mut attacks = Vec::new();
    for name in names {
        for route in ["", "/", "/status", "/status/", "/logs", "/plan"] {
            attacks.push(format!("GET /services/{name}{route} HTTP/1.1"));
        }
        attacks.push(format!("POST /services/{name}/start HTTP/1.1"));
    }
    for target in [
        "//services/web/start",
        "/services//web/start",
        "/services/web//start",
        "/./services/web/start",
        "/services/../services/web/start",
        "/services/web/start/..",
        "/services/web/start?/../x#y",
        "//evil.test/",
        "/\\evil.test/",
        "services/web/start",
        "evil.test:80",
        "/SERVICES/web/start",
        "/services/web/start%20",
        "/services/web/start;",
        "/services/web/start.json",
    ] {
        attacks.push(format!("GET {target} HTTP/1.1"));
        if !target.starts_with("/services/web/start?") {
            attacks.push(format!("POST {target} HTTP/1.1"));
        }
    }
    let attacks = attacks
        .into_iter()
        .map(|line| format!("{line}\r\nhost: HOST\r\nconnection: close\r\n\r\n"));
    for (attack, answer) in server.attacked(attacks).await {
        let status = answer.get(9..12).unwrap_or_default();
        assert!(
            ["307", "400", "404", "405", "414", "431"].contains(&status),
            "{attack:.100}: {answer}"
        );
        assert!(
            !answer.contains("root:") && !answer.to_lowercase().contains("\r\nset-cookie"),
            "{answer}"
        );
        // Where a redirect leads is on this server.
        if let Some((_, place)) = answer.split_once("\r\nlocation: ") {
            assert!(place.starts_with("/services/"), "{attack:.100}: {answer}");
        }
    }
    server.ends_unharmed().await;
}
