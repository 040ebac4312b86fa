//! Leases in every state.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::ids::LeaseId;
use persona_core::wire::api::{LeaseView, Page, Problem};

use super::input::Params;
use super::page::{PageParams, page};
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::store::{AgentId, LeaseRecord};

/// All leases, the oldest first.
#[utoipa::path(get, path = "/v1/leases", params(PageParams), responses((status = 200, body = Page<LeaseView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<LeaseView>>, Refusal> {
    let (snapshot, live) = (context.store.snapshot(), context.live.agents().clone());
    let view = |lease: &LeaseRecord| views::lease(lease, live.get(&AgentId::node(lease.subject.node())));
    page(&params, snapshot.leases.values().map(|lease| (format!("{:020}", lease.id), view(lease)))).map(Json)
}

/// One lease.
#[utoipa::path(get, path = "/v1/leases/{id}", params(("id" = u64, Path)),
    responses((status = 200, body = LeaseView), (status = "4XX", body = Problem)))]
pub(super) async fn get(State(context): State<Context>, Path(id): Path<String>) -> Result<Json<LeaseView>, Refusal> {
    let number = id.parse().map_err(|_| Refusal::invalid(format!("lease id {id:?} is not a number")))?;
    let (snapshot, live) = (context.store.snapshot(), context.live.agents().clone());
    let view = |lease: &LeaseRecord| views::lease(lease, live.get(&AgentId::node(lease.subject.node())));
    let view = snapshot.leases.get(&LeaseId(number)).map(|lease| view(lease));
    view.map(Json).ok_or_else(|| Refusal::not_found(format!("there is no lease {id}; it may be over")))
}
