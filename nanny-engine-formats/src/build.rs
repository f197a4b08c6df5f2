//! What is the same for every builder that takes a tar archive and answers with lines of JSON.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use nanny_lib::backend::{BackendError, BuildProgress, Result};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::context::{Context, Fault};
use crate::json_lines::JsonLines;

/// So many pieces of the context may wait to be sent.
const PIECES: usize = 16;
/// No builder says more than this on one line; a longer one is not read.
const MAX_LINE_BYTES: usize = 4 << 20;

/// A stream of bytes on its way to an engine.
type Body = BoxStream<'static, std::io::Result<Bytes>>;

/// Sends `context`, as `post` does it, and reads what the builder of the image `name` says to its end.
/// What it says of a failure of its own, `judge` makes an error of.
///
/// The context is packed on a thread of its own, which ends with the request that it packs it for.
///
/// # Errors
///
/// Those of `post` and of `judge`, and that the context cannot be read.
pub async fn carry_out<A>(
    context: Context,
    name: &str,
    post: impl FnOnce(Body) -> A,
    judge: impl Fn(&str) -> BackendError,
    progress: &(dyn for<'a> Fn(BuildProgress) + Send + Sync),
) -> Result<()>
where
    A: Future<Output = Result<BoxStream<'static, Result<Bytes>>>>,
{
    let (pieces, to_send) = mpsc::channel(PIECES);
    let packing = spawn_blocking(move || context.pack(&pieces));
    let sent = Arc::new(AtomicU64::new(0));
    let answer = post(counted(to_send, Arc::clone(&sent))).await?;
    let built = listen(answer, &sent, judge, progress).await;
    match packing.await.unwrap_or_else(|error| Err(Fault::broken(error))) {
        // What kept us from sending the whole context is why the builder fails.
        Err(fault) if built.is_err() && !fault.is_hang_up() => Err(fault.on(name)),
        _ => built,
    }
}

fn counted(pieces: mpsc::Receiver<std::io::Result<Bytes>>, sent: Arc<AtomicU64>) -> Body {
    let pieces = stream::unfold(pieces, |mut pieces| async move {
        pieces.recv().await.map(|piece| (piece, pieces))
    });
    let count = move |piece: &std::io::Result<Bytes>| {
        let bytes = piece.as_ref().map_or(0, Bytes::len);
        sent.fetch_add(bytes as u64, Ordering::Relaxed);
    };
    pieces.inspect(count).boxed()
}

async fn listen(
    mut answer: BoxStream<'static, Result<Bytes>>,
    sent: &AtomicU64,
    judge: impl Fn(&str) -> BackendError,
    progress: &(dyn for<'a> Fn(BuildProgress) + Send + Sync),
) -> Result<()> {
    let (mut told, mut before) = (BuildProgress::default(), BuildProgress::default());
    let mut lines = JsonLines::new(MAX_LINE_BYTES);
    let mut clock = interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            said = answer.next() => match said {
                None => return Ok(()),
                Some(chunk) => {
                    for message in lines.feed::<Message>(&chunk?) {
                        told.messages += 1;
                        if let Some(words) = message.ok().and_then(Message::failure) {
                            return Err(judge(&words));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_from_what_is_none() {
        let failure = |text: &str| serde_json::from_str::<Message>(text).unwrap().failure();
        assert_eq!(failure(r#"{"stream":"Step 1/2"}"#), None);
        let both = r#"{"error":"short","errorDetail":{"message":"it failed"}}"#;
        assert_eq!(failure(both).as_deref(), Some("it failed"));
        assert_eq!(failure(r#"{"error":"it failed"}"#).as_deref(), Some("it failed"));
    }
}
