use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::name::ServiceName;

/// Asks a server that reads one request, answers with `answer` and hangs up only if that is empty;
/// gives back what it was asked. The probe must close the connection.
async fn ask(answer: &str, path: &str) -> (Health, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback socket");
    let port = listener.local_addr().expect("it is bound").port();
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("the probe connects");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.expect("the probe sends a whole request"));
        }
        // The probe may have seen enough and hung up.
        let _ = stream.write_all(answer.as_bytes()).await;
        if !answer.is_empty() {
            let rest = timeout(Duration::from_secs(60), stream.read_u8()).await;
            assert!(rest.expect("the probe closes its connection").is_err());
        }
        String::from_utf8(request).expect("the request is text")
    };
    let target = target(&format!("http://me:p%40ss@localhost:{port}{path}"));
    let probe = HttpProbe::new();
    tokio::join!(probe.probe(&target), server)
}

fn target(endpoint: &str) -> ProbeTarget {
    let mut target = ProbeTarget::new(ServiceName::new("chat").expect("a good name"));
    target.endpoint = Some(endpoint.to_owned());
    target.timeout = Duration::from_secs(60);
    target
}

#[tokio::test]
async fn the_expected_status_is_healthy() {
    let (health, request) =
        ask("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "/health?a=1").await;
    assert_eq!(health, Health::Healthy);
    assert!(request.starts_with("GET /health?a=1 HTTP/1.1\r\n"), "{request}");
    let agent = concat!("user-agent: service-nanny/", env!("CARGO_PKG_VERSION"));
    for line in ["authorization: Basic bWU6cEBzcw==", "connection: close", agent] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
    }
    assert!(request.contains("\r\nhost: localhost:") && !request.contains("referer"), "{request}");
}

#[tokio::test]
async fn d6_another_status_is_unhealthy_and_the_reason_tells_no_secret() {
    let (health, _) = ask("HTTP/1.1 503 Busy\r\n\r\n", "/health?token=abc").await;
    let Health::Unhealthy { reason } = health else { panic!("{health:?}") };
    assert!(reason.ends_with("/health answered HTTP 503 Service Unavailable, not 200"), "{reason}");
    assert!(!reason.contains("abc") && !reason.contains("ss"), "{reason}");
}

#[tokio::test]
async fn d6_a_redirect_is_unhealthy_and_not_followed() {
    let answer = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/?secret\r\n\r\n";
    let (health, _) = ask(answer, "/").await;
    let Health::Unhealthy { reason } = health else { panic!("{health:?}") };
    assert!(
        reason.contains("redirects (HTTP 302 Found)") && !reason.contains("169.254"),
        "{reason}"
    );
}

#[tokio::test]
async fn d8_the_body_is_not_waited_for() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nx";
    assert_eq!(ask(answer, "/").await.0, Health::Healthy);
}

#[tokio::test]
async fn d8_a_head_without_end_is_cut_off() {
    let answer = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1 << 20));
    let health = ask(&answer, "/").await.0;
    assert!(matches!(health, Health::Unhealthy { .. }), "{health:?}");
}

#[tokio::test]
async fn what_is_not_http_is_unhealthy() {
    let health = ask("SSH-2.0-OpenSSH_9.2\r\n\r\n", "/").await.0;
    assert!(matches!(health, Health::Unhealthy { .. }), "{health:?}");
}

#[tokio::test]
async fn hanging_up_is_unreachable() {
    let health = ask("", "/").await.0;
    assert!(matches!(health, Health::Unreachable { .. }), "{health:?}");
}

#[tokio::test]
async fn silence_is_unreachable_once_the_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(&format!("http://{}/", listener.local_addr().unwrap()));
    target.timeout = Duration::from_millis(50);
    let health = HttpProbe::new().probe(&target).await;
    let Health::Unreachable { reason } = health else { panic!("{health:?}") };
    assert!(reason.ends_with("did not answer within 50ms"), "{reason}");
}

#[tokio::test]
async fn d8_a_drip_is_cut_off_once_the_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(&format!("http://{}/", listener.local_addr().unwrap()));
    target.timeout = Duration::from_millis(50);
    let probe = HttpProbe::new();
    let drip = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.unwrap();
        while stream.write_all(b"y").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (health, ()) = tokio::join!(probe.probe(&target), drip);
    assert!(matches!(health, Health::Unreachable { .. }), "{health:?}");
}

#[tokio::test]
async fn d6_a_closed_port_is_unreachable_and_the_reason_tells_no_secret() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let target = target(&format!("http://me:secret@{address}/?secret"));
    let reason = format!("http://{address}/ refuses connections");
    assert_eq!(HttpProbe::new().probe(&target).await, Health::Unreachable { reason });
}

#[tokio::test]
async fn d6_what_is_no_url_is_unreachable_and_the_reason_tells_no_secret() {
    let health = HttpProbe::new().probe(&target("http://me:secret@[::1%25]/?secret")).await;
    let Health::Unreachable { reason } = health else { panic!("{health:?}") };
    assert!(reason.contains("cannot be asked") && !reason.contains("secret"), "{reason}");
}

#[cfg(not(feature = "https-probe"))]
#[tokio::test]
async fn https_without_the_feature_is_unreachable_and_says_why() {
    let health = HttpProbe::new().probe(&target("https://localhost/")).await;
    let Health::Unreachable { reason } = health else { panic!("{health:?}") };
    assert!(reason.contains("https-probe"), "{reason}");
}

#[cfg(feature = "https-probe")]
#[tokio::test]
async fn what_is_not_tls_is_unhealthy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(&format!("https://{}/", listener.local_addr().unwrap()));
    let probe = HttpProbe::new();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    };
    let (health, _stream) = tokio::join!(probe.probe(&target), server);
    let Health::Unhealthy { reason } = health else { panic!("{health:?}") };
    assert!(reason.starts_with("TLS at https://127.0.0.1:"), "{reason}");
}
