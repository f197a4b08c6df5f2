//! Building images: the context goes up as a tar archive, and what the builder says comes down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use nanny_lib::backend::{BackendError, BuildProgress, BuildSpec, ErrorKind, Result};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::backend::LOOK;
use crate::connection::Connection;
use crate::context::{Context, Fault};
use crate::error;

/// BuildKit is in every engine from this minor version of the API on.
const MINOR_BUILDKIT: usize = 39;
/// So many pieces of the context may wait to be sent.
const PIECES: usize = 16;
/// No builder says more than this on one line; a longer one is not read.
const MAX_LINE_BYTES: usize = 4 << 20;

/// Builds the image. The context is gathered and packed on threads of their own, which end with the
/// request that they pack it for.
pub(crate) async fn build(
    connection: &Connection,
    spec: &BuildSpec,
    progress: &(dyn for<'a> Fn(BuildProgress) + Send + Sync),
) -> Result<()> {
    let name = spec.tags.first().map_or("", String::as_str);
    if !spec.unsupported.is_empty() {
        let message = format!("a build cannot honour {}", spec.unsupported.join(", "));
        return Err(BackendError::new(ErrorKind::Unsupported, "build", message).on(name));
    }
    let wanted = spec.clone();
    let gathered = joined(spawn_blocking(move || Context::gather(&wanted)).await);
    let context = gathered.map_err(|fault| fault.on(name))?;
    let minor = connection.api_minor("build", LOOK).await?;
    let classic = connection.wants_classic_builder() || minor < MINOR_BUILDKIT;
    let path = format!("/build?{}", query(spec, context.dockerfile(), classic));

    let (pieces, to_send) = mpsc::channel(PIECES);
    let packing = spawn_blocking(move || context.pack(&pieces));
    let sent = Arc::new(AtomicU64::new(0));
    let body = counted(to_send, Arc::clone(&sent));
    let answer = connection.post("build", name, LOOK, path, body).await?;
    let built = listen(answer, name, &sent, progress).await;
    match joined(packing.await) {
        // What kept us from sending the whole context is why the builder fails.
        Err(fault) if built.is_err() && !fault.is_hang_up() => Err(fault.on(name)),
        _ => built,
    }
}

fn joined<T>(ended: Result<Result<T, Fault>, tokio::task::JoinError>) -> Result<T, Fault> {
    ended.unwrap_or_else(|error| Err(Fault::broken(error)))
}

fn counted(
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    sent: Arc<AtomicU64>,
) -> BoxStream<'static, std::io::Result<Bytes>> {
    let pieces = stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    let count = move |piece: &std::io::Result<Bytes>| {
        let bytes = piece.as_ref().map_or(0, Bytes::len);
        sent.fetch_add(bytes as u64, Ordering::Relaxed);
    };
    pieces.inspect(count).boxed()
}

/// Reads what the builder says to its end.
async fn listen(
    mut answer: BoxStream<'static, Result<Bytes>>,
    name: &str,
    sent: &AtomicU64,
    progress: &(dyn for<'a> Fn(BuildProgress) + Send + Sync),
) -> Result<()> {
    let (mut told, mut before) = (BuildProgress::default(), BuildProgress::default());
    let mut lines = Lines::default();
    let mut clock = interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            said = answer.next() => match said {
                None => return Ok(()),
                Some(chunk) => {
                    for message in lines.feed(&chunk?) {
                        told.messages += 1;
                        if let Some(words) = message.failure() {
                            let error = bollard::errors::Error::DockerStreamError { error: words };
                            return Err(error::from_client("build", name, error));
                        }
                    }
                }
            },
            _ = clock.tick() => {}
        }
        told.sent_bytes = sent.load(Ordering::Relaxed);
        // Whoever waits gives up a build that moves nothing.
        if told != before {
            progress(told);
            before = told;
        }
    }
}

/// One message of a builder, as far as we care.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    detail: Option<Detail>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    message: Option<String>,
}

impl Message {
    fn failure(self) -> Option<String> {
        self.detail.and_then(|detail| detail.message).or(self.error)
    }
}

/// Chunks to messages, one a line.
#[derive(Debug, Default)]
struct Lines {
    rest: BytesMut,
    too_long: bool,
}

