//! Registered edges.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::wire::agent::Role;
use persona_core::wire::api::{EdgeView, EdgeWeight, MaintenanceOrder, Page, Problem, Revoke};

use super::input::{Body, ForceParams, IfMatch, Params, ReachHeader, Reaching, Tagged};
use super::page::{LabelledPageParams, page};
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::reach::{self, Overriding};
use crate::revocation;
use crate::store::{AgentId, Draft, Snapshot};
use crate::tasks::{maintenance, removal};
use crate::versions::{self, Expected};

/// All edges.
#[utoipa::path(get, path = "/v1/edges", params(LabelledPageParams), responses((status = 200, body = Page<EdgeView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<LabelledPageParams>,
) -> Result<Json<Page<EdgeView>>, Refusal> {
    let (params, selector) = params.split()?;
    let (snapshot, reports) = (context.store.snapshot(), context.assigner.reports());
    let probe = context.assigner.probe(&snapshot);
    let records = snapshot.agents.values().filter(|record| record.id.role == Role::Edge);
    let records = records.filter(|record| selector.matches(&record.all_labels()));
    let views =
        records.filter_map(|record| Some((record.id.name.clone(), views::edge(&reports, probe, &snapshot, record)?)));
    page(&params, views).map(Json)
}

/// One edge.
#[utoipa::path(get, path = "/v1/edges/{name}", params(("name" = String, Path)),
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn get(State(context): State<Context>, Path(name): Path<String>) -> Result<Tagged<EdgeView>, Refusal> {
    let (snapshot, reports) = (context.store.snapshot(), context.assigner.reports());
    let probe = context.assigner.probe(&snapshot);
    let id = AgentId { role: Role::Edge, name };
    let view = snapshot
        .agents
        .get(&id)
        .and_then(|record| Some(Tagged(versions::agent_tag(record), views::edge(&reports, probe, &snapshot, record)?)));
    view.ok_or_else(|| Refusal::not_found(format!("there is no {id}; GET /v1/edges lists what registered")))
}

/// Has new flows avoid an edge; old ones stay.
#[utoipa::path(post, path = "/v1/edges/{name}/drain", params(("name" = String, Path), ReachHeader),
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn drain(
    State(context): State<Context>,
    Path(name): Path<String>,
    Reaching(overriding): Reaching,
) -> Result<Tagged<EdgeView>, Refusal> {
    set_draining(context, name, true, overriding).await
}

/// Lets an edge take new flows again.
#[utoipa::path(post, path = "/v1/edges/{name}/undrain", params(("name" = String, Path), ReachHeader),
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn undrain(
    State(context): State<Context>,
    Path(name): Path<String>,
    Reaching(overriding): Reaching,
) -> Result<Tagged<EdgeView>, Refusal> {
    set_draining(context, name, false, overriding).await
}

async fn set_draining(
    context: Context,
    name: String,
    draining: bool,
    overriding: Overriding,
) -> Result<Tagged<EdgeView>, Refusal> {
    let id = AgentId::edge(&name);
    let change = move |draft: &mut Draft| {
        let set = |draft: &mut Draft| removal::set_draining(draft, &id, draining);
        let count = |before: &Snapshot, _: &Snapshot, changed: &bool| match *changed {
            true => reach::of_edge(before, &id.name),
            false => 0,
        };
        reach::within(draft, &overriding, set, count)
    };
    context.store.change(change).await?;
    get(State(context), Path(name)).await
}

/// Sets an edge's share of its group's flows, 1 to 1,000; 100 where nobody set one.
#[utoipa::path(put, path = "/v1/edges/{name}/weight",
    params(("name" = String, Path), ReachHeader,
        ("If-Match" = String, Header, description = "The ETag of the edge as it was read, or *")), request_body = EdgeWeight,
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn set_weight(
    State(context): State<Context>,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
    Reaching(overriding): Reaching,
    Body(request): Body<EdgeWeight>,
) -> Result<Tagged<EdgeView>, Refusal> {
    let edge = name.clone();
    let change = move |draft: &mut Draft| {
        expected.check_agent(draft.state(), &AgentId::edge(&edge))?;
        let set = |draft: &mut Draft| removal::set_weight(draft, &edge, request.weight);
        let count = |before: &Snapshot, after: &Snapshot, _: &()| {
            let (old, new) = (reach::of_edge(before, &edge), reach::of_edge(after, &edge));
            if old == new { 0 } else { old.max(new) }
        };
        reach::within(draft, &overriding, set, count)
    };
    context.store.change(change).await?;
    get(State(context), Path(name)).await
}

/// Takes an edge into maintenance: it is emptied as if it drained, and may come and go without being held back or reported as down.
#[utoipa::path(put, path = "/v1/edges/{name}/maintenance",
    params(("name" = String, Path), ReachHeader,
        ("If-Match" = String, Header, description = "The ETag of the edge as it was read, or *")), request_body = MaintenanceOrder,
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn begin_maintenance(
    State(context): State<Context>,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
    Reaching(overriding): Reaching,
    Body(order): Body<MaintenanceOrder>,
) -> Result<Tagged<EdgeView>, Refusal> {
    let begin = |draft: &mut Draft, name: &str| maintenance::begin(draft, name, order.reason);
    set_maintenance(context, name, expected, overriding, begin).await
}

/// Ends an edge's maintenance.
#[utoipa::path(delete, path = "/v1/edges/{name}/maintenance",
    params(("name" = String, Path), ReachHeader,
        ("If-Match" = String, Header, description = "The ETag of the edge as it was read, or *")),
    responses((status = 200, body = EdgeView), (status = "4XX", body = Problem)))]
pub(super) async fn end_maintenance(
    State(context): State<Context>,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
    Reaching(overriding): Reaching,
) -> Result<Tagged<EdgeView>, Refusal> {
    set_maintenance(context, name, expected, overriding, maintenance::end).await
}

async fn set_maintenance(
    context: Context,
    name: String,
    expected: Expected,
    overriding: Overriding,
    set: impl FnOnce(&mut Draft, &str) -> Result<bool, Refusal> + Send + 'static,
) -> Result<Tagged<EdgeView>, Refusal> {
    let edge = name.clone();
    let change = move |draft: &mut Draft| {
        expected.check_agent(draft.state(), &AgentId::edge(&edge))?;
        let set = |draft: &mut Draft| set(draft, &edge);
        let count = |before: &Snapshot, _: &Snapshot, changed: &bool| match *changed {
            true => reach::of_edge(before, &edge),
            false => 0,
        };
        reach::within(draft, &overriding, set, count)
    };
    context.store.change(change).await?;
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
#[utoipa::path(delete, path = "/v1/edges/{name}", params(("name" = String, Path), ForceParams, ReachHeader,
        ("If-Match" = String, Header, description = "The ETag of the edge as it was read, or *")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn delete(
    State(context): State<Context>,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
    Reaching(overriding): Reaching,
    Params(params): Params<ForceParams>,
) -> Result<StatusCode, Refusal> {
    let force = params.checked()?;
    let assigner = context.assigner.clone();
    let change = move |draft: &mut Draft| {
        expected.check_agent(draft.state(), &AgentId::edge(&name))?;
        let (reports, probe) = (assigner.reports(), assigner.probe(draft.state()));
        let delete = |draft: &mut Draft| removal::delete_edge(draft, &reports, probe, &name, force.as_deref());
        reach::within(draft, &overriding, delete, |before, _, ()| reach::of_edge(before, &name))
    };
    context.store.change(change).await?;
    Ok(StatusCode::NO_CONTENT)
}
