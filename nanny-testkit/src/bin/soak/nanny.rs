//! The nanny as a process, and what one asks of it over HTTP.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// One nanny after another, on the same services and state.
#[derive(Debug)]
pub(crate) struct Nanny {
    binary: PathBuf,
    folder: PathBuf,
    docker_host: String,
    child: Option<Child>,
    address: String,
}

/// It looks around before it serves, which takes some time on a busy machine.
const SERVES_WITHIN: Duration = Duration::from_secs(60);

impl Nanny {
    pub(crate) fn new(binary: &Path, folder: &Path, docker_host: String) -> Self {
        let (binary, folder) = (binary.to_owned(), folder.to_owned());
        Self { binary, folder, docker_host, child: None, address: String::new() }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn open(&mut self) -> io::Result<()> {
        let before = self.log().len();
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NANNY_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(["--backend", "docker", "--docker-host", &self.docker_host])
            .arg("--services")
            .arg(self.folder.join("services"))
            .arg("--state-dir")
            .arg(self.folder.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let child = self.child.insert(child);
        let deadline = Instant::now() + SERVES_WITHIN;
        let file = self.folder.join("nanny.log");
        loop {
            let log = fs::read_to_string(&file)?;
            if let Some(address) = log[before..].lines().find_map(listens_at) {
                self.address = address;
                return Ok(());
            }
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(io::Error::other(format!("it does not serve: {}", &log[before..])));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it with a signal, and waits until it is gone.
    pub(crate) fn end(&mut self, signal: &str) -> io::Result<()> {
        self.signal(signal)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: &str) -> io::Result<()> {
        let child = self.child.as_ref().ok_or_else(|| io::Error::other("no nanny"))?;
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other("the nanny has ended")) }
    }

    pub(crate) fn get(&self, path: &str) -> io::Result<Value> {
        let (status, text) = ask(&self.address, "GET", path, "", Duration::from_secs(30))?;
        let body = serde_json::from_str(&text).map_err(io::Error::other)?;
        if status == 200 { Ok(body) } else { Err(io::Error::other(text)) }
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("nanny.log")
    }
}

impl Drop for Nanny {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn listens_at(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["fields"]["listen"].as_str().map(str::to_owned)
}

/// Asks a nanny for something: status and body.
pub(crate) fn ask(
    address: &str,
    method: &str,
    path: &str,
    body: &str,
    limit: Duration,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(limit))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)?;
    Ok((status, body.to_owned()))
}
