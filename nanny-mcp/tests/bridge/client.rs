//! The client's side: what it writes and reads.

use std::time::Duration;

use nanny_mcp::bridge::{Clocks, Daemon, Lost, run};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, duplex};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::daemon::ScriptedDaemon;

/// Nothing here takes as long as that unless it is broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A client with a bridge of its own.
pub(crate) struct Client {
    input: Option<DuplexStream>,
    output: Option<Lines<BufReader<DuplexStream>>>,
    stop: Option<oneshot::Sender<()>>,
    bridge: JoinHandle<Result<(), Lost>>,
}

impl Client {
    pub(crate) fn of(daemon: &ScriptedDaemon) -> Self {
        Self::with(Daemon::at_url(&daemon.url()).expect("it is an address"), clocks())
    }

    pub(crate) fn with(daemon: Daemon, clocks: Clocks) -> Self {
        let (reading, input) = duplex(1 << 23);
        let (output, writing) = duplex(1 << 20);
        let (stop, stopped) = oneshot::channel::<()>();
        let bridge = tokio::spawn(async move {
            let stopped = async {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            run(daemon, clocks, reading, writing, stopped).await
        });
        let output = Some(BufReader::new(output).lines());
        Self { input: Some(input), output, stop: Some(stop), bridge }
    }

    pub(crate) async fn write(&mut self, text: &str) {
        let input = self.input.as_mut().expect("it is open");
        input.write_all(text.as_bytes()).await.expect("the bridge reads");
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.write(&format!("{message}\n")).await;
    }

    /// The next message, which must come.
    pub(crate) async fn hear(&mut self) -> Value {
        let output = self.output.as_mut().expect("it is open");
        let line = timeout(DEADLINE, output.next_line()).await.expect("there is a message");
        let line = line.expect("it is text").expect("the bridge has not ended");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    /// Closes the input, and gives all that is still said, once the bridge has ended.
    pub(crate) async fn finish(&mut self) -> Vec<Value> {
        self.close_input();
        self.rest().await
    }

    /// As a signal has it.
    pub(crate) async fn stop(&mut self) -> Vec<Value> {
        self.stop.take().expect("it was not stopped").send(()).expect("the bridge listens");
        self.rest().await
    }

    async fn rest(&mut self) -> Vec<Value> {
        self.ended().await.expect("it ends in order");
        let mut rest = Vec::new();
        let mut output = self.output.take().expect("it is open");
        while let Some(line) = output.next_line().await.expect("it is text") {
            rest.push(serde_json::from_str(&line).expect("it is a message"));
        }
        rest
    }

    pub(crate) async fn ended(&mut self) -> Result<(), Lost> {
        timeout(DEADLINE, &mut self.bridge)
            .await
            .expect("the bridge ends")
            .expect("it has no fault")
    }

    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Reads no more.
    pub(crate) fn close_output(&mut self) {
        self.output = None;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.bridge.abort();
    }
}

/// So short that tests are, and so long that a busy machine keeps up.
pub(crate) fn clocks() -> Clocks {
    let mut clocks = Clocks::default();
    clocks.patience = Duration::ZERO;
    clocks.retry = Duration::from_millis(50);
    clocks.longest_retry = Duration::from_millis(200);
    clocks
}

/// A request as of 2026-07-28.
pub(crate) fn stateless(id: i64, method: &str, params: Value) -> Value {
    let mut params = params;
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    request(id, method, params)
}

pub(crate) fn request(id: i64, method: &str, params: Value) -> Value {
    let mut message = notification(method, params);
    message["id"] = id.into();
    message
}

pub(crate) fn notification(method: &str, params: Value) -> Value {
    let mut message = json!({"jsonrpc": "2.0", "method": method});
    message["params"] = params;
    message
}

pub(crate) fn answer(id: impl Into<Value>, result: Value) -> Value {
    let mut message = json!({"jsonrpc": "2.0", "id": id.into()});
    message["result"] = result;
    message
}
