//! On real sockets: what the accept loop allows and for how long.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use nanny_server::{Limits, Listener, Token, app, serve_within};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::api::{Api, edge};

/// A server on a port of its own.
pub(crate) struct Server {
    pub(crate) api: Api,
    pub(crate) address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(limits: Limits) -> Self {
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = listener.address().expect("a TCP listener has an address");
        let api = Api::new().await;
        let mut edge = edge();
        edge.listen = address;
        let (shutdown, closed) = oneshot::channel();
        let closed = async move {
            let _ = closed.await;
        };
        let app = app(api.nanny.clone(), edge);
        let serving = tokio::spawn(serve_within(limits, listener, app, closed));
        Self { api, address, shutdown, serving }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    pub(crate) async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        ask(&mut stream, &request.replace("HOST", &self.address.to_string())).await
    }

    pub(crate) async fn stop(self) {
        let _ = self.shutdown.send(());
        self.serving.await.expect("the server ends in order");
    }
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    // The server may have closed the connection before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    rest(stream).await
}

/// Everything until the server closes the connection; a reset counts as closing.
pub(crate) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

fn impatient() -> Limits {
    let mut limits = Limits::default();
    limits.header_timeout = Duration::from_millis(100);
    limits.drain = Duration::from_millis(300);
    limits
}

pub(crate) const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn requests_are_answered() {
    let server = Server::start(Limits::default()).await;
    let answer = server.ask(HEALTH).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\"status\":\"healthy\""), "{answer}");
    let problem = server.ask(&HEALTH.replace("/health", "/nope")).await;
    assert!(problem.starts_with("HTTP/1.1 404 Not Found\r\n"), "{problem}");
    assert!(problem.ends_with("\"code\":\"not_found\"}"), "{problem}");
    server.stop().await;
}

#[tokio::test]
async fn i1_who_sends_no_header_in_time_is_closed() {
    let server = Server::start(impatient()).await;
    for beginning in ["", "GET /health HT", "GET /health HTTP/1.1\r\nhost: ", "PRI * HTTP/2.0\r\n"]
    {
        let answer = server.ask(beginning).await;
        assert!(!answer.contains("200"), "{beginning:?} was answered with {answer}");
    }
    assert!(server.ask(HEALTH).await.contains("200 OK"));
    server.stop().await;
}

#[tokio::test]
async fn i1_an_idle_connection_is_closed() {
    let server = Server::start(impatient()).await;
    let kept_alive = HEALTH.replace("connection: close\r\n", "");
    assert!(server.ask(&kept_alive).await.contains("200 OK"));
    server.stop().await;
}

/// So few connections, which may idle for ever.
fn crowded(connections: usize) -> Limits {
    let mut limits = Limits::default();
    limits.connections = connections;
    limits.header_timeout = Duration::from_secs(3600);
    limits
}

