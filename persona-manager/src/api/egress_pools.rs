//! Egress pools and how full they are.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::document::{Document, Kind};
use persona_core::lease::{LeaseState, PoolSpace};
use persona_core::wire::api::{Page, PoolView, Problem};

use super::input::Params;
use super::page::{PageParams, page};
use crate::context::Context;
use crate::documents;
use crate::error::Refusal;
use crate::store::{Snapshot, VersionRecord};

/// All egress pools.
#[utoipa::path(get, path = "/v1/egress-pools", params(PageParams), responses((status = 200, body = Page<PoolView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<PoolView>>, Refusal> {
    let snapshot = context.store.snapshot();
    let pools = snapshot.latest(Kind::EgressPool);
    page(&params, pools.filter_map(|version| Some((version.name.clone(), view(&snapshot, version)?)))).map(Json)
}

/// One egress pool.
#[utoipa::path(get, path = "/v1/egress-pools/{name}", params(("name" = String, Path)),
    responses((status = 200, body = PoolView), (status = "4XX", body = Problem)))]
pub(super) async fn get(State(context): State<Context>, Path(name): Path<String>) -> Result<Json<PoolView>, Refusal> {
    let snapshot = context.store.snapshot();
    let record = documents::existing(&snapshot, Kind::EgressPool, &name)?;
    let version = snapshot.version(Kind::EgressPool, &name, record.latest);
    let view = version.and_then(|version| view(&snapshot, version));
    view.map(Json).ok_or_else(|| Refusal::not_found(format!("there is no EgressPool named {name}")))
}

/// Deletes a pool that no persona names and nothing is leased from.
#[utoipa::path(delete, path = "/v1/egress-pools/{name}", params(("name" = String, Path)),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn delete(State(context): State<Context>, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    context.store.change(move |draft| documents::delete(draft, Kind::EgressPool, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(snapshot: &Snapshot, version: &VersionRecord) -> Option<PoolView> {
    let Document::EgressPool(pool) = version.parsed()? else { return None };
    let space = PoolSpace { addresses: pool.spec.addresses(), block_bits: pool.spec.block_bits() };
    let held = |is_resting: bool| -> u32 {
        let leases = snapshot.leases.values().filter(|lease| lease.pool == pool.metadata.name);
        let leases = leases.filter(|lease| matches!(lease.state, LeaseState::Quarantine { .. }) == is_resting);
        leases.map(|lease| lease.space.port_ranges().len() as u32).sum()
    };
    Some(PoolView {
        name: pool.metadata.name.clone(),
        document: version.document.clone(),
        blocks_total: space.block_count(),
        blocks_leased: held(false),
        blocks_quarantined: held(true),
    })
}
