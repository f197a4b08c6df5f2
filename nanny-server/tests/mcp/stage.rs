//! A daemon with a few services, and clients of its.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Answer, exchange};

/// Nothing here takes as long as that unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Asks until there is an answer, and fails with what `what` says if there never is.
#[track_caller]
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>, what: &str) -> T {
    #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < DEADLINE, "{what}");
        pause(Duration::from_millis(20));
    }
}

pub(crate) fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "other processes have their own clocks")]
    thread::sleep(time);
}

/// The services there are, and what their manifests say besides.
const SERVICES: [(&str, &str); 5] = [
    ("one", ""),
    ("two", ""),
    ("painter", "gpu_required: true\n"),
    ("writer", "gpu_required: true\n"),
    // Nobody answers there.
    ("slow", "health_endpoint: http://127.0.0.1:1/health\nhealth_timeout: 300\n"),
];

/// A daemon, which may end and begin again.
pub(crate) struct Daemon {
    directory: TempDir,
    flags: Vec<String>,
    child: Option<Child>,
    address: String,
}

impl Daemon {
    pub(crate) fn new(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, more) in SERVICES {
            let place = directory.path().join("services").join(name);
            fs::create_dir_all(&place).expect("it is ours");
            let manifest = format!("name: {name}\ncommand: [sleep, \"86400\"]\n{more}");
            fs::write(place.join("service.yaml"), manifest).expect("it is ours");
        }
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut daemon = Self { directory, flags, child: None, address: String::new() };
        daemon.begin();
        daemon
    }

    pub(crate) fn begin(&mut self) {
        let log = self.directory.path().join("log");
        let file = File::create(&log).expect("it is ours");
        let mut command = nanny();
        command.args(["serve", "--listen", "127.0.0.1:0", "--backend", "process"]);
        command.args(["--gpu", "none", "--log-format", "json"]);
        command.arg("--unix-socket").arg(self.socket());
        command.arg("--services").arg(self.directory.path().join("services"));
        command.arg("--state-dir").arg(self.directory.path().join("state"));
        command.args(&self.flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        self.child = Some(command.spawn().expect("the binary was built"));
        let listens = || {
            let log = fs::read_to_string(&log).ok()?;
            let mut entries = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            entries.find_map(|entry: Value| entry["fields"]["listen"].as_str().map(str::to_owned))
        };
        self.address = until(listens, "it never served");
    }

    /// Tells it to end, and gives how it did, and how long that took.
    pub(crate) fn end(&mut self) -> (ExitStatus, Duration) {
        let mut child = self.child.take().expect("it runs");
        let id = child.id().to_string();
        #[expect(clippy::disallowed_methods, reason = "another process is waited for")]
        let began = Instant::now();
        let told = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(told.expect("there is a kill").success());
        let status = until(|| child.try_wait().expect("it is our child"), "it never ended");
        (status, began.elapsed())
    }

    /// Ends it as a fault does.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
    }

    /// The unix socket, which has the same name for every daemon.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request of any kind with these headers, and `Host` unless they have it.
    pub(crate) fn ask(&self, request: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let stream = self.connect();
        let headers = self.head(headers);
        let answer = exchange(stream, &format!("{request} HTTP/1.1"), &headers, body);
        answer.unwrap_or_else(|error| panic!("{request}: {error}"))
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("it is a time");
        stream
    }

    fn head(&self, headers: &[(&str, &str)]) -> String {
        let mut head = String::new();
        if !headers.iter().any(|(name, _)| *name == "host") {
            head.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    /// Posts a message as a client does.
    pub(crate) fn post(&self, headers: &[(&str, &str)], message: &Value) -> Answer {
        let all = [&MESSAGE_HEADERS[..], headers].concat();
        self.ask("POST /mcp", &all, &message.to_string())
    }

    /// Begins a session, and gives its name.
    pub(crate) fn session(&self) -> String {
        let answer = self.post(&[], &initialize(0));
        assert_eq!(answer.status, 200, "{answer:?}");
        let session = answer.header("mcp-session-id").expect("it has a name").to_owned();
        let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(self.in_session(&session, &ready).status, 202);
        session
    }

    pub(crate) fn in_session(&self, session: &str, message: &Value) -> Answer {
        self.post(&of_session(session), message)
    }

    /// Opens the stream of what is said in a session.
    pub(crate) fn listen(&self, session: &str) -> Events {
        let headers = [&[("accept", "text/event-stream")][..], &of_session(session)].concat();
        let mut stream = self.connect();
        let head = self.head(&headers);
        write!(stream, "GET /mcp HTTP/1.1\r\n{head}\r\n").expect("it reads");
        Events::of(stream)
    }

    /// Posts a request whose answer is a stream that stays open.
    pub(crate) fn stream(&self, headers: &[(&str, &str)], message: &Value) -> Events {
        let all = [&MESSAGE_HEADERS[..], headers].concat();
        let mut stream = self.connect();
        let (head, body) = (self.head(&all), message.to_string());
        let length = body.len();
        write!(stream, "POST /mcp HTTP/1.1\r\n{head}content-length: {length}\r\n\r\n{body}")
            .expect("it reads");
        Events::of(stream)
    }

    /// Starts or stops a service, not by MCP.
    pub(crate) fn operate(&self, service: &str, operation: &str) {
        let stream = UnixStream::connect(self.socket()).expect("it listens there");
        let request = format!("POST /services/{service}/{operation} HTTP/1.1");
        let answer = exchange(stream, &request, "host: localhost\r\n", "").expect("it answers");
        answer.expect(200);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Services outlive their nanny, and not their test.
            for (service, _) in SERVICES {
                let request = format!("POST /services/{service}/stop HTTP/1.1");
                let _ = UnixStream::connect(self.directory.path().join("socket"))
                    .and_then(|stream| exchange(stream, &request, "host: localhost\r\n", ""));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            let _ = writeln!(std::io::stderr(), "the daemon's log:\n{log}");
        }
    }
}

/// What every message is posted with.
const MESSAGE_HEADERS: [(&str, &str); 2] =
    [("accept", "application/json, text/event-stream"), ("content-type", "application/json")];

pub(crate) const VERSION: &str = "2025-11-25";

fn of_session(session: &str) -> [(&str, &str); 2] {
    [("mcp-session-id", session), ("mcp-protocol-version", VERSION)]
}

pub(crate) fn initialize(id: i64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": {
        "protocolVersion": VERSION,
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }})
}

