//! The only place that reads the clients' errors, the engine's status codes and its words.
//!
//! Podman answers 500 where Docker has a status code of its own, so its words decide.

use std::time::Duration;

use nanny_lib::backend::{BackendError, ErrorKind};
use podman_api::Error;
use podman_api::conn::Error as Transport;

use crate::cdi;
use crate::wire::Fault;

/// What `error` of the typed client means to a caller of `operation` on `subject`.
pub(crate) fn from_client(operation: &'static str, subject: &str, error: Error) -> BackendError {
    let broke = |error| {
        let message = "the connection to the engine broke";
        BackendError::new(ErrorKind::Unavailable, operation, message).on(subject).caused_by(error)
    };
    match error {
        Error::Fault { code, message } => said(operation, subject, code.as_u16(), &message),
        Error::Error(Transport::Fault { code, message }) => {
            said(operation, subject, code.as_u16(), &message)
        }
        Error::Error(Transport::Hyper(error)) if error.is_connect() => {
            let message = "cannot connect to the engine";
            BackendError::new(ErrorKind::Unavailable, operation, message)
                .on(subject)
                .caused_by(error)
        }
        Error::Error(Transport::Hyper(_) | Transport::IO(_)) | Error::IO(_) => broke(error),
        Error::SerdeJsonError(_)
        | Error::InvalidResponse(_)
        | Error::Error(Transport::SerdeJsonError(_)) => {
            BackendError::new(ErrorKind::Other, operation, "the engine's answer makes no sense")
                .on(subject)
                .caused_by(error)
        }
        _ => BackendError::new(ErrorKind::Other, operation, "the request to the engine failed")
            .on(subject)
            .caused_by(error),
    }
}

/// The same of our own client's.
pub(crate) fn from_wire(operation: &'static str, subject: &str, fault: Fault) -> BackendError {
    let fail = |kind, message: &str| BackendError::new(kind, operation, message).on(subject);
    match fault {
        Fault::Connect(error) => {
            fail(ErrorKind::Unavailable, "cannot connect to the engine").caused_by(error)
        }
        Fault::Broken(error) => {
            fail(ErrorKind::Unavailable, "the connection to the engine broke").caused_by(error)
        }
        Fault::Request(error) => {
            fail(ErrorKind::Invalid, "this cannot be asked for").caused_by(error)
        }
        Fault::Refused { status, message } => said(operation, subject, status, &message),
        Fault::TooLong => fail(ErrorKind::Other, "the engine's answer is too long"),
    }
}

/// The engine's own words about a failure, with the status that came with them.
pub(crate) fn said(
    operation: &'static str,
    subject: &str,
    status: u16,
    message: &str,
) -> BackendError {
    let mut message = once(&one_line(message)).to_owned();
    let kind = kind_of(status, &message);
    if let Some((_, devices)) = message.split_once(UNKNOWN_DEVICES) {
        let cure = cdi::cure(devices.split('=').next().unwrap_or_default().trim());
        message = format!("{message}; {cure}");
    }
    BackendError::new(kind, operation, message).on(subject)
}

/// No answer within `limit`: what was asked for may still happen.
pub(crate) fn timed_out(operation: &'static str, subject: &str, limit: Duration) -> BackendError {
    let message = format!("no answer within {} s", limit.as_secs());
    BackendError::new(ErrorKind::Timeout, operation, message).on(subject)
}

const UNKNOWN_DEVICES: &str = "unresolvable CDI devices";
/// Words by which the engine says what its status code does not.
const KNOWN: &[(&str, ErrorKind)] = &[
    ("no such container", ErrorKind::NotFound),
    ("image not known", ErrorKind::NotFound),
    ("network not found", ErrorKind::NotFound),
    ("no such network", ErrorKind::NotFound),
    ("no such volume", ErrorKind::NotFound),
    ("manifest unknown", ErrorKind::NotFound),
    ("requested access to the resource is denied", ErrorKind::NotFound),
    ("unauthorized: ", ErrorKind::Denied),
    ("name is already in use", ErrorKind::Conflict),
    ("already exists", ErrorKind::Conflict),
    ("already used", ErrorKind::Conflict),
    ("container state improper", ErrorKind::Conflict),
    ("is being used", ErrorKind::Conflict),
    ("has associated containers", ErrorKind::Conflict),
    ("address already in use", ErrorKind::Conflict),
    // What has ended is unmounted by Podman some time later, also from under a copy.
    ("intended-new-root directory", ErrorKind::Conflict),
    (UNKNOWN_DEVICES, ErrorKind::Unsupported),
    ("not supported", ErrorKind::Unsupported),
    ("unsupported ", ErrorKind::Unsupported),
    ("invalid config provided", ErrorKind::Invalid),
    ("invalid argument", ErrorKind::Invalid),
    ("invalid reference format", ErrorKind::Invalid),
    ("no such file or directory", ErrorKind::Invalid),
    ("a command that was not found", ErrorKind::Invalid),
    ("invalid mount option", ErrorKind::Invalid),
    ("no matching entries in passwd file", ErrorKind::Invalid),
];

