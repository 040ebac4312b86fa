//! Registered edges.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::wire::agent::Role;
use persona_core::wire::api::{EdgeView, Page, Problem};

use super::input::Params;
use super::page::{PageParams, page};
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::store::AgentId;

/// All edges.
#[utoipa::path(get, path = "/v1/edges", params(PageParams), responses((status = 200, body = Page<EdgeView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<EdgeView>>, Refusal> {
    let (snapshot, live) = (context.store.snapshot(), context.live.agents());
    let records = snapshot.agents.values().filter(|record| record.id.role == Role::Edge);
    let views = records
        .filter_map(|record| Some((record.id.name.clone(), views::edge(&snapshot, record, live.get(&record.id))?)));
    page(&params, views).map(Json)
}

/// One edge.
#[utoipa::path(get, path = "/v1/edges/{name}", params(("name" = String, Path)),
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn get(State(context): State<Context>, Path(name): Path<String>) -> Result<Json<EdgeView>, Refusal> {
    let (snapshot, live) = (context.store.snapshot(), context.live.agents());
    let id = AgentId { role: Role::Edge, name };
    let view = snapshot.agents.get(&id).and_then(|record| views::edge(&snapshot, record, live.get(&id)));
    view.map(Json).ok_or_else(|| Refusal::not_found(format!("there is no {id}; GET /v1/edges lists what registered")))
}
