//! Many connections that ask the same thing, over and over.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep_until;

use crate::numbers::{Samples, now};

/// As many as ask at once.
pub(crate) const CONNECTIONS: u32 = 64;

/// How fast they ask.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each asks again as soon as it was answered.
    Flood,
    /// So many a second, all together. What comes late counts from when it was due.
    Steady(u32),
}

/// Asks for `path` for `time`; how long the answers took.
pub(crate) fn ask(address: &str, path: &str, pace: Pace, time: Duration) -> Samples {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    runtime.expect("a runtime").block_on(async {
        let end = now() + time;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..CONNECTIONS {
            let (address, request) = (address.to_owned(), request.clone());
            tasks.spawn(async move {
                let every = match pace {
                    Pace::Flood => Duration::ZERO,
                    Pace::Steady(rate) => Duration::from_secs(1) * CONNECTIONS / rate,
                };
                let mut connection = Connection::open(&address).await;
                let mut samples = Samples::default();
                let mut due = now() + every * number / CONNECTIONS;
                while now() < end {
                    if every.is_zero() {
                        due = now();
                    } else {
                        sleep_until(due.into()).await;
                    }
                    connection.ask(request.as_bytes()).await;
                    samples.push(due.elapsed());
                    due += every;
                }
                samples
            });
        }
        let mut all = Samples::default();
        while let Some(samples) = tasks.join_next().await {
            all.extend(samples.expect("no connection breaks"));
        }
        all
    })
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("it is a socket");
        Self { stream, read: Vec::new() }
    }

    /// Sends a request, and reads the answer to its end.
    async fn ask(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("it reads");
        self.read.clear();
        while answer_length(&self.read).is_none_or(|length| self.read.len() < length) {
            let count = self.stream.read_buf(&mut self.read).await.expect("it answers");
            assert!(count > 0, "it hung up");
        }
        assert!(self.read.starts_with(b"HTTP/1.1 200 "), "{}", self.read.escape_ascii());
    }
}

/// How long the answer is that begins here, once its head is there.
fn answer_length(read: &[u8]) -> Option<usize> {
    let head = read.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&read[..head]).expect("a head is text");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("its length is told").parse().expect("a number");
    Some(head + 4 + length)
}
