//! Registered nodes.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::ids::{InvalidName, NodeName};
use persona_core::wire::agent::Role;
use persona_core::wire::api::{NodeView, Page, Problem, Revoke};

use super::input::{Body, ForceParams, IfMatch, Params, ReachHeader, Reaching, Tagged};
use super::page::{LabelledPageParams, page};
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::reach;
use crate::revocation;
use crate::store::{AgentId, Draft};
use crate::tasks::removal;
use crate::versions;

/// All nodes.
#[utoipa::path(get, path = "/v1/nodes", params(LabelledPageParams), responses((status = 200, body = Page<NodeView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<LabelledPageParams>,
) -> Result<Json<Page<NodeView>>, Refusal> {
    let (params, selector) = params.split()?;
    let (snapshot, live) = (context.store.snapshot(), context.live.agents().clone());
    let records = snapshot.agents.values().filter(|record| record.id.role == Role::Node);
    let records = records.filter(|record| selector.matches(&record.all_labels()));
    let views = records
        .filter_map(|record| Some((record.id.name.clone(), views::node(&snapshot, record, live.get(&record.id))?)));
    page(&params, views).map(Json)
}

/// One node.
#[utoipa::path(get, path = "/v1/nodes/{name}", params(("name" = String, Path)),
    responses((status = 200, body = NodeView), (status = "4XX", body = Problem)))]
pub(super) async fn get(State(context): State<Context>, Path(name): Path<String>) -> Result<Tagged<NodeView>, Refusal> {
    let (snapshot, live) = (context.store.snapshot(), context.live.agents().clone());
    let id = AgentId { role: Role::Node, name };
    let view = snapshot
        .agents
        .get(&id)
        .and_then(|record| Some(Tagged(versions::agent_tag(record), views::node(&snapshot, record, live.get(&id))?)));
    view.ok_or_else(|| Refusal::not_found(format!("there is no {id}; GET /v1/nodes lists what registered")))
}

/// Has a node take nobody new; who wears something there goes on.
#[utoipa::path(post, path = "/v1/nodes/{name}/drain", params(("name" = String, Path)),
    responses((status = 200, body = NodeView), (status = "4XX", body = Problem)))]
pub(super) async fn drain(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Tagged<NodeView>, Refusal> {
    set_draining(context, name, true).await
}

/// Lets a node take subjects again.
#[utoipa::path(post, path = "/v1/nodes/{name}/undrain", params(("name" = String, Path)),
    responses((status = 200, body = NodeView), (status = "4XX", body = Problem)))]
pub(super) async fn undrain(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Tagged<NodeView>, Refusal> {
    set_draining(context, name, false).await
}

async fn set_draining(context: Context, name: String, draining: bool) -> Result<Tagged<NodeView>, Refusal> {
    let id = AgentId { role: Role::Node, name: name.clone() };
    context.store.change(move |draft| removal::set_draining(draft, &id, draining)).await?;
    get(State(context), Path(name)).await
}

/// Revokes the key of a node: it is out at once, and takes nobody new.
#[utoipa::path(post, path = "/v1/nodes/{name}/revoke", params(("name" = String, Path)), request_body = Revoke,
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(
    State(context): State<Context>,
    Path(name): Path<String>,
    Body(order): Body<Revoke>,
) -> Result<StatusCode, Refusal> {
    let id = AgentId { role: Role::Node, name };
    context.store.change(move |draft| revocation::revoke(draft, &id, &order)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a node. While its subjects hold leases it takes `force` with a reason; the edges then forget those.
#[utoipa::path(delete, path = "/v1/nodes/{name}", params(("name" = String, Path), ForceParams, ReachHeader,
        ("If-Match" = String, Header, description = "The ETag of the node as it was read, or *")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn delete(
    State(context): State<Context>,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
    Reaching(overriding): Reaching,
    Params(params): Params<ForceParams>,
) -> Result<StatusCode, Refusal> {
    let force = params.checked()?;
    let node: NodeName = name.parse().map_err(|error: InvalidName| Refusal::invalid(error.to_string()))?;
    let change = move |draft: &mut Draft| {
        expected.check_agent(draft.state(), &AgentId::node(&node))?;
        let delete = |draft: &mut Draft| removal::delete_node(draft, &node, force.as_deref());
        reach::within(draft, &overriding, delete, |before, _, ()| reach::of_node(before, node.as_str()))
    };
    context.store.change(change).await?;
    Ok(StatusCode::NO_CONTENT)
}
