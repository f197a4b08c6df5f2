//! The one error of all routes: what kind it is decides status, code and words.

use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use nanny_lib::gpu::{Account, DeviceAccount, Refusal as GpuRefusal};
use nanny_lib::{Error, ServiceName};
use nanny_wire::gpu::{free, need, occupants};
use nanny_wire::logs::LogsError;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::guard::Refusal;

/// Why a request was not done.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The nanny's own reason.
    Nanny(Box<Error>),
    /// The guard's reason.
    Refused(Refusal),
    /// There is no such route.
    NoRoute,
    /// There is, but not with this method.
    MethodNotAllowed,
    /// Parts of the request are not what they must be.
    Invalid(Vec<FieldError>),
    /// The path cannot be read.
    BadPath,
    /// The body is too long.
    TooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body broke off.
    BodyBroken,
    /// The engine did not hand over the log.
    LogsFailed { service: ServiceName, reason: String },
    /// Nor did it in time.
    LogsTimeout { service: ServiceName },
    /// A handler panicked.
    Panicked,
}

/// One part of a request that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldError {
    /// `body` or `query`, then the field.
    pub(crate) loc: (&'static str, Option<String>),
    /// What it must be, as the rest of a sentence: `must be true or false`.
    pub(crate) msg: String,
}

impl FieldError {
    pub(crate) fn body(field: impl Into<Option<String>>, msg: impl Into<String>) -> Self {
        Self { loc: ("body", field.into()), msg: msg.into() }
    }

    pub(crate) fn query(field: &str, msg: impl Into<String>) -> Self {
        Self { loc: ("query", Some(field.to_owned())), msg: msg.into() }
    }

    fn sentence(&self) -> String {
        match &self.loc {
            ("query", Some(field)) => format!("The query parameter '{field}' {}", self.msg),
            (_, Some(field)) => format!("The field '{field}' {}", self.msg),
            (_, None) => format!("The request body {}", self.msg),
        }
    }

    fn as_json(&self) -> Value {
        let field = self.loc.1.iter().map(|field| json!(field));
        let loc: Vec<Value> = std::iter::once(json!(self.loc.0)).chain(field).collect();
        json!({"loc": loc, "msg": self.msg})
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::Nanny(Box::new(error))
    }
}

impl From<LogsError> for ApiError {
    fn from(error: LogsError) -> Self {
        match error {
            LogsError::Nanny(error) => error.into(),
            LogsError::Failed { service, reason } => Self::LogsFailed { service, reason },
            LogsError::Timeout { service } => Self::LogsTimeout { service },
            // There is no other kind, and a new one is somebody's mistake.
            _ => Self::Panicked,
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A problem document (RFC 9457) in the making: what it is about is known to the outermost layer,
/// which writes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    pub(crate) extras: Map<String, Value>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), extras: Map::new(), header: None }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extras.insert(key.to_owned(), value.into());
        self
    }

    /// What is needed, what is free, and who has the rest.
    fn with_sum(self, conflicts: &[String], account: &Account) -> Self {
        self.with("need", json!(need(account)))
            .with("free", json!(free(account)))
            .with("holders", json!(occupants(conflicts, account)))
            .with("account", json!(account))
    }

    fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// The document, about `instance`.
    pub(crate) fn document<'a>(&'a self, instance: &'a str) -> Document<'a> {
        Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            instance,
            code: self.code,
            extras: &self.extras,
        }
    }
}

/// A problem document, as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    code: &'static str,
    #[serde(flatten)]
    extras: &'a Map<String, Value>,
}

