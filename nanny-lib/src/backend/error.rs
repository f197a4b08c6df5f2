//! The error of every backend operation.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What a caller can do about a [`BackendError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The container, image, network or volume does not exist.
    NotFound,
    /// It exists already, is in use, or is in a state that forbids the operation.
    Conflict,
    /// The engine refuses the request as it is; repeating it cannot help.
    Invalid,
    /// The backend cannot honour something the request asks for.
    Unsupported,
    /// The engine forbids it to us.
    Denied,
    /// The engine is out of reach. Says nothing about its containers.
    Unavailable,
    /// No answer in time: the outcome is unknown, inspect before repeating.
    Timeout,
    /// Anything else.
    Other,
}

/// What kind, which operation, on whom, caused by what.
///
/// Cheap to clone: one outcome may answer several callers.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation}{}: {message}", Subject(.subject))]
pub struct BackendError {
    kind: ErrorKind,
    operation: &'static str,
    subject: String,
    message: String,
    #[source]
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl BackendError {
    /// An error of `operation`, with one sentence for a person.
    ///
    /// The message must hold no environment value and no credential: it reaches logs and callers.
    #[must_use]
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self { kind, operation, subject: String::new(), message: message.into(), source: None }
    }

    /// Names the container, image, network or volume it happened to.
    #[must_use]
    pub fn on(mut self, subject: impl fmt::Display) -> Self {
        self.subject = subject.to_string();
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence for a person, without operation and subject.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same request may succeed later with nothing changed by the caller.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout)
    }
}

struct Subject<'a>(&'a str);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, " {}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_speaks_for_its_own_level_only() {
        let error = BackendError::new(ErrorKind::Other, "start", "port is taken")
            .on("web")
            .caused_by(std::io::Error::other("inner"));
        assert_eq!(error.to_string(), "start web: port is taken");
        assert_eq!(error.source().unwrap().to_string(), "inner");
    }
}
