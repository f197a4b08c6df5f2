//! The only place that reads the client's errors and the engine's status codes.

use std::time::Duration;

use bollard::errors::Error;
use nanny_lib::backend::{BackendError, ErrorKind};

/// What `error` means to a caller of `operation` on `subject`.
pub(crate) fn from_client(operation: &'static str, subject: &str, error: Error) -> BackendError {
    let (kind, message) = match &error {
        Error::DockerResponseServerError { status_code, message } => {
            (kind_of(*status_code, message), one_line(message))
        }
        Error::DockerStreamError { error } => (kind_of(500, error), one_line(error)),
        Error::RequestTimeoutError => (ErrorKind::Timeout, "no answer in time".to_owned()),
        Error::SocketNotFoundError(path) => {
            (ErrorKind::Unavailable, format!("there is no socket {path}"))
        }
        Error::HyperLegacyError { err } if err.is_connect() => {
            (ErrorKind::Unavailable, "cannot connect to the engine".to_owned())
        }
        Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } => {
            (ErrorKind::Unavailable, "the connection to the engine broke".to_owned())
        }
        Error::IOError { .. } => {
            (ErrorKind::Unavailable, "the connection to the engine broke".to_owned())
        }
        Error::JsonDataError { .. } | Error::JsonSerdeError { .. } => {
            (ErrorKind::Other, "the engine's answer makes no sense".to_owned())
        }
        _ => (ErrorKind::Other, "the request to the engine failed".to_owned()),
    };
    // The engine's own words are the message already; repeating them as a source would double them.
    let from_engine =
        matches!(error, Error::DockerResponseServerError { .. } | Error::DockerStreamError { .. });
    let answer = BackendError::new(kind, operation, message).on(subject);
    if from_engine { answer } else { answer.caused_by(error) }
}

/// No answer within `limit`: what was asked for may still happen.
pub(crate) fn timed_out(operation: &'static str, subject: &str, limit: Duration) -> BackendError {
    let message = format!("no answer within {} s", limit.as_secs());
    BackendError::new(ErrorKind::Timeout, operation, message).on(subject)
}

/// Whether the client lost the end of a stream of JSON, although the engine had said all of it.
pub(crate) fn is_torn_stream(error: &Error) -> bool {
    matches!(error, Error::IOError { err } if err.to_string().contains("bytes remaining on stream"))
}

/// Texts by which the engine says more than its status code does.
const KNOWN: &[(&str, ErrorKind)] = &[
    ("port is already allocated", ErrorKind::Conflict),
    ("address already in use", ErrorKind::Conflict),
    ("has active endpoints", ErrorKind::Conflict),
    ("volume is in use", ErrorKind::Conflict),
    ("could not select device driver", ErrorKind::Unsupported),
    ("unknown or invalid runtime name", ErrorKind::Unsupported),
    ("unresolvable CDI devices", ErrorKind::Unsupported),
    ("does not support reading", ErrorKind::Unsupported),
    ("manifest unknown", ErrorKind::NotFound),
    ("not found: manifest", ErrorKind::NotFound),
    ("pull access denied", ErrorKind::NotFound),
    ("repository does not exist", ErrorKind::NotFound),
    ("unauthorized: ", ErrorKind::Denied),
    ("error gathering device information", ErrorKind::Invalid),
];

fn kind_of(status: u16, message: &str) -> ErrorKind {
    match status {
        400 => ErrorKind::Invalid,
        401 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        _ => KNOWN.iter().find(|(text, _)| message.contains(text)).map_or(
            match status {
                403 => ErrorKind::Denied,
                501 => ErrorKind::Unsupported,
                502..=504 => ErrorKind::Unavailable,
                _ => ErrorKind::Other,
            },
            |(_, kind)| *kind,
        ),
    }
}

fn one_line(message: &str) -> String {
    const MAX_CHARS: usize = 1000;
    message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> BackendError {
        let error = Error::DockerResponseServerError { status_code, message: message.to_owned() };
        from_client("start", "web", error)
    }

    #[test]
    fn status_codes_have_kinds() {
        let kinds = [400, 401, 403, 404, 409, 500, 503].map(|code| answer(code, "").kind());
        assert_eq!(
            kinds,
            [
                ErrorKind::Invalid,
                ErrorKind::Denied,
                ErrorKind::Denied,
                ErrorKind::NotFound,
                ErrorKind::Conflict,
                ErrorKind::Other,
                ErrorKind::Unavailable,
            ]
        );
    }

    #[test]
    fn texts_say_more_than_a_500() {
        let port = "driver failed programming external connectivity on endpoint web (6a): Bind \
                    for 0.0.0.0:8080 failed: port is already allocated";
        assert_eq!(answer(500, port).kind(), ErrorKind::Conflict);
        let driver = r#"could not select device driver "nvidia" with capabilities: [[gpu]]"#;
        assert_eq!(answer(500, driver).kind(), ErrorKind::Unsupported);
        assert_eq!(answer(500, driver).message(), driver);
        let endpoints = "error while removing network: network x id 1 has active endpoints";
        assert_eq!(answer(403, endpoints).kind(), ErrorKind::Conflict);
    }

    #[test]
    fn b18_a_registry_out_of_reach_is_no_engine_out_of_reach() {
        let registry =
            r#"Get "http://localhost:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused"#;
        let error = answer(500, registry);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Other, registry));
    }

    #[test]
    fn a_missing_socket_is_an_engine_out_of_reach() {
        let error = from_client("list", "", Error::SocketNotFoundError("/nowhere".to_owned()));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_retryable());
    }
}