impl ApiError {
    /// What a client is told.
    pub(crate) fn problem(&self) -> Problem {
        use StatusCode as S;
        let said = |error: &Error| sentence(&error.to_string());
        match self {
            Self::Nanny(error) => match &**error {
                Error::NotFound { .. } => {
                    Problem::new(S::NOT_FOUND, "service_not_found", error.to_string())
                }
                Error::GpuConflict { holders, account } => {
                    let pinned = holders.iter().find(|holder| account.pinned.contains(holder));
                    let hint = match pinned {
                        Some(pinned) => format!(
                            "'{pinned}' is pinned, and makes way for nobody: stop it yourself, or \
                             start with {{\"queue\": true}} to wait for it"
                        ),
                        None if holders.is_empty() => WAIT_FOR_OTHERS.to_owned(),
                        None => FORCE_OR_WAIT.to_owned(),
                    };
                    Problem::new(S::CONFLICT, "gpu_conflict", said(error))
                        .with("conflicts", holders.clone())
                        .with_sum(holders, account)
                        .with("hint", hint)
                }
                Error::GpuRefused { reason, account } => {
                    let refused = Problem::new(S::CONFLICT, "gpu_refused", said(error));
                    let refused = refused.with("conflicts", Vec::<String>::new());
                    let refused = refused.with_sum(&[], account);
                    match way_out(reason, account) {
                        Some(hint) => refused.with("hint", hint),
                        None => refused,
                    }
                }
                Error::GpuMemoryHeld { restored, .. } => {
                    Problem::new(S::SERVICE_UNAVAILABLE, "gpu_memory_held", said(error))
                        .with("restored", names(restored))
                        .header(RETRY_AFTER, "15")
                }
                Error::Cancelled { .. } => {
                    Problem::new(S::CONFLICT, "start_cancelled", said(error))
                }
                Error::Protected { .. } => {
                    Problem::new(S::CONFLICT, "service_protected", said(error))
                }
                Error::StartFailed { restored, .. } => {
                    Problem::new(S::INTERNAL_SERVER_ERROR, "start_failed", said(error))
                        .with("restored", names(restored))
                }
                Error::StopFailed { .. } => {
                    Problem::new(S::INTERNAL_SERVER_ERROR, "stop_failed", said(error))
                }
                Error::StartTimeout { .. } => {
                    Problem::new(S::GATEWAY_TIMEOUT, "start_timeout", said(error))
                }
                Error::EngineUnavailable { .. } => {
                    Problem::new(S::SERVICE_UNAVAILABLE, "engine_unavailable", said(error))
                        .header(RETRY_AFTER, "5")
                }
                // Nothing will help that is waited for.
                Error::NoEngine { .. } => {
                    Problem::new(S::SERVICE_UNAVAILABLE, "engine_unavailable", said(error))
                }
                Error::Overloaded => {
                    Problem::new(S::SERVICE_UNAVAILABLE, "overloaded", said(error))
                        .header(RETRY_AFTER, "1")
                }
                Error::ShuttingDown => {
                    Problem::new(S::SERVICE_UNAVAILABLE, "shutting_down", said(error))
                        .header(RETRY_AFTER, "5")
                }
                _ => Problem::new(S::INTERNAL_SERVER_ERROR, "internal_error", INTERNAL),
            },
            Self::Refused(refusal) => refused(refusal),
            Self::NoRoute => Problem::new(S::NOT_FOUND, "not_found", "Not Found"),
            Self::MethodNotAllowed => {
                Problem::new(S::METHOD_NOT_ALLOWED, "method_not_allowed", "Method Not Allowed")
            }
            Self::Invalid(errors) => {
                let detail: Vec<_> = errors.iter().map(FieldError::sentence).collect();
                let parts: Vec<_> = errors.iter().map(FieldError::as_json).collect();
                Problem::new(S::UNPROCESSABLE_ENTITY, "invalid_request", detail.join("; "))
                    .with("errors", parts)
            }
            Self::BadPath => {
                Problem::new(S::BAD_REQUEST, "invalid_request", "The path is not valid UTF-8")
            }
            Self::TooLarge => {
                let detail = "The request body is longer than 1 MiB";
                Problem::new(S::PAYLOAD_TOO_LARGE, "payload_too_large", detail)
            }
            Self::BodyTimeout => {
                let detail = "The request body did not arrive in time";
                Problem::new(S::REQUEST_TIMEOUT, "request_timeout", detail)
            }
            Self::BodyBroken => {
                Problem::new(S::BAD_REQUEST, "invalid_request", "The request body broke off")
            }
            Self::LogsFailed { service, reason } => {
                let detail = format!("The logs of '{service}' could not be read: {reason}");
                Problem::new(S::INTERNAL_SERVER_ERROR, "logs_failed", detail)
            }
            Self::LogsTimeout { service } => {
                let detail = format!("The logs of '{service}' could not be read in time");
                Problem::new(S::GATEWAY_TIMEOUT, "logs_timeout", detail)
                    .with("hint", "Ask for less with a smaller ?tail=")
            }
            Self::Panicked => Problem::new(S::INTERNAL_SERVER_ERROR, "internal_error", INTERNAL),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        if problem.status.is_server_error() {
            tracing::warn!(code = problem.code, error = chain(&self), "request failed");
        }
        let mut response = problem.status.into_response();
        if let Some((name, value)) = problem.header.clone() {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(problem);
        response
    }
}

fn refused(refusal: &Refusal) -> Problem {
    use StatusCode as S;
    match refusal {
        Refusal::NoHost(what) => Problem::new(S::BAD_REQUEST, "invalid_request", *what),
        Refusal::ForeignHost(host) => {
            let detail = format!("The host '{host}' is not allowed; --allowed-host would allow it");
            Problem::new(S::FORBIDDEN, "forbidden_host", detail)
        }
        Refusal::ForeignOrigin(origin) => {
            let detail =
                format!("The origin '{origin}' is not allowed; --allowed-origin would allow it");
            Problem::new(S::FORBIDDEN, "forbidden_origin", detail)
        }
        Refusal::CrossSite(from) => {
            let detail = format!(
                "A request that the browser calls '{from}' is not allowed; \
                 --allowed-origin would allow its origin"
            );
            Problem::new(S::FORBIDDEN, "forbidden_origin", detail)
        }
        Refusal::NoToken => {
            let detail = "A valid bearer token is required";
            Problem::new(S::UNAUTHORIZED, "unauthorized", detail).header(WWW_AUTHENTICATE, "Bearer")
        }
        Refusal::TooManyGuesses => {
            let detail = "Too many requests came without a valid bearer token";
            Problem::new(S::TOO_MANY_REQUESTS, "too_many_requests", detail).header(RETRY_AFTER, "1")
        }
        Refusal::OddFraming => {
            let detail = "The only transfer coding that is understood is 'chunked'";
            Problem::new(S::BAD_REQUEST, "invalid_request", detail).header(CONNECTION, "close")
        }
    }
}

/// Names as JSON strings.
pub(crate) fn names(names: &[ServiceName]) -> Vec<&str> {
    names.iter().map(ServiceName::as_str).collect()
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// What went wrong with all its causes, for the log.
fn chain(error: &ApiError) -> String {
    let ApiError::Nanny(error) = error else {
        return error.problem().detail;
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&**error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What may help where neither `force` nor waiting for services would.
fn way_out(reason: &GpuRefusal, account: &Account) -> Option<String> {
    let is_in_use = |gpu: &DeviceAccount| gpu.foreign_mib > 0 || !gpu.others.is_empty();
    match reason {
        GpuRefusal::Pinned(who) => Some(format!(
            "'{who}' makes way for nobody: stop it yourself, or start with {{\"queue\": true}} and \
             without force to wait for it"
        )),
        GpuRefusal::NeverFits { .. } if !account.could_fit() => Some(TOO_LARGE.to_owned()),
        GpuRefusal::NeverFits { .. } if account.devices.iter().any(is_in_use) => {
            Some(WAIT_FOR_OTHERS.to_owned())
        }
        _ => None,
    }
}

const FORCE_OR_WAIT: &str = "Start with {\"force\": true} to stop the services that hold the GPU \
                             (containers of other hands stay), or with {\"queue\": true} to wait";
const WAIT_FOR_OTHERS: &str = "What uses the GPU is no service: end it yourself, or start with \
                               {\"queue\": true} to wait until it has ended";
const TOO_LARGE: &str = "The GPUs that it may have are too small: if it can do with less, lower \
                         vram_gb or gpus.count in its manifest";
const INTERNAL: &str = "Something went wrong inside the nanny; its log says what";

#[cfg(test)]
mod tests;
