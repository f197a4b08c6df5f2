//! As much of an HTTP client as is needed: one request a connection, blocking, for the engine and
//! for the nanny alike.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

/// Nothing takes as long as that unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Panics unless it went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(matches!(self.status, 200..300 | 304), "{self:?}");
        self
    }
}

/// Asks the engine.
pub(crate) fn engine(method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let host = env::var("DOCKER_HOST").unwrap_or_default();
    let socket = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    // HTTP/1.0: the answer ends with the connection.
    exchange(stream, &format!("{method} {path} HTTP/1.0"), "docker", body)
}

/// Asks the server at `address`.
pub(crate) fn server(address: &str, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    exchange(stream, &format!("{method} {path} HTTP/1.1"), address, body)
}

fn exchange(
    mut stream: impl Read + Write,
    line: &str,
    host: &str,
    body: &str,
) -> io::Result<Answer> {
    let length = body.len();
    let request = format!(
        "{line}\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let cut = || io::Error::other(format!("an answer broke off: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    Ok(Answer { status, body: body.to_owned() })
}
