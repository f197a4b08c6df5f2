//! A daemon that a test plays: it sees each request, and says what to answer.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::DEADLINE;

pub(crate) struct ScriptedDaemon {
    address: SocketAddr,
    asked: mpsc::Receiver<Asked>,
    accepting: JoinHandle<()>,
}

impl ScriptedDaemon {
    pub(crate) async fn new() -> Self {
        Self::at("127.0.0.1:0".parse().expect("it is an address")).await
    }

    pub(crate) async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a loopback socket");
        let address = listener.local_addr().expect("it is bound");
        let (sender, asked) = mpsc::channel(1000);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Some(request) = Asked::read(stream).await else { continue };
                // A bridge knocks when it begins; what comes of that is its own test.
                if request.method == "GET" && request.header("mcp-session-id").is_none() {
                    request.status("400 Bad Request", "Session ID is required").await;
                } else if sender.send(request).await.is_err() {
                    return;
                }
            }
        });
        Self { address, asked, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request, which must come.
    pub(crate) async fn asked(&mut self) -> Asked {
        timeout(DEADLINE, self.asked.recv()).await.expect("there is a request").expect("it lives")
    }

    /// The next request, which must be this one.
    pub(crate) async fn asked_for(&mut self, method: &str) -> Asked {
        let asked = self.asked().await;
        assert_eq!(asked.json()["method"], method, "{asked:?}");
        asked
    }

    /// Whether it was asked for anything that no test looked at.
    pub(crate) fn was_asked_more(&mut self) -> bool {
        self.asked.try_recv().is_ok()
    }

    /// Ends as a process does.
    pub(crate) async fn end(mut self) -> SocketAddr {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        self.address
    }
}

impl Drop for ScriptedDaemon {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One request, and the connection to answer it on.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    head: String,
    body: String,
    stream: TcpStream,
}

impl Asked {
    async fn read(mut stream: TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).expect("a head is text");
        let method = head.split(' ').next()?.to_owned();
        assert_eq!(head.split(' ').nth(1), Some("/mcp"), "{head}");
        let mut asked = Self { method, head, body: String::new(), stream };
        let length =
            asked.header("content-length").map_or(0, |length| length.parse().expect("good"));
        let mut body = vec![0; length];
        asked.stream.read_exact(&mut body).await.ok()?;
        asked.body = String::from_utf8(body).expect("a body is text");
        Some(asked)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> Value {
        self.json()["id"].clone()
    }

    async fn send(&mut self, text: &str) {
        // The bridge may have seen enough.
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    pub(crate) async fn status(mut self, status: &str, text: &str) {
        let length = text.len();
        self.send(&format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{text}")).await;
    }

    pub(crate) async fn accepted(self) {
        self.status("202 Accepted", "").await;
    }

    /// An answer that is one piece of JSON.
    pub(crate) async fn reply(self, status: &str, body: Value) {
        self.reply_with(status, "", body).await;
    }

    pub(crate) async fn reply_with(mut self, status: &str, headers: &str, body: Value) {
        // Over several lines, as it may be.
        let text = serde_json::to_string_pretty(&body).expect("it is JSON");
        let length = text.len();
        self.send(&format!(
            "HTTP/1.1 {status}\r\n{headers}content-type: application/json; charset=utf-8\r\n\
             content-length: {length}\r\n\r\n{text}",
        ))
        .await;
    }

    /// An answer that is a stream, which ends when it is dropped.
    pub(crate) async fn stream(mut self, headers: &str) -> Stream {
        self.send(&format!(
            "HTTP/1.1 200 OK\r\n{headers}content-type: text/event-stream\r\nconnection: close\r\n\r\n",
        ))
        .await;
        Stream(self.stream)
    }
}

pub(crate) struct Stream(TcpStream);

impl Stream {
    pub(crate) async fn raw(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("the bridge reads");
    }

    pub(crate) async fn event(&mut self, message: Value) {
        self.raw(&format!("data: {message}\n\n")).await;
    }

    pub(crate) async fn event_with_id(&mut self, id: &str, message: Value) {
        self.raw(&format!("data: {message}\nid: {id}\n\n")).await;
    }

    /// Waits until the bridge has hung up.
    pub(crate) async fn hung_up(&mut self) {
        let read = timeout(DEADLINE, self.0.read_u8()).await.expect("the bridge hangs up");
        assert!(read.is_err(), "it sends nothing more");
    }
}
