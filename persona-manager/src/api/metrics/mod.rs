//! `/metrics` for Prometheus: what this manager does itself, and, where it leads, what it knows of the fleet.
//!
//! Computed from the newest state and the newest reports whenever somebody asks. Each manager answers by itself: of several
//! on one database only the one that leads knows what nodes and edges report, so sums over all of them count nothing twice.

mod fleet;
mod own;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::context::Context;
use crate::error::Refusal;
use crate::metrics::Labels;

type Gauges = Family<Labels, Gauge>;
type Reals = Family<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>;

/// What operators watch, in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics",
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(context): State<Context>) -> Result<Response, Refusal> {
    let text = render(&context).map_err(Refusal::internal_from)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn render(context: &Context) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("persona");
    let snapshot = context.store.snapshot();
    own::register(&mut registry, context, &snapshot);
    if context.store.standing().leads() {
        fleet::register(&mut registry, &snapshot, &context.assigner.reports());
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// A time as Prometheus has it: seconds since 1970.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
