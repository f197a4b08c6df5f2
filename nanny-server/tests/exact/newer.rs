//! An engine that says it is newer than it is, and keeps what it is asked to create.
//!
//! What engines of our own day do with a request cannot be seen here; what they are asked can.

use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// The API that it says it speaks.
const CLAIMED: &str = "1.51";
/// Comes before the true one.
const VERSION: &str = r#""ApiVersion":""#;
/// Nothing here takes as long as that unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);

/// Stands before the real engine. Containers are not created, only written down.
pub(crate) struct NewerEngine {
    socket: PathBuf,
    created: Arc<Mutex<Vec<Value>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NewerEngine {
    pub(crate) fn start(socket: PathBuf) -> io::Result<Self> {
        let listener = UnixListener::bind(&socket)?;
        let created = Arc::<Mutex<Vec<Value>>>::default();
        let ended = Arc::<AtomicBool>::default();
        let (kept, end) = (Arc::clone(&created), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            let mut busy = Vec::new();
            for client in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let (Ok(client), kept) = (client, Arc::clone(&kept)) else { break };
                busy.push(std::thread::spawn(move || answer(&client, &kept)));
            }
            busy.into_iter().for_each(|thread| drop(thread.join()));
        });
        Ok(Self { socket, created, ended, thread: Some(thread) })
    }

    /// Its address, as in `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The containers it was asked for since the last time.
    pub(crate) fn take(&self) -> Vec<Value> {
        std::mem::take(&mut *self.created.lock().expect("nobody panics with it"))
    }
}

impl Drop for NewerEngine {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes who listens.
        drop(UnixStream::connect(&self.socket));
        self.thread.take().map(JoinHandle::join);
    }
}

/// One request, and no more on this connection. A client that goes away is no matter.
fn answer(mut client: &UnixStream, created: &Mutex<Vec<Value>>) -> Option<()> {
    client.set_read_timeout(Some(DEADLINE)).ok()?;
    let mut reader = BufReader::new(client);
    let (first, length) = head(&mut reader)?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?, unversioned(words.next()?));
    let reply = if method == "POST" && path.starts_with("/containers/create") {
        created.lock().expect("nobody panics with it").push(serde_json::from_slice(&body).ok()?);
        let message = r#"{"message":"it is written down"}"#;
        format!("HTTP/1.1 500 No\r\ncontent-type: application/json\r\n\r\n{message}").into_bytes()
    } else {
        ask(method, path, &body).ok()?
    };
    client.write_all(&claiming(&reply)?).ok()
}

/// The first line of a request, and the length of its body.
fn head(reader: &mut impl io::BufRead) -> Option<(String, usize)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    Some((first, length))
}

/// A path without the version in front: the engine takes its own.
fn unversioned(path: &str) -> &str {
    match path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])) {
        Some(rest) => rest,
        None => path,
    }
}

/// Asks the real engine; with HTTP/1.0 it sends no chunks, and closes.
fn ask(method: &str, path: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
    let mut engine = UnixStream::connect(Path::new(socket))?;
    engine.set_read_timeout(Some(DEADLINE))?;
    write!(
        engine,
        "{method} {path} HTTP/1.0\r\nhost: docker\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )?;
    engine.write_all(body)?;
    let mut reply = Vec::new();
    engine.read_to_end(&mut reply)?;
    Ok(reply)
}

/// The reply as one of a newer engine, to which no other will follow.
fn claiming(reply: &[u8]) -> Option<Vec<u8>> {
    let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&reply[..end]).ok()?;
    let body = String::from_utf8_lossy(&reply[end + 4..]);
    // It says so in several places.
    let mut places = body.split(VERSION);
    let mut body = places.next().unwrap_or_default().to_owned();
    for place in places {
        body.push_str(&format!("{VERSION}{CLAIMED}{}", &place[place.find('"')?..]));
    }
    let mut lines = head.lines();
    let status = lines.next()?.replace("HTTP/1.0", "HTTP/1.1");
    let is_kept = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().to_lowercase();
        !matches!(name.as_str(), "api-version" | "content-length" | "connection")
    };
    let kept: Vec<_> = lines.filter(is_kept).collect();
    let length = body.len();
    let own = format!("api-version: {CLAIMED}\r\ncontent-length: {length}\r\nconnection: close");
    let head = [&[status.as_str()], &kept[..], &[own.as_str()]].concat().join("\r\n");
    Some(format!("{head}\r\n\r\n{body}").into_bytes())
}

/// A request without what is the engine's default anyway, and with lists in one order.
pub(crate) fn settled(request: &Value) -> Value {
    let says_nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Array(_) => false,
    };
    match request {
        Value::Object(fields) => fields
            .iter()
            // The size of a window, which neither has.
            .filter(|(key, _)| *key != "ConsoleSize" && !key.starts_with("dev.nanny."))
            .map(|(key, value)| (key.clone(), settled(value)))
            .filter(|(key, value)| key == "ExposedPorts" || !says_nothing(value))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => {
            let mut items: Vec<_> = items.iter().map(settled).collect();
            items.sort_by_key(Value::to_string);
            items.into()
        }
        plain => plain.clone(),
    }
}
