//! Looking at services: everything here reads the last snapshot.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use jiff::Timestamp;
use nanny_lib::{Error, Nanny, ServiceView};
use nanny_wire::service::{ServiceDetail, ServiceList, ServiceStatus};

use super::{Name, name};
use crate::error::ApiError;
use crate::wire::query::Filter;

pub(crate) async fn list(
    State(nanny): State<Nanny>,
    uri: Uri,
) -> Result<Json<ServiceList>, ApiError> {
    let filter = Filter::parse(&uri)?;
    Ok(Json(ServiceList::new(&nanny.snapshot(), |view| filter.picks(view))))
}

pub(crate) async fn show(
    State(nanny): State<Nanny>,
    path: Name,
) -> Result<Json<ServiceDetail>, ApiError> {
    Ok(Json(find(&nanny, name(path)?)?.into()))
}

pub(crate) async fn status(
    State(nanny): State<Nanny>,
    path: Name,
) -> Result<Json<ServiceStatus>, ApiError> {
    let name = name(path)?;
    let snapshot = nanny.snapshot();
    match snapshot.services.get(name.as_str()) {
        Some(view) => Ok(Json(ServiceStatus::new(view, &snapshot, Timestamp::now()))),
        None => Err(Error::NotFound { name }.into()),
    }
}

/// The service called `name`, as it was last seen.
pub(super) fn find(nanny: &Nanny, name: String) -> Result<Arc<ServiceView>, ApiError> {
    match nanny.snapshot().services.get(name.as_str()) {
        Some(view) => Ok(Arc::clone(view)),
        None => Err(Error::NotFound { name }.into()),
    }
}
