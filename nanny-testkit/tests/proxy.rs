//! The fault proxy, between a client and an engine of a few lines.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nanny_testkit::proxy::{Endpoint, Fault, Line, Proxy, Requests};

/// An engine that says in chunks what it was asked, and remembers it.
struct Engine {
    endpoint: Endpoint,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

impl Engine {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let endpoint = Endpoint::Tcp(listener.local_addr().expect("it listens"));
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let theirs = Arc::clone(&asked);
        // Ends with the process: one for each test.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = Arc::clone(&theirs);
                thread::spawn(move || serve(&stream, &asked));
            }
        });
        Self { endpoint, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

/// Requests without a body, each answered by its path in two chunks.
fn serve(mut stream: &TcpStream, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            bytes.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        stream.read_exact(&mut body)?;
        let said = format!("{path}{}", String::from_utf8_lossy(&body));
        asked.lock().expect("nobody panics with it").push(said);
        let chunk = format!("{:x}\r\n{path}\r\n", path.len());
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        write!(stream, "{head}{chunk}{chunk}0\r\n\r\n")?;
        bytes.clear();
    }
}

/// A client with one connection, over a unix socket.
struct Client(UnixStream);

impl Client {
    fn send(&mut self, path: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        write!(self.0, "POST {path} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}")
    }

