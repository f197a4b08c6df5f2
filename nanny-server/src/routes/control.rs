//! Changing what runs.
//!
//! A handler only hands a request to the nanny and waits for the answer: if its client hangs up,
//! the answer is lost and what was asked for goes on.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use nanny_lib::Nanny;
use nanny_wire::answer::{PlanAnswer, RediscoverAnswer, StartAnswer, StopAnswer};

use super::services::find;
use super::{Name, name};
use crate::body;
use crate::error::ApiError;
use crate::wire::query;
use crate::wire::request::{nothing, start_options, stop_options};

pub(crate) async fn start(
    State(nanny): State<Nanny>,
    path: Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<StartAnswer>, ApiError> {
    let name = name(path)?;
    let options = start_options(&body::read(&headers, body).await?)?;
    let started = nanny.start(&name, options).await?;
    Ok(Json(StartAnswer::started(&name, health_endpoint(&nanny, &name), started)))
}

pub(crate) async fn restart(
    State(nanny): State<Nanny>,
    path: Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<StartAnswer>, ApiError> {
    let name = name(path)?;
    let options = start_options(&body::read(&headers, body).await?)?;
    let started = nanny.restart(&name, options).await?;
    Ok(Json(StartAnswer::restarted(&name, health_endpoint(&nanny, &name), started)))
}

pub(crate) async fn stop(
    State(nanny): State<Nanny>,
    path: Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<StopAnswer>, ApiError> {
    let name = name(path)?;
    let options = stop_options(&body::read(&headers, body).await?)?;
    let stopped = nanny.stop(&name, options).await?;
    Ok(Json(StopAnswer::new(&name, &stopped)))
}

pub(crate) async fn plan(
    State(nanny): State<Nanny>,
    path: Name,
    uri: Uri,
) -> Result<Json<PlanAnswer>, ApiError> {
    let name = name(path)?;
    let plan = nanny.plan(&name, query::plan_options(&uri)?).await?;
    Ok(Json(PlanAnswer::new(&name, plan)))
}

pub(crate) async fn rediscover(
    State(nanny): State<Nanny>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RediscoverAnswer>, ApiError> {
    nothing(&body::read(&headers, body).await?)?;
    Ok(Json(nanny.rediscover().await?.into()))
}

fn health_endpoint(nanny: &Nanny, name: &str) -> Option<String> {
    find(nanny, name.to_owned()).ok()?.manifest.health_endpoint.clone()
}
