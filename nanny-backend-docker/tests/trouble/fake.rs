//! An engine that says what a test wants, on a socket of its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use nanny_backend_docker::{DockerBackend, DockerConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// What the engine answers.
pub(crate) enum Answer {
    /// A status and a body, and then the end.
    Says(u16, Vec<u8>),
    /// A body that does not end.
    GoesOn(Vec<u8>),
    /// Nothing, with the connection open.
    Hangs,
    /// The connection closes.
    HangsUp,
}

pub(crate) fn json(status: u16, body: &str) -> Answer {
    Answer::Says(status, body.as_bytes().to_vec())
}

type Script = dyn Fn(&str) -> Answer + Send + Sync;

/// Ends with its value.
pub(crate) struct Fake {
    folder: tempfile::TempDir,
    requests: Arc<Mutex<Vec<String>>>,
    script: Arc<Script>,
    tasks: JoinSet<()>,
}

impl Fake {
    /// An engine that is not up yet. `script` answers `GET /path?query`; versions and pings are
    /// answered already.
    pub(crate) fn new(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder can be made"),
            requests: Arc::default(),
            script: Arc::new(script),
            tasks: JoinSet::new(),
        }
    }

    pub(crate) fn up(mut self) -> Self {
        self.come_up();
        self
    }

    pub(crate) fn come_up(&mut self) {
        let path = self.socket();
        drop(std::fs::remove_file(&path));
        let listener = UnixListener::bind(path).expect("the socket is ours");
        let (requests, script) = (Arc::clone(&self.requests), Arc::clone(&self.script));
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, script) = (Arc::clone(&requests), Arc::clone(&script));
                connections.spawn(async move {
                    drop(serve(stream, &requests, &*script).await);
                });
            }
        });
    }

    pub(crate) async fn go_down(&mut self) {
        self.tasks.shutdown().await;
        drop(std::fs::remove_file(self.socket()));
    }

    pub(crate) fn backend(&self) -> DockerBackend {
        let host = format!("unix://{}", self.socket().display());
        DockerBackend::new(DockerConfig::new(host)).expect("the address is one of an engine")
    }

    /// The requests so far that begin with `start`.
    pub(crate) fn requests(&self, start: &str) -> Vec<String> {
        let requests = self.requests.lock().expect("no test panics here");
        requests.iter().filter(|request| request.starts_with(start)).cloned().collect()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }
}

async fn serve(
    stream: UnixStream,
    requests: &Mutex<Vec<String>>,
    script: &Script,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    stream.read_exact(&mut vec![0; length]).await?;
    let request = first.rsplit_once(' ').map_or("", |(request, _)| request).to_owned();
    requests.lock().expect("no test panics here").push(request.clone());
    let answer = match request.as_str() {
        "GET /version" => json(200, r#"{"ApiVersion":"1.41","Version":"20.10.24"}"#),
        "GET /_ping" => Answer::Says(200, b"OK".to_vec()),
        other => script(other),
    };
    match answer {
        Answer::Says(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).await
        }
        Answer::GoesOn(body) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
            stream.write_all(&[head.as_bytes(), &body].concat()).await?;
            std::future::pending().await
        }
        Answer::Hangs => std::future::pending().await,
        Answer::HangsUp => Ok(()),
    }
}