#[tokio::test]
async fn i2_who_idles_makes_way_for_who_asks() {
    let server = Server::start(crowded(100)).await;
    let mut idle = Vec::new();
    for number in 0..300 {
        let mut stream = server.connect().await;
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET /health HTTP/1.1\r\nhost: ").await.unwrap(),
            _ => {
                let request = format!("GET /health HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
                stream.write_all(request.as_bytes()).await.unwrap();
            }
        }
        idle.push(stream);
    }
    for _ in 0..10 {
        let answer = server.ask(HEALTH).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    // The first made way, and got what they had asked for; the last are still there.
    assert_eq!(rest(&mut idle[0]).await, "");
    assert!(rest(&mut idle[2]).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let last = idle.last_mut().expect("there are 300");
    let request =
        format!("GET /services HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", server.address);
    assert!(ask(last, &request).await.contains("\"total\":3"));
    drop(idle);
    server.stop().await;
}

#[tokio::test]
async fn i2_who_is_being_answered_does_not_make_way() {
    let server = Server::start(crowded(1)).await;
    server.api.engine.start_takes("web-main-1", Duration::from_millis(300));
    let mut busy = server.connect().await;
    let request = format!("POST /services/web/start HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
    busy.write_all(request.as_bytes()).await.unwrap();
    server.api.nanny.wait_until(starting).await.unwrap();
    let answer = server.ask(HEALTH).await;
    assert!(answer.contains("200 OK"), "{answer}");
    let answer = rest(&mut busy).await;
    assert!(answer.contains("started successfully"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn i2_who_waited_for_a_place_is_given_the_time_to_ask() {
    let server = Server::start(crowded(1)).await;
    server.api.engine.start_takes("web-main-1", Duration::from_millis(300));
    let mut busy = server.connect().await;
    let request = "POST /services/web/start HTTP/1.1\r\nhost: HOST\r\nconnection: close\r\n\r\n";
    let request = request.replace("HOST", &server.address.to_string());
    busy.write_all(request.as_bytes()).await.unwrap();
    server.api.nanny.wait_until(starting).await.unwrap();
    let mut next = server.connect().await;
    assert!(rest(&mut busy).await.contains("started successfully"));
    let closed = tokio::time::timeout(Duration::from_millis(300), next.read_u8()).await;
    assert!(closed.is_err(), "it has not even asked: {closed:?}");
    let answer = ask(&mut next, &HEALTH.replace("HOST", &server.address.to_string())).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    server.stop().await;
}

fn starting(now: &nanny_lib::Snapshot) -> bool {
    now.services.values().any(|service| service.status == nanny_lib::Status::Starting)
}

#[tokio::test]
async fn i4_bad_framing_and_endless_headers_are_refused() {
    let server = Server::start(Limits::default()).await;
    for (headers, status) in [
        ("content-length: 1\r\ncontent-length: 2\r\n".to_owned(), "400"),
        ("content-length: +1\r\n".to_owned(), "400"),
        ("x: y\r\n".repeat(200), "431"),
        (format!("x: {}\r\n", "y".repeat(1_000_000)), "431"),
    ] {
        let request = format!("POST /rediscover HTTP/1.1\r\nhost: HOST\r\n{headers}\r\nxx");
        let answer = server.ask(&request).await;
        let refused = answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}"));
        assert!(refused, "{headers:.50}: {answer}");
    }
    let old = server.ask("GET /health HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 400"), "{old}");
    server.stop().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_the_request_under_way() {
    let server = Server::start(Limits::default()).await;
    server.api.engine.start_takes("web-main-1", Duration::from_millis(300));
    let mut stream = server.connect().await;
    let request = format!("POST /services/web/start HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    server.api.nanny.wait_until(starting).await.unwrap();
    server.stop().await;
    let answer = rest(&mut stream).await;
    assert!(answer.contains("started successfully"), "{answer}");
}

#[tokio::test]
async fn a5_who_still_waits_when_the_nanny_ends_is_told_so() {
    let server = Server::start(Limits::default()).await;
    server.api.engine.start_takes("web-main-1", Duration::from_secs(3600));
    let begin = async |path: &str, rest: &str| {
        let mut stream = server.connect().await;
        let request = format!("POST {path} HTTP/1.1\r\nhost: {}\r\n{rest}", server.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let mut start = begin("/services/web/start", "\r\n").await;
    let mut half = begin("/rediscover", "content-length: 9\r\n\r\n{").await;
    server.api.nanny.wait_until(starting).await.unwrap();
    // One more round trip, so that the half request is under way.
    server.ask(HEALTH).await;
    server.api.nanny.shutdown().await;
    server.stop().await;
    for stream in [&mut start, &mut half] {
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("\"code\":\"shutting_down\"}"), "{answer}");
    }
}

#[tokio::test]
async fn l4_no_connection_can_block_a_shutdown() {
    let server = Server::start(impatient()).await;
    server.api.engine.start_takes("web-main-1", Duration::from_secs(3600));
    let mut waiting = server.connect().await;
    let request = format!("POST /services/web/start HTTP/1.1\r\nhost: {}\r\n\r\n", server.address);
    waiting.write_all(request.as_bytes()).await.unwrap();
    server.api.nanny.wait_until(starting).await.unwrap();
    let mut silent = server.connect().await;
    server.stop().await;
    assert_eq!(rest(&mut waiting).await, "");
    assert_eq!(rest(&mut silent).await, "");
}

#[tokio::test]
async fn g16_a_unix_socket_needs_no_token_but_keeps_pages_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nanny.sock");
    let listener = Listener::unix(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let api = Api::new().await;
    let app = app(api.nanny.clone(), edge().with_token(Token::new("secret").unwrap()));
    let serving = tokio::spawn(serve_within(impatient(), listener, app, std::future::pending()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let answer = ask(&mut stream, HEALTH).await;
    assert!(answer.contains("200 OK"), "{answer}");
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let forged = HEALTH.replace("connection:", "origin: http://evil.test\r\nconnection:");
    assert!(ask(&mut stream, &forged).await.contains("403 Forbidden"));
    serving.abort();
}

#[tokio::test]
async fn g16_a_unix_socket_is_closed_to_other_users() {
    use std::os::unix::fs::MetadataExt as _;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        crate::binary::not_tested("only root can act as another user");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("nanny.sock");
    let _listener = Listener::unix(&path).unwrap();
    let connect = "socket(S, AF_UNIX, SOCK_STREAM, 0); \
                   print connect(S, sockaddr_un($ARGV[0])) ? 'in' : $!";
    let tried = |user: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(user).args(["perl", "-MSocket", "-e", connect]).arg(&path);
        let output = command.env("LC_ALL", "C").output().expect("Debian has both");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(tried(&["--reuid=65534", "--regid=65534", "--clear-groups"]), "Permission denied");
    assert_eq!(tried(&["--reuid=65534", "--regid=0", "--clear-groups"]), "in", "the group may");
}
