//! Where egress addresses are, for databases of locations.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use persona_core::document::{Document, Kind};
use persona_core::geofeed;
use persona_core::wire::api::Problem;

use crate::context::Context;
use crate::error::Refusal;

/// The geofeed of all egress pools (RFC 8805), for everybody where the manager's configuration publishes it.
#[utoipa::path(get, path = "/v1/geofeed",
    responses((status = 200, body = String, content_type = "text/csv"), (status = "4XX", body = Problem)))]
pub(super) async fn geofeed(State(context): State<Context>) -> Result<Response, Refusal> {
    if !context.config.publish_geofeed {
        let why = "this manager publishes no geofeed: set publish_geofeed, or use persona-ctl egress geofeed";
        return Err(Refusal::not_found(why));
    }
    let snapshot = context.store.snapshot();
    let pools = snapshot.latest(Kind::EgressPool).filter_map(|version| match version.parsed()? {
        Document::EgressPool(pool) => Some(pool),
        _ => None,
    });
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], geofeed::geofeed(pools).text).into_response())
}