impl Lines {
    fn feed(&mut self, chunk: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.too_long |= self.rest.len() + piece.len() > MAX_LINE_BYTES;
            if !self.too_long {
                self.rest.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                let message = serde_json::from_slice(self.rest.trim_ascii()).unwrap_or_default();
                messages.push(message);
                self.rest.clear();
                self.too_long = false;
            }
        }
        messages
    }
}

/// What is asked of the builder.
fn query(spec: &BuildSpec, dockerfile: &str, classic: bool) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("version", if classic { "1" } else { "2" });
    query.append_pair("dockerfile", dockerfile);
    // Containers that the classic builder leaves behind are of no use to anybody.
    query.append_pair("rm", "1").append_pair("forcerm", "1");
    for tag in &spec.tags {
        query.append_pair("t", tag);
    }
    let json = |value: serde_json::Result<String>| value.unwrap_or_default();
    if !spec.args.0.is_empty() {
        query.append_pair("buildargs", &json(serde_json::to_string(&spec.args)));
    }
    if !spec.labels.is_empty() {
        query.append_pair("labels", &json(serde_json::to_string(&spec.labels)));
    }
    if !spec.cache_from.is_empty() {
        query.append_pair("cachefrom", &json(serde_json::to_string(&spec.cache_from)));
    }
    for host in &spec.extra_hosts {
        query.append_pair("extrahosts", host);
    }
    let shm_size = spec.shm_size.map(|bytes| bytes.to_string());
    let fields = [
        ("target", spec.target.as_deref()),
        ("platform", spec.platform.as_deref()),
        ("networkmode", spec.network.as_deref()),
        ("shmsize", shm_size.as_deref()),
        ("nocache", spec.no_cache.then_some("1")),
        ("pull", spec.pull.then_some("1")),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            query.append_pair(field, value);
        }
    }
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_found_however_the_chunks_are_cut() {
        let said = b"{\"stream\":\"Step 1/2\"}\r\n{\"aux\":\"Cm8K\"}\n\nno json\n\
                     {\"error\":\"short\",\"errorDetail\":{\"message\":\"it failed\"}}\n";
        for size in 1..said.len() {
            let mut lines = Lines::default();
            let messages: Vec<_> = said.chunks(size).flat_map(|chunk| lines.feed(chunk)).collect();
            let failures: Vec<_> = messages.into_iter().filter_map(Message::failure).collect();
            assert_eq!(failures, ["it failed"], "{size}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut lines = Lines::default();
        for _ in 0..10 {
            assert!(lines.feed(&[b'x'; 1 << 20]).is_empty());
        }
        assert!(lines.rest.len() <= MAX_LINE_BYTES);
        lines.feed(b"\n");
        let failures = lines.feed(b"{\"error\":\"it failed\"}\n").remove(0).failure();
        assert_eq!(failures.as_deref(), Some("it failed"));
    }

    #[test]
    fn everything_is_asked_for() {
        let mut spec = BuildSpec::new("web:1", "/context");
        spec.tags.push("other:2".to_owned());
        spec.args.0.insert("A".to_owned(), Some("x y&z".to_owned()));
        spec.args.0.insert("B".to_owned(), None);
        spec.labels.insert("l".to_owned(), "v".to_owned());
        spec.target = Some("last".to_owned());
        spec.cache_from = vec!["web:0".to_owned()];
        spec.platform = Some("linux/amd64".to_owned());
        spec.extra_hosts = vec!["h:1.2.3.4".to_owned()];
        (spec.no_cache, spec.pull, spec.shm_size) = (true, true, Some(7));
        let query = query(&spec, "sub/Dockerfile", false);
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let value = |key: &str| {
            let found = pairs.iter().filter(|(found, _)| found == key);
            found.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(value("t"), ["web:1", "other:2"]);
        assert_eq!(value("version"), ["2"]);
        assert_eq!(value("dockerfile"), ["sub/Dockerfile"]);
        assert_eq!(value("buildargs"), [r#"{"A":"x y&z","B":null}"#]);
        assert_eq!(value("labels"), [r#"{"l":"v"}"#]);
        assert_eq!(value("cachefrom"), [r#"["web:0"]"#]);
        assert_eq!(value("extrahosts"), ["h:1.2.3.4"]);
        for (key, wanted) in
            [("target", "last"), ("platform", "linux/amd64"), ("shmsize", "7"), ("pull", "1")]
        {
            assert_eq!(value(key), [wanted]);
        }
    }
}
