//! Reading a request's body: so much, so long, and whatever its content type says.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::error::ApiError;

/// The whole body.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let announced = headers.get(CONTENT_LENGTH).map(HeaderValue::to_str);
    if announced.is_some_and(|length| length.is_ok_and(is_too_long)) {
        return Err(ApiError::TooLarge);
    }
    let read = tokio::time::timeout(DEADLINE, Limited::new(body, LIMIT).collect()).await;
    match read.map_err(|_| ApiError::BodyTimeout)? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge),
        Err(_) => Err(ApiError::BodyBroken),
    }
}

fn is_too_long(length: &str) -> bool {
    length.parse().is_ok_and(|length: usize| length > LIMIT)
}

const LIMIT: usize = 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(30);
