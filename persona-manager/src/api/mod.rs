//! The HTTP API under `/v1`: one file per resource. A handler reads its input, calls one function, shapes the answer.

mod access_tokens;
mod activation;
mod agents;
mod apply;
mod bindings;
mod edges;
mod egress_pools;
mod events;
mod explain;
mod health;
mod identity;
mod input;
mod join_tokens;
mod leases;
mod metrics;
mod nodes;
mod page;
mod personas;
mod register;
mod request;
mod settings;
mod signals;
mod status;
mod switch;
mod views;
mod workloads;

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::{Json, Router};
use tower_http::limit::RequestBodyLimitLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::access::{gate, who_may};
use crate::context::Context;
use crate::error::{Kind, Refusal};

/// The largest body that is read, bytes.
const BODY_LENGTH_MAX: usize = 8 << 20;

/// A request that takes longer than this is given up; streams are not bound by it.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

#[derive(OpenApi)]
#[openapi(info(
    title = "Persona manager",
    description = "Personas, who wears them, and what carries them. Nodes and edges come with client certificates, people and programs with `Authorization: Bearer` and an access token.",
    license(name = "MIT OR Apache-2.0")
))]
struct Document;

/// Everything that the manager serves.
pub(crate) fn router(context: Context) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(register::register))
        .routes(routes!(agents::watch))
        .routes(routes!(agents::report))
        .routes(routes!(register::renew))
        .routes(routes!(join_tokens::create, join_tokens::list))
        .routes(routes!(join_tokens::revoke))
        .routes(routes!(access_tokens::create, access_tokens::list))
        .routes(routes!(access_tokens::revoke))
        .routes(routes!(identity::whoami))
        .routes(routes!(identity::roots))
        .routes(routes!(health::schema))
        .routes(routes!(apply::apply))
        .routes(routes!(personas::list))
        .routes(routes!(personas::get, personas::delete))
        .routes(routes!(personas::versions))
        .routes(routes!(personas::rollback))
        .routes(routes!(bindings::list))
        .routes(routes!(bindings::get, bindings::delete))
        .routes(routes!(egress_pools::list))
        .routes(routes!(egress_pools::get, egress_pools::delete))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::get, nodes::delete))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::undrain))
        .routes(routes!(nodes::revoke))
        .routes(routes!(edges::list))
        .routes(routes!(edges::get, edges::delete))
        .routes(routes!(edges::drain))
        .routes(routes!(edges::undrain))
        .routes(routes!(edges::revoke))
        .routes(routes!(edges::set_weight))
        .routes(routes!(settings::probe, settings::set_probe))
        .routes(routes!(workloads::list))
        .routes(routes!(workloads::get))
        .routes(routes!(leases::list))
        .routes(routes!(leases::get))
        .routes(routes!(switch::switch))
        .routes(routes!(switch::take_back))
        .routes(routes!(request::request))
        .routes(routes!(request::take_back))
        .routes(routes!(signals::push))
        .routes(routes!(signals::list, signals::withdraw))
        .routes(routes!(activation::trigger))
        .routes(routes!(activation::status, activation::release))
        .routes(routes!(explain::explain))
        .routes(routes!(status::status))
        .routes(routes!(events::events))
        .split_for_parts();
    let document = serde_json::to_value(document).expect("an OpenAPI document has string keys only");
    check_table(&document);
    let document = with_plain_wildcards(document);
    router
        .route("/metrics", axum::routing::get(metrics::metrics))
        .route("/v1/openapi.json", axum::routing::get(async move || Json(document)))
        .fallback(async || {
            Refusal::not_found("there is nothing at this path; GET /v1/openapi.json lists what there is")
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(Kind::MethodNotAllowed, "GET /v1/openapi.json lists each path's methods")
        })
        .layer(axum::middleware::from_fn_with_state(context.clone(), gate))
        .layer(RequestBodyLimitLayer::new(BODY_LENGTH_MAX))
        .layer(tower_http::timeout::TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIME_MAX))
        .with_state(context)
}

/// Every route has an entry in the table of who may use it; one without would be for nobody.
fn check_table(document: &serde_json::Value) {
    let paths = document["paths"].as_object().into_iter().flatten();
    let routes = paths.flat_map(|(path, item)| item.as_object().into_iter().flatten().map(move |(it, _)| (path, it)));
    for (path, method) in routes {
        let is_there = method.to_uppercase().parse().is_ok_and(|method| who_may(&method, path).is_some());
        debug_assert!(is_there, "{method} {path} is not in access/table.rs");
    }
}

/// OpenAPI knows no wildcards: `{*subject}` becomes `{subject}`.
fn with_plain_wildcards(mut document: serde_json::Value) -> serde_json::Value {
    if let Some(paths) = document["paths"].as_object_mut() {
        *paths = std::mem::take(paths).into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    }
    document
}

/// The content type of streams of JSON lines.
const NDJSON: [(header::HeaderName, &str); 2] =
    [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
