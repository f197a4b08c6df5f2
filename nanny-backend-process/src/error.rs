//! The only place that reads the errors of the system.

use std::io;

use nanny_lib::ContainerId;
use nanny_lib::backend::{BackendError, ErrorKind};

use crate::record::ERROR_BYTES;

/// What `error`, which came about with `what`, means to a caller of `operation` on `subject`.
pub(crate) fn from_io(
    operation: &'static str,
    subject: &str,
    what: &str,
    error: &io::Error,
) -> BackendError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        _ => ErrorKind::Other,
    };
    BackendError::new(kind, operation, format!("{what}: {error}")).on(subject)
}

pub(crate) fn not_found(operation: &'static str, id: &ContainerId) -> BackendError {
    BackendError::new(ErrorKind::NotFound, operation, "no such container").on(id)
}

pub(crate) fn conflict(
    operation: &'static str,
    subject: &str,
    message: impl Into<String>,
) -> BackendError {
    BackendError::new(ErrorKind::Conflict, operation, message).on(subject)
}

pub(crate) fn timed_out(operation: &'static str, subject: &str, message: &str) -> BackendError {
    BackendError::new(ErrorKind::Timeout, operation, message).on(subject)
}

/// `message` on one line, short enough for a record.
pub(crate) fn one_line(message: &str) -> String {
    let mut line: String = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.retain(|c| !c.is_control());
    line.truncate(line.floor_char_boundary(ERROR_BYTES));
    line
}
