//! The chain of events as it is stored, for whoever wants to check it, and a signature over all of it.

use axum::Json;
use axum::extract::State;
use persona_core::audit::{AuditEntry, SealPurpose};
use persona_core::wire::api::{AuditCheckpoint, Page, Problem};
use serde::Deserialize;

use super::events::{checked_limit, checked_since};
use super::input::Params;
use crate::clock::now_ms;
use crate::context::Context;
use crate::error::Refusal;

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EntryParams {
    /// Only those after this number. Absent: from the first kept.
    since: Option<u64>,
    /// At most, 1 to 1,000.
    limit: Option<u32>,
    /// `nextPageToken` of the page before; the same as `since`.
    page_token: Option<u64>,
}

/// Events with their hashes, to the byte as they are stored, the oldest first.
#[utoipa::path(get, path = "/v1/audit/entries", params(EntryParams),
    responses((status = 200, body = Page<AuditEntry>), (status = "4XX", body = Problem)))]
pub(super) async fn entries(
    State(context): State<Context>,
    Params(params): Params<EntryParams>,
) -> Result<Json<Page<AuditEntry>>, Refusal> {
    let limit = checked_limit(params.limit)?;
    let since = checked_since(params.page_token.or(params.since))?.unwrap_or(0);
    let items = context.store.events_after(since, limit).await?;
    let is_full = items.len() == limit as usize;
    let next_page_token = items.last().filter(|_| is_full).map(|last| last.number.to_string());
    Ok(Json(Page { items, next_page_token }))
}

/// The newest event, signed now, and what stands for events that were dropped for their age.
#[utoipa::path(get, path = "/v1/audit/checkpoint",
    responses((status = 200, body = AuditCheckpoint), (status = "4XX", body = Problem)))]
pub(super) async fn checkpoint(State(context): State<Context>) -> Result<Json<AuditCheckpoint>, Refusal> {
    let snapshot = context.store.snapshot();
    let head = snapshot.event_head.map(|hash| (snapshot.event_last, hash));
    let head = head.ok_or_else(|| Refusal::not_found("no event has a hash yet: the first change begins the chain"))?;
    let checkpoint = context.authority.seal(head, SealPurpose::Head, now_ms()).map_err(Refusal::internal_from)?;
    Ok(Json(AuditCheckpoint { checkpoint, stub: snapshot.audit_stub().cloned() }))
}