pub(crate) fn request(id: i64, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

/// A request as of 2026-07-28.
pub(crate) fn stateless(id: i64, method: &str, params: &Value) -> Value {
    let mut message = request(id, method, params);
    message["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    message
}

/// What such a request is posted with, if it names nothing.
pub(crate) fn stateless_headers(method: &str) -> [(&str, &str); 2] {
    [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)]
}

/// The message in an answer, be it a stream or not.
#[track_caller]
pub(crate) fn message(answer: &Answer) -> Value {
    let data = |line: &str| serde_json::from_str(line.strip_prefix("data: ")?).ok();
    let mut found: Vec<Value> = answer.text.lines().filter_map(data).collect();
    match found.pop() {
        Some(last) => last,
        None => answer.json(),
    }
}

/// A stream of events, read as they come.
pub(crate) struct Events {
    lines: BufReader<TcpStream>,
    /// Signs of life since the last event.
    pub(crate) comments: usize,
}

impl Events {
    fn of(stream: TcpStream) -> Self {
        let mut events = Self { lines: BufReader::new(stream), comments: 0 };
        let status = events.line().expect("there is an answer");
        assert!(status.contains(" 200 "), "{status}");
        while !events.line().expect("there is a whole head").is_empty() {}
        events
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("the stream goes on");
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next message; nothing at the end of the stream.
    pub(crate) fn next(&mut self) -> Option<Value> {
        self.comments = 0;
        loop {
            let line = self.line()?;
            if line.starts_with(':') {
                self.comments += 1;
            }
            let data = line.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok());
            if data.is_some() {
                return data;
            }
        }
    }

    /// Waits for the end of the stream, however it comes.
    pub(crate) fn end(mut self) {
        let _ = self.lines.read_to_end(&mut Vec::new());
    }
}

/// `nanny mcp`, as an editor runs it.
pub(crate) struct Bridge {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    /// What was said before the answer to something.
    passed_over: VecDeque<Value>,
    log: Receiver<String>,
}

impl Bridge {
    pub(crate) fn to(daemon: &Daemon) -> Self {
        Self::with(nanny().args(["mcp", "--url", &daemon.url()]))
    }

    pub(crate) fn over_socket(daemon: &Daemon) -> Self {
        Self::with(nanny().args(["mcp", "--unix-socket"]).arg(daemon.socket()))
    }

    pub(crate) fn with(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary was built");
        let input = child.stdin.take();
        let output = lines(child.stdout.take().expect("it is piped"));
        let log = lines(child.stderr.take().expect("it is piped"));
        Self { child, input, output, passed_over: VecDeque::new(), log }
    }

    pub(crate) fn say(&mut self, message: &Value) {
        let input = self.input.as_mut().expect("it is open");
        writeln!(input, "{message}").expect("it reads");
    }

    #[track_caller]
    fn hear(&self) -> Value {
        let line = self.output.recv_timeout(DEADLINE).expect("it says something");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Asks, and gives the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, message: &Value) -> Value {
        self.say(message);
        self.answer_to(&message["id"])
    }

    /// The answer to what was asked with that id.
    #[track_caller]
    pub(crate) fn answer_to(&mut self, id: &Value) -> Value {
        loop {
            let heard = self.hear();
            if heard["id"] == *id && heard.get("method").is_none() {
                return heard;
            }
            self.passed_over.push_back(heard);
        }
    }

    /// Listens until something is said that is meant.
    #[track_caller]
    pub(crate) fn hear_of(&mut self, method: &str) -> Value {
        loop {
            let heard = self.passed_over.pop_front().unwrap_or_else(|| self.hear());
            if heard["method"] == method {
                return heard;
            }
        }
    }

    /// Begins a session.
    pub(crate) fn initialize(&mut self) {
        let answer = self.ask(&initialize(0));
        assert_eq!(answer["result"]["protocolVersion"], VERSION, "{answer}");
        self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    }

    /// Closes its input; it must end in order. Gives what it has logged.
    #[track_caller]
    pub(crate) fn finish(mut self) -> String {
        self.input = None;
        let status = until(|| self.child.try_wait().expect("it is our child"), "it never ended");
        assert!(status.success(), "{status}");
        self.log.iter().collect()
    }

    /// Sends it the usual signal, and gives how it ended.
    #[track_caller]
    pub(crate) fn signalled(&mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(told.expect("there is a kill").success());
        until(|| self.child.try_wait().expect("it is our child"), "it never ended")
    }

    /// The next line of its log.
    #[track_caller]
    pub(crate) fn logged(&self) -> String {
        self.log.recv_timeout(DEADLINE).expect("it logs something")
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The binary, with nothing of ours in its environment.
pub(crate) fn nanny() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nanny"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NANNY_") {
            command.env_remove(name);
        }
    }
    command
}
