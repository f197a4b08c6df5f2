//! What the log says of calls.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use nanny_lib::backend::LogStream;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use super::{House, cpu, forced};

/// A log that a test reads.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The lines about calls.
    fn calls(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text");
        let calls = text.lines().filter(|line| line.contains("an assistant called a tool"));
        calls.map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_leaves_one_line_with_nothing_of_what_was_read() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _logs = tracing::subscriber::set_default(subscriber);
    // While there is only one in the process, whichever test comes first to a line decides whether
    // it is written, and the others have no log.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let house = House::new([cpu("a")]).await;
    let guest = house.machine().await;
    guest.done("start_service", forced("a")).await;
    house.engine.print("a-main-1", LogStream::Stdout, "confidential");
    let read = guest.done("get_service_logs", json!({"name": "a", "contains": "confi"})).await;
    assert!(read["logs"].as_str().unwrap().contains("confidential"));
    guest.refused("stop_service", json!({"name": "b\nINFO forged"})).await;
    guest.call("no_such_tool", json!({})).await.unwrap_err();

    let calls = log.calls();
    assert_eq!(calls.len(), 4, "{calls:?}");
    for (call, parts) in calls.iter().zip([
        ["start_service", "service=Some(\"a\") force=true", "outcome=\"running\""],
        ["get_service_logs", "force=false", "outcome=\"read\""],
        ["stop_service", "b\\nINFO forged", "outcome=\"SERVICE_NOT_FOUND\""],
        ["no_such_tool", "service=None", "outcome=\"protocol error\""],
    ]) {
        assert!(call.contains("client=Some(\"a client\")"), "{call}");
        for part in parts {
            assert!(call.contains(part), "{part} in {call}");
        }
        assert!(!call.contains("confi"), "{call}");
    }
}
