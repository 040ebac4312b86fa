//! Registered edges.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::wire::agent::Role;
use persona_core::wire::api::{EdgeView, EdgeWeight, Page, Problem, Revoke};

use super::input::{Body, ForceParams, Params};
use super::page::{PageParams, page};
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::revocation;
use crate::store::{AgentId, Draft};
use crate::tasks::removal;

/// All edges.
#[utoipa::path(get, path = "/v1/edges", params(PageParams), responses((status = 200, body = Page<EdgeView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<EdgeView>>, Refusal> {
    let (snapshot, reports) = (context.store.snapshot(), context.assigner.reports());
    let probe = context.assigner.probe(&snapshot);
    let records = snapshot.agents.values().filter(|record| record.id.role == Role::Edge);
    let views =
        records.filter_map(|record| Some((record.id.name.clone(), views::edge(&reports, probe, &snapshot, record)?)));
    page(&params, views).map(Json)
}

/// One edge.
#[utoipa::path(get, path = "/v1/edges/{name}", params(("name" = String, Path)),
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn get(State(context): State<Context>, Path(name): Path<String>) -> Result<Json<EdgeView>, Refusal> {
    let (snapshot, reports) = (context.store.snapshot(), context.assigner.reports());
    let probe = context.assigner.probe(&snapshot);
    let id = AgentId { role: Role::Edge, name };
    let view = snapshot.agents.get(&id).and_then(|record| views::edge(&reports, probe, &snapshot, record));
    view.map(Json).ok_or_else(|| Refusal::not_found(format!("there is no {id}; GET /v1/edges lists what registered")))
}

/// Has new flows avoid an edge; old ones stay.
#[utoipa::path(post, path = "/v1/edges/{name}/drain", params(("name" = String, Path)),
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn drain(State(context): State<Context>, Path(name): Path<String>) -> Result<Json<EdgeView>, Refusal> {
    let id = AgentId::edge(&name);
    context.store.change(move |draft| removal::set_draining(draft, &id, true)).await?;
    get(State(context), Path(name)).await
}

/// Lets an edge take new flows again.
#[utoipa::path(post, path = "/v1/edges/{name}/undrain", params(("name" = String, Path)),
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn undrain(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<EdgeView>, Refusal> {
    let id = AgentId::edge(&name);
    context.store.change(move |draft| removal::set_draining(draft, &id, false)).await?;
    get(State(context), Path(name)).await
}

/// Sets an edge's share of its group's flows, 1 to 1,000; 100 where nobody set one.
#[utoipa::path(put, path = "/v1/edges/{name}/weight", params(("name" = String, Path)), request_body = EdgeWeight,
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn set_weight(
    State(context): State<Context>,
    Path(name): Path<String>,
    Body(request): Body<EdgeWeight>,
) -> Result<Json<EdgeView>, Refusal> {
    let edge = name.clone();
    context.store.change(move |draft| removal::set_weight(draft, &edge, request.weight)).await?;
    get(State(context), Path(name)).await
}

/// Revokes the key of an edge: it is out at once, and takes nobody new.
#[utoipa::path(post, path = "/v1/edges/{name}/revoke", params(("name" = String, Path)), request_body = Revoke,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(
    State(context): State<Context>,
    Path(name): Path<String>,
    Body(order): Body<Revoke>,
) -> Result<StatusCode, Refusal> {
    let id = AgentId::edge(&name);
    context.store.change(move |draft| revocation::revoke(draft, &id, &order)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes an edge. It forgets its leases first; one that still carries flows takes `force` with a reason.
#[utoipa::path(delete, path = "/v1/edges/{name}", params(("name" = String, Path), ForceParams),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn delete(
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(params): Params<ForceParams>,
) -> Result<StatusCode, Refusal> {
    let force = params.checked()?;
    let assigner = context.assigner.clone();
    let change = move |draft: &mut Draft| {
        let (reports, probe) = (assigner.reports(), assigner.probe(draft.state()));
        removal::delete_edge(draft, &reports, probe, &name, force.as_deref())
    };
    context.store.change(change).await?;
    Ok(StatusCode::NO_CONTENT)
}
