//! The HTTP API under `/v1`: one file per resource. A handler reads its input, calls one function, shapes the answer.

mod access_tokens;
mod activation;
mod agents;
mod alerts;
mod apply;
mod ask;
mod audit;
mod authority;
mod bindings;
mod edges;
mod egress_pools;
mod events;
mod explain;
mod geofeed;
mod health;
mod identity;
mod input;
mod join_tokens;
mod labels;
mod leases;
mod metrics;
mod nodes;
mod openapi;
mod own;
mod pace;
mod page;
mod personas;
mod plan;
mod register;
mod request;
mod rollouts;
mod schedules;
mod settings;
mod signals;
mod status;
mod switch;
mod views;
mod web;
mod webhooks;
mod workloads;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use serde_json::Value;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use self::events::view as event_view;
use crate::access::gate;
use crate::context::Context;
use crate::error::{Kind, Refusal};
use crate::web::harden;

/// A request that takes longer than this is given up; streams are not bound by it.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// Everything that the manager serves.
pub(crate) fn router(context: Context) -> Router {
    let (router, document) = documented();
    router
        .fallback(async || {
            Refusal::not_found("there is nothing at this path; GET /v1/openapi.json lists what there is")
        })
        .method_not_allowed_fallback(async || {
            Refusal::new(Kind::MethodNotAllowed, "GET /v1/openapi.json lists each path's methods")
        })
        .layer(Extension(document))
        .layer(axum::middleware::from_fn_with_state(context.clone(), gate))
        .layer(axum::middleware::from_fn(in_time))
        .layer(axum::middleware::from_fn(harden))
        .with_state(context)
}

/// Gives a request up that takes too long.
async fn in_time(request: Request, next: Next) -> Response {
    let answer = tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        let limit = REQUEST_TIME_MAX.as_secs();
        let detail =
            format!("it is not done after {limit} s, and whether it will be is not known: look before trying again");
        Refusal::new(Kind::TimedOut, detail).into_response()
    })
}

/// Every route, and the document that describes them.
fn documented() -> (Router<Context>, Arc<Value>) {
    let (router, document) = OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(register::register))
        .routes(routes!(agents::watch))
        .routes(routes!(agents::report))
        .routes(routes!(agents::contents))
        .routes(routes!(ask::ask))
        .routes(routes!(register::renew))
        .routes(routes!(join_tokens::create, join_tokens::list))
        .routes(routes!(join_tokens::revoke))
        .routes(routes!(access_tokens::create, access_tokens::list))
        .routes(routes!(access_tokens::revoke))
        .routes(routes!(web::root))
        .routes(routes!(web::without_slash))
        .routes(routes!(web::index))
        .routes(routes!(web::file))
        .routes(routes!(web::make_link))
        .routes(routes!(web::log_in, web::list))
        .routes(routes!(web::log_out))
        .routes(routes!(web::revoke))
        .routes(routes!(identity::whoami))
        .routes(routes!(identity::roots))
        .routes(routes!(authority::authority))
        .routes(routes!(authority::rotate))
        .routes(routes!(authority::retire_root))
        .routes(routes!(health::schema))
        .routes(routes!(apply::apply))
        .routes(routes!(apply::simulate))
        .routes(routes!(personas::list))
        .routes(routes!(personas::get, personas::delete))
        .routes(routes!(personas::versions))
        .routes(routes!(personas::rollback))
        .routes(routes!(bindings::list))
        .routes(routes!(bindings::get, bindings::delete))
        .routes(routes!(egress_pools::list))
        .routes(routes!(egress_pools::get, egress_pools::delete))
        .routes(routes!(geofeed::geofeed))
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
        .routes(routes!(edges::begin_maintenance, edges::end_maintenance))
        .routes(routes!(settings::probe, settings::set_probe))
        .routes(routes!(settings::reach, settings::set_reach))
        .routes(routes!(plan::settings, plan::set_settings))
        .routes(routes!(plan::fleet))
        .routes(routes!(plan::plan))
        .routes(routes!(plan::history))
        .routes(routes!(rollouts::start, rollouts::list))
        .routes(routes!(rollouts::get))
        .routes(routes!(rollouts::pause))
        .routes(routes!(rollouts::resume))
        .routes(routes!(rollouts::abort))
        .routes(routes!(rollouts::rollback))
        .routes(routes!(labels::get, labels::bind))
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
        .routes(routes!(activation::accuracy))
        .routes(routes!(alerts::list))
        .routes(routes!(activation::trigger))
        .routes(routes!(activation::status, activation::release))
        .routes(routes!(schedules::make, schedules::list))
        .routes(routes!(schedules::remove))
        .routes(routes!(explain::explain))
        .routes(routes!(status::status))
        .routes(routes!(events::events))
        .routes(routes!(webhooks::create, webhooks::list))
        .routes(routes!(webhooks::get, webhooks::delete))
        .routes(routes!(webhooks::dead_letters))
        .routes(routes!(webhooks::retry))
        .routes(routes!(audit::entries))
        .routes(routes!(audit::checkpoint))
        .routes(routes!(metrics::metrics))
        .routes(routes!(openapi::served))
        .split_for_parts();
    (router, Arc::new(openapi::finished(document)))
}

/// The content type of streams of JSON lines.
const NDJSON: [(header::HeaderName, &str); 2] =
    [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{ROUTES, Who};

    #[test]
    fn the_document_describes_every_route_of_the_table_and_no_other() {
        let (_, document) = documented();
        let paths = document["paths"].as_object().unwrap();
        let described = |(path, item): (&String, &Value)| -> Vec<String> {
            let methods = item.as_object().unwrap().keys();
            methods.map(|method| format!("{} {path}", method.to_uppercase())).collect()
        };
        let mut described: Vec<String> = paths.iter().flat_map(described).collect();
        let mut known: Vec<String> =
            ROUTES.iter().map(|(method, path, _)| format!("{method} {}", path.replace("{*", "{"))).collect();
        described.sort();
        known.sort();
        assert_eq!(described, known);
        for (method, path, who) in ROUTES {
            let operation = &paths[&path.replace("{*", "{")][method.to_lowercase()];
            let security = operation["security"].as_array().unwrap();
            assert_eq!(security.is_empty(), *who == Who::Everybody, "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path} says what it does");
            let statuses = operation["responses"].as_object().unwrap().keys();
            assert!(statuses.clone().any(|status| status.starts_with(['2', '3'])), "{method} {path}");
        }
    }

    #[test]
    fn what_the_document_refers_to_is_in_it() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(object) => {
                    found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    object.values().for_each(|inner| references(inner, found));
                }
                Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
                _ => {}
            }
        }
        let (_, document) = documented();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
}
