//! Whether the manager lives and serves, and the documents' schema.

use axum::Json;
use axum::extract::State;

use crate::context::Context;
use crate::error::Refusal;

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String)))]
pub(super) async fn live() -> &'static str {
    "alive\n"
}

/// Whether the store answers.
#[utoipa::path(get, path = "/readyz", responses((status = 200, body = String), (status = 503, description = "not now")))]
pub(super) async fn ready(State(context): State<Context>) -> Result<&'static str, Refusal> {
    context.store.events_after(u64::MAX >> 1, 1).await?;
    Ok("ready\n")
}

/// The JSON Schema of all documents.
#[utoipa::path(get, path = "/v1/schema", responses((status = 200, body = Object)))]
pub(super) async fn schema() -> Json<serde_json::Value> {
    Json(persona_core::document::json_schema())
}
