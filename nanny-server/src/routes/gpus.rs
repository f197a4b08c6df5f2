//! Looking at the GPUs: what was last seen of them, and what is promised to whom.

use axum::Json;
use axum::extract::State;
use nanny_lib::Nanny;
use nanny_wire::gpu::GpuList;

pub(crate) async fn list(State(nanny): State<Nanny>) -> Json<GpuList> {
    Json((&*nanny.snapshot()).into())
}
