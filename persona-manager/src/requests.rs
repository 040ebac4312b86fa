//! Around everything that this manager serves, also what it passes on: each request is counted and timed by its route, and
//! what people and programs ask for is the beginning of a trace, or goes on with theirs.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::metrics::Metrics;
use crate::telemetry::{TARGET, continue_trace};

/// Puts the counting around a router.
pub(crate) fn around(router: Router, metrics: Metrics) -> Router {
    router.layer(from_fn_with_state(Arc::new(metrics), count))
}

async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = name_of(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("none".to_owned(), |path| path.as_str().to_owned());
    let span = span_of(method, &route);
    continue_trace(&span, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
    metrics.answered(method, &route, status, begun.elapsed().as_secs_f64());
    response
}

/// None for nodes and edges, which report several times in a second, and for what is not the API.
fn span_of(method: &'static str, route: &str) -> Span {
    if !route.starts_with("/v1/") || route.starts_with("/v1/agent/") {
        return Span::none();
    }
    tracing::info_span!(target: TARGET, "request",
        otel.name = format!("{method} {route}"), otel.kind = "server", http.request.method = method, http.route = route,
        http.response.status_code = Empty, otel.status_code = Empty, persona.actor = Empty)
}

/// A method as a label: whoever asks may make up others.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