/// Whether it may be asked for again at once: while Podman looked which addresses are free, one of the
/// machine's interfaces went.
pub(crate) fn is_passing(error: &BackendError) -> bool {
    error.message().contains("no such network interface")
}

fn kind_of(status: u16, message: &str) -> ErrorKind {
    match status {
        400 => ErrorKind::Invalid,
        401 | 403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        502..=504 => ErrorKind::Unavailable,
        _ => {
            let known = KNOWN.iter().find(|(words, _)| message.contains(words));
            known.map_or(ErrorKind::Other, |(_, kind)| *kind)
        }
    }
}

/// Without the cause that the typed client adds to a message which ends with it already.
fn once(message: &str) -> &str {
    let cuts = message.match_indices(": ");
    let repeats = |at: usize| {
        let (before, cause) = (&message[..at], &message[at + 2..]);
        before.ends_with(cause)
    };
    cuts.map(|(at, _)| at).find(|at| repeats(*at)).map_or(message, |at| &message[..at])
}

fn one_line(message: &str) -> String {
    const MAX_CHARS: usize = 1000;
    message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // All from Podman 4.3.1, as it words them with status 500.
    #[test]
    fn b11_the_words_say_what_the_status_does_not() {
        let cases = [
            (
                "error in copier subprocess: changing to intended-new-root directory \
                 \"/o/5dba/merged\": chdir /o/5dba/merged: no such file or directory",
                ErrorKind::Conflict,
            ),
            (
                "creating container storage: the container name \"i\" is already in use by 0d5a. \
                 You have to remove that container to be able to reuse that name: that name is \
                 already in use",
                ErrorKind::Conflict,
            ),
            (
                "container 0d5a must be in Created or Stopped state to be started: container \
                 state improper",
                ErrorKind::Conflict,
            ),
            (
                "cannot listen on the TCP port: listen tcp4 127.0.0.1:80: bind: address already \
                 in use",
                ErrorKind::Conflict,
            ),
            ("127.0.0.1:1/nanny/missing:1: image not known", ErrorKind::NotFound),
            ("unable to find network with name or ID nope: network not found", ErrorKind::NotFound),
            (
                "setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all",
                ErrorKind::Unsupported,
            ),
            ("invalid config provided: invalid namespace type bogus specified", ErrorKind::Invalid),
            ("statfs /no/such: no such file or directory", ErrorKind::Invalid),
            ("unknown mount option \"bogus\": invalid mount option", ErrorKind::Invalid),
            ("unable to find user ghost: no matching entries in passwd file", ErrorKind::Invalid),
            ("something that nobody has seen yet", ErrorKind::Other),
        ];
        for (words, kind) in cases {
            assert_eq!(said("create", "x", 500, words).kind(), kind, "{words}");
        }
    }

    #[test]
    fn what_to_do_about_an_unknown_device_is_said() {
        let words = "setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=1";
        let error = said("start", "x", 500, words);
        let cure =
            "`nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` describes what there is";
        assert_eq!(error.message(), format!("{words}; {cure}"));
    }

    #[test]
    fn an_interface_that_went_meanwhile_is_no_answer() {
        let words = "route ip+net: no such network interface";
        assert!(is_passing(&said("create network", "x", 500, words)));
        assert!(!is_passing(&said("create network", "x", 404, "no such network")));
    }

    #[test]
    fn a_cause_is_said_once() {
        let message =
            "no container with name or ID \"m\" found: no such container: no such container";
        let wanted = "no container with name or ID \"m\" found: no such container";
        assert_eq!(said("start", "m", 404, message).message(), wanted);
        assert_eq!(said("start", "m", 404, wanted).message(), wanted);
        assert_eq!(once("one: two"), "one: two");
    }

    #[test]
    fn b18_a_registry_out_of_reach_is_no_engine_out_of_reach() {
        let registry = "initializing source docker://localhost:1/x:latest: pinging container \
                        registry localhost:1: Get \"https://localhost:1/v2/\": dial tcp \
                        127.0.0.1:1: connect: connection refused";
        assert_eq!(said("pull", "x", 500, registry).kind(), ErrorKind::Other);
    }
}
