//! About the nanny itself. Nothing here waits for an engine.

use axum::Json;
use axum::extract::State;
use nanny_lib::Nanny;
use nanny_wire::answer::{OwnHealth, Welcome};

pub(crate) async fn welcome(State(nanny): State<Nanny>) -> Json<Welcome> {
    Json((&*nanny.snapshot()).into())
}

pub(crate) async fn health(State(nanny): State<Nanny>) -> Json<OwnHealth> {
    Json((&*nanny.snapshot()).into())
}
