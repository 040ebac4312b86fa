//! Registered nodes.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::wire::agent::Role;
use persona_core::wire::api::{NodeView, Page, Problem};

use super::input::Params;
use super::page::{PageParams, page};
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::store::AgentId;

/// All nodes.
#[utoipa::path(get, path = "/v1/nodes", params(PageParams), responses((status = 200, body = Page<NodeView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<NodeView>>, Refusal> {
    let (snapshot, live) = (context.store.snapshot(), context.live.agents());
    let records = snapshot.agents.values().filter(|record| record.id.role == Role::Node);
    let views = records
        .filter_map(|record| Some((record.id.name.clone(), views::node(&snapshot, record, live.get(&record.id))?)));
    page(&params, views).map(Json)
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{name}", params(("name" = String, Path)),
    responses((status = 200, body = NodeView), (status = "4XX", body = Problem)))]
pub(super) async fn get(State(context): State<Context>, Path(name): Path<String>) -> Result<Json<NodeView>, Refusal> {
    let (snapshot, live) = (context.store.snapshot(), context.live.agents());
    let id = AgentId { role: Role::Node, name };
    let view = snapshot.agents.get(&id).and_then(|record| views::node(&snapshot, record, live.get(&id)));
    view.map(Json).ok_or_else(|| Refusal::not_found(format!("there is no {id}; GET /v1/nodes lists what registered")))
}
