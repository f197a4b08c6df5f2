//! The log of a service, as one text.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use nanny_lib::backend::{BackendError, ErrorKind, LogLine, LogOptions};
use nanny_lib::{ContainerLog, Error, Nanny, ServiceName, ServiceView};

use crate::answer::LogsAnswer;
pub use crate::transcript::Timestamps;
use crate::transcript::{Transcript, next_head};

/// What to read of a log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogRequest {
    /// The last so many lines of each container; all of them if `None`.
    pub tail: Option<u32>,
    /// Whether each line says when it was written.
    pub timestamps: Timestamps,
    /// At most so many bytes: the newest.
    pub limit: usize,
}

impl LogRequest {
    /// The last lines, in at most 8 MiB.
    #[must_use]
    pub fn tail(tail: Option<u32>) -> Self {
        Self { tail, timestamps: Timestamps::Hidden, limit: LIMIT }
    }
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// There is no such service, or its engine does not answer.
    #[error(transparent)]
    Nanny(#[from] Error),
    /// The engine failed.
    #[error("the logs of '{service}' could not be read: {reason}")]
    Failed {
        /// Whose logs.
        service: ServiceName,
        /// What the engine says.
        reason: String,
    },
    /// It took longer than ten seconds.
    #[error("the logs of '{service}' could not be read in time")]
    Timeout {
        /// Whose logs.
        service: ServiceName,
    },
}

/// Reads the logs of all containers of the service `view`, as one text.
///
/// # Errors
///
/// [`LogsError`]; a service that never started has an empty log.
pub async fn read(
    nanny: &Nanny,
    view: &ServiceView,
    request: LogRequest,
) -> Result<LogsAnswer, LogsError> {
    let service = view.name().clone();
    let logs = nanny.logs(service.as_str(), LogOptions::tail(request.tail))?;
    let tail = request.tail.map_or(-1, i64::from);
    let read = tokio::time::timeout(DEADLINE, merge(logs, &request)).await;
    let Ok(merged) = read else {
        return Err(LogsError::Timeout { service });
    };
    let (logs, truncated) = merged.map_err(|error| failure(view, service.clone(), &error))?;
    Ok(LogsAnswer { service: service.to_string(), logs, tail, truncated })
}

/// Reads logs side by side, each line when its time has come, so that however long they are no
/// more is kept than what is shown.
async fn merge(
    logs: Vec<ContainerLog>,
    request: &LogRequest,
) -> Result<(String, bool), BackendError> {
    let names: Vec<String> = logs.iter().map(|log| log.name.clone()).collect();
    let mut transcript = Transcript::new(&names, request.timestamps, request.limit);
    let mut streams: Vec<_> = logs.into_iter().map(|log| log.lines).collect();
    let mut heads = Vec::with_capacity(streams.len());
    for stream in &mut streams {
        heads.push(next_line(stream).await?);
    }
    while let Some(index) = next_head(heads.iter().map(|head| head.as_ref().map(|line| line.at))) {
        let next = next_line(&mut streams[index]).await?;
        if let Some(line) = std::mem::replace(&mut heads[index], next) {
            transcript.push(index, &line);
        }
    }
    Ok(transcript.finish())
}

/// The next line, if there is one. The log of a container that was removed meanwhile has ended.
async fn next_line(
    lines: &mut BoxStream<'static, Result<LogLine, BackendError>>,
) -> Result<Option<LogLine>, BackendError> {
    match lines.next().await {
        Some(Err(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
        line => line.transpose(),
    }
}

fn failure(view: &ServiceView, service: ServiceName, error: &BackendError) -> LogsError {
    let reason = error.message().to_owned();
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout => {
            let engine = view.backend.clone().unwrap_or_default();
            Error::EngineUnavailable { engine, reason }.into()
        }
        _ => LogsError::Failed { service, reason },
    }
}

const DEADLINE: Duration = Duration::from_secs(10);
const LIMIT: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use jiff::Timestamp;
    use nanny_lib::ContainerId;
    use nanny_lib::backend::LogStream;

    use super::*;

    fn line(second: i64, text: &'static str) -> Result<LogLine, BackendError> {
        let at = Timestamp::from_second(second).unwrap();
        Ok(LogLine::new(Some(at), LogStream::Stdout, text))
    }

    fn log(name: &str, lines: Vec<Result<LogLine, BackendError>>) -> ContainerLog {
        let id = ContainerId::new(name);
        ContainerLog { id, name: name.to_owned(), lines: stream::iter(lines).boxed() }
    }

    #[tokio::test]
    async fn lines_are_merged_by_time() {
        let logs = vec![
            log("a", vec![line(1, "one"), line(4, "four")]),
            log("bb", vec![line(2, "two"), line(3, "three"), line(3, "again")]),
        ];
        let (text, truncated) = merge(logs, &LogRequest::tail(None)).await.unwrap();
        assert_eq!(text, "a   | one\nbb  | two\nbb  | three\nbb  | again\na   | four\n");
        assert!(!truncated);
    }

    #[tokio::test]
    async fn the_log_of_a_container_that_is_gone_has_ended() {
        let gone = BackendError::new(ErrorKind::NotFound, "logs", "no such container");
        let logs = vec![log("a", vec![line(1, "one"), Err(gone)]), log("b", vec![line(2, "two")])];
        assert_eq!(merge(logs, &LogRequest::tail(None)).await.unwrap().0, "a  | one\nb  | two\n");
    }

    #[tokio::test]
    async fn any_other_error_is_the_answer() {
        let broken = BackendError::new(ErrorKind::Other, "logs", "broken");
        let logs = vec![log("a", vec![line(1, "one"), Err(broken)])];
        assert_eq!(
            merge(logs, &LogRequest::tail(None)).await.unwrap_err().kind(),
            ErrorKind::Other
        );
    }
}