    /// What comes until the reply's end, or the connection's.
    fn receive(&mut self) -> io::Result<String> {
        let mut said = Vec::new();
        while !said.ends_with(b"0\r\n\r\n") {
            let mut byte = [0];
            if self.0.read(&mut byte)? == 0 {
                break;
            }
            said.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    fn ask(&mut self, path: &str) -> io::Result<String> {
        self.send(path, "")?;
        self.receive()
    }
}

struct House {
    engine: Engine,
    proxy: Proxy,
    socket: PathBuf,
}

impl House {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nanny-proxy-{}-{number}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let engine = Engine::new();
        let proxy = Proxy::start(&Endpoint::unix(&socket), engine.endpoint.clone());
        Self { engine, proxy: proxy.expect("it can listen"), socket }
    }

    fn client(&self) -> Client {
        let stream = UnixStream::connect(&self.socket).expect("it listens");
        stream.set_read_timeout(Some(LONG)).expect("it is a socket");
        Client(stream)
    }
}

/// Whether nothing comes, for a while.
fn is_silent(client: &mut Client) -> bool {
    client.0.set_read_timeout(Some(Duration::from_millis(200))).expect("it is a socket");
    let read = client.0.read(&mut [0]);
    client.0.set_read_timeout(Some(LONG)).expect("it is a socket");
    read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

fn until(what: impl Fn() -> bool) {
    for _ in 0..2000 {
        if what() {
            return;
        }
        #[expect(clippy::disallowed_methods, reason = "another thread is waited for")]
        thread::sleep(Duration::from_millis(10));
    }
    panic!("it never happens");
}

const WHOLE: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                     2\r\n/a\r\n2\r\n/a\r\n0\r\n\r\n";

#[test]
fn without_faults_it_is_not_noticed() {
    let house = House::new();
    let mut client = house.client();
    for _ in 0..3 {
        assert_eq!(client.ask("/a").unwrap(), WHOLE);
    }
    client.send("/a", "body").unwrap();
    assert_eq!(client.receive().unwrap(), WHOLE);
    assert_eq!(house.engine.asked(), ["/a", "/a", "/a", "/abody"]);
    assert_eq!(house.proxy.requests(), ["POST /a"; 4]);
    assert_eq!(house.proxy.connections(), 1);
}

#[test]
fn b8_a_reply_is_lost_after_the_request_was_carried_out() {
    let house = House::new();
    let lost = house.proxy.once(Requests::new("POST", "/x/*/start"), Fault::LoseReply);
    let mut client = house.client();
    client.ask("/other").unwrap();
    assert_eq!(client.ask("/v1.41/x/1/start?a=b").unwrap_or_default(), "");
    assert_eq!(lost.count(), 1);
    assert_eq!(house.engine.asked().len(), 2);
    assert!(!house.client().ask("/x/1/start").unwrap().is_empty(), "once is once");
}

#[test]
fn b9_what_comes_late_comes_though_its_client_has_gone() {
    let house = House::new();
    house.proxy.once(Requests::any(), Fault::Late(Duration::from_millis(200)));
    let mut client = house.client();
    client.send("/a", "").unwrap();
    client.0.shutdown(Shutdown::Both).unwrap();
    until(|| house.engine.asked() == ["/a"]);
}

#[test]
fn a_reply_that_is_held_comes_in_the_end() {
    let house = House::new();
    let held = house.proxy.once(Requests::any(), Fault::HoldReply(Duration::from_secs(5)));
    let mut client = house.client();
    client.send("/a", "").unwrap();
    until(|| held.count() == 1);
    assert_eq!(house.engine.asked(), ["/a"]);
    assert!(is_silent(&mut client));
    assert_eq!(client.receive().unwrap(), WHOLE);
}

#[test]
fn what_is_swallowed_reaches_nobody() {
    let house = House::new();
    let swallowed = house.proxy.always(Requests::any(), Fault::Swallow);
    let mut client = house.client();
    client.send("/a", "").unwrap();
    until(|| swallowed.count() == 1);
    assert!(is_silent(&mut client));
    assert!(house.engine.asked().is_empty());
    house.proxy.clear();
    house.client().ask("/b").unwrap();
    assert_eq!(house.engine.asked(), ["/b"]);
}

#[test]
fn a_request_that_is_refused_is_not_carried() {
    let house = House::new();
    house.proxy.once(Requests::any(), Fault::Refuse);
    assert_eq!(house.client().ask("/a").unwrap_or_default(), "");
    assert!(house.engine.asked().is_empty());
}

#[test]
fn a_reply_can_be_cut_and_sliced() {
    let house = House::new();
    house.proxy.once(Requests::any(), Fault::CutReply(20));
    assert_eq!(house.client().ask("/a").unwrap(), WHOLE[..20]);
    house.proxy.once(Requests::any(), Fault::SliceReply(1));
    assert_eq!(house.client().ask("/a").unwrap(), WHOLE);
}

#[test]
fn b12_chunks_can_come_twice_or_never() {
    let house = House::new();
    house.proxy.once(Requests::any(), Fault::RepeatChunks);
    let twice = house.client().ask("/a").unwrap();
    assert_eq!(twice.matches("2\r\n/a\r\n").count(), 4, "{twice}");
    assert!(twice.ends_with("0\r\n\r\n"), "{twice}");

    let lost = house.proxy.once(Requests::any(), Fault::LoseChunks);
    let mut client = house.client();
    client.send("/a", "").unwrap();
    until(|| lost.count() == 1);
    let mut head = [0; 47];
    client.0.read_exact(&mut head).unwrap();
    assert_eq!(head, WHOLE.as_bytes()[..47]);
    assert!(is_silent(&mut client));
}

#[test]
fn a_line_that_is_refused_comes_back() {
    let house = House::new();
    let mut open = house.client();
    open.ask("/a").unwrap();
    house.proxy.line(Line::Refuse);
    until(|| UnixStream::connect(&house.socket).is_err());
    assert_eq!(open.ask("/a").unwrap_or_default(), "", "what was open is closed");
    house.proxy.line(Line::Open);
    until(|| UnixStream::connect(&house.socket).is_ok());
    assert_eq!(house.client().ask("/a").unwrap(), WHOLE);
}

#[test]
fn b13_who_is_hung_up_on_is_counted() {
    let house = House::new();
    house.proxy.line(Line::HangUp);
    for _ in 0..5 {
        // It may be hung up on before it has spoken.
        assert_eq!(house.client().ask("/a").unwrap_or_default(), "");
    }
    assert_eq!(house.proxy.connections(), 5);
    assert!(house.engine.asked().is_empty());
}

#[test]
fn b4_in_a_black_hole_nothing_moves_until_it_is_gone() {
    let house = House::new();
    let mut open = house.client();
    open.ask("/a").unwrap();
    house.proxy.line(Line::Blackhole);
    let mut new = house.client();
    for client in [&mut open, &mut new] {
        client.send("/a", "").unwrap();
        assert!(is_silent(client));
    }
    assert_eq!(house.engine.asked().len(), 1);
    house.proxy.line(Line::Open);
    for client in [&mut open, &mut new] {
        assert_eq!(client.receive().unwrap(), WHOLE);
    }
}

#[test]
fn a_cut_ends_what_is_open_and_nothing_else() {
    let house = House::new();
    let mut open = house.client();
    open.ask("/a").unwrap();
    house.proxy.cut();
    assert_eq!(open.receive().unwrap_or_default(), "");
    assert_eq!(house.client().ask("/a").unwrap(), WHOLE);
}

#[test]
fn over_tcp_a_reset_is_an_error() {
    let engine = Engine::new();
    let proxy = Proxy::start(&Endpoint::loopback(0), engine.endpoint).unwrap();
    let Endpoint::Tcp(address) = *proxy.endpoint() else { panic!("it was to be TCP") };
    assert!(proxy.endpoint().to_string().starts_with("tcp://127.0.0.1:"));
    proxy.once(Requests::any(), Fault::Refuse);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    write!(stream, "GET /a HTTP/1.1\r\n\r\n").unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn an_engine_that_is_not_there_is_a_connection_that_closes() {
    let nowhere = std::env::temp_dir().join(format!("nanny-nowhere-{}", std::process::id()));
    let socket = nowhere.with_extension("sock");
    let proxy = Proxy::start(&Endpoint::unix(&socket), Endpoint::unix(nowhere)).unwrap();
    let mut client = Client(UnixStream::connect(&socket).unwrap());
    client.0.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(client.ask("/a").unwrap_or_default(), "");
    drop(proxy);
    assert!(!socket.exists());
}
