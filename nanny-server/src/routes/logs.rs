//! The log of a service, as one text.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use nanny_lib::Nanny;
use nanny_wire::answer::LogsAnswer;
use nanny_wire::logs::{self, LogRequest};

use super::services::find;
use super::{Name, name};
use crate::error::ApiError;
use crate::wire::query::LogQuery;

pub(crate) async fn logs(
    State(nanny): State<Nanny>,
    path: Name,
    uri: Uri,
) -> Result<Json<LogsAnswer>, ApiError> {
    let query = LogQuery::parse(&uri)?;
    let view = find(&nanny, name(path)?)?;
    let mut request = LogRequest::tail(query.tail);
    request.timestamps = query.timestamps;
    Ok(Json(logs::read(&nanny, &view, request).await?))
}
