//! Egress pools and how full they are.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::document::{Document, Kind};
use persona_core::lease::{LeaseState, Occupancy};
use persona_core::wire::api::{Page, PoolView, Problem};

use super::input::{IfMatch, Params, Tagged};
use super::page::{PageParams, page};
use crate::context::Context;
use crate::documents;
use crate::error::Refusal;
use crate::store::{LeaseRecord, Snapshot, VersionRecord};
use crate::tasks::facts::space_of;
use crate::versions;

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
    let space = space_of(&pool.spec);
    let mut occupancy = Occupancy::default();
    snapshot.leases.values().for_each(|lease| occupancy.hold(&lease.space));
    let of_pool = || snapshot.leases.values().filter(|lease| lease.pool == pool.metadata.name);
    let is_resting = |lease: &&Arc<LeaseRecord>| matches!(lease.state, LeaseState::Quarantine { .. });
    let blocks = |lease: &Arc<LeaseRecord>| match &lease.space {
        space_held if space_held.is_whole_address() => space.blocks_per_address(),
        space_held => space_held.port_ranges().len() as u32,
    };
    let prefixes = |lease: &Arc<LeaseRecord>| u32::from(lease.space.prefix().is_some());
    Some(PoolView {
        name: pool.metadata.name.clone(),
        document: versions::shown(snapshot, version),
        blocks_total: space.block_count(),
        blocks_leased: of_pool().filter(|lease| !is_resting(lease)).map(blocks).sum(),
        blocks_quarantined: of_pool().filter(is_resting).map(blocks).sum(),
        addresses_total: space.addresses.len() as u32,
        addresses_free: space.free_address_count(&occupancy),
        prefixes_total: space.prefix_count(),
        prefixes_leased: of_pool().filter(|lease| !is_resting(lease)).map(prefixes).sum(),
        prefixes_quarantined: of_pool().filter(is_resting).map(prefixes).sum(),
    })
}
