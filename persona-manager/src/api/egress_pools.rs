//! Egress pools and how full they are.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::document::{Document, Kind};
use persona_core::wire::api::{Page, PoolView, Problem};

use super::input::{IfMatch, Params, Tagged};
use super::page::{LabelledPageParams, page};
use crate::context::Context;
use crate::documents;
use crate::error::Refusal;
use crate::pools::{PoolUse, forecast};
use crate::store::{Snapshot, VersionRecord};
use crate::versions;

/// All egress pools.
#[utoipa::path(get, path = "/v1/egress-pools", params(LabelledPageParams), responses((status = 200, body = Page<PoolView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<LabelledPageParams>,
) -> Result<Json<Page<PoolView>>, Refusal> {
    let (params, selector) = params.split()?;
    let snapshot = context.store.snapshot();
    let pools = snapshot.latest(Kind::EgressPool).filter(|version| selector.matches(&version.labels()));
    page(&params, pools.filter_map(|version| Some((version.name.clone(), view(&snapshot, version)?)))).map(Json)
}

/// One egress pool.
#[utoipa::path(get, path = "/v1/egress-pools/{name}", params(("name" = String, Path)),
    responses((status = 200, body = PoolView), (status = "4XX", body = Problem)))]
pub(super) async fn get(State(context): State<Context>, Path(name): Path<String>) -> Result<Tagged<PoolView>, Refusal> {
    let snapshot = context.store.snapshot();
    let record = documents::existing(&snapshot, Kind::EgressPool, &name)?;
    let version = snapshot.version(Kind::EgressPool, &name, record.latest);
    let view = version.and_then(|version| Some(Tagged(versions::resource_version(version), view(&snapshot, version)?)));
    view.ok_or_else(|| Refusal::not_found(format!("there is no EgressPool named {name}")))
}

/// Deletes a pool that no persona names and nothing is leased from.
#[utoipa::path(delete, path = "/v1/egress-pools/{name}",
    params(("name" = String, Path), ("If-Match" = String, Header, description = "The ETag of the document as it was read, or *")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn delete(
    State(context): State<Context>,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Refusal> {
    context.store.change(move |draft| documents::delete(draft, Kind::EgressPool, &name, &expected)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(snapshot: &Snapshot, version: &VersionRecord) -> Option<PoolView> {
    let Document::EgressPool(pool) = version.parsed()? else { return None };
    let of = PoolUse::of(snapshot, pool);
    let history = snapshot.pool_history.get(&pool.metadata.name);
    let full = history.and_then(|history| forecast(history, &of));
    Some(PoolView {
        name: pool.metadata.name.clone(),
        document: versions::shown(snapshot, version),
        blocks_total: of.blocks_total,
        blocks_leased: of.blocks_leased,
        blocks_quarantined: of.blocks_quarantined,
        addresses_total: of.addresses_total,
        addresses_free: of.addresses_free,
        prefixes_total: of.prefixes_total,
        prefixes_leased: of.prefixes_leased,
        prefixes_quarantined: of.prefixes_quarantined,
        full_in_ms: full.map(|full| full.in_ms),
    })
}
