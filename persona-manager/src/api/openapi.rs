//! The document that describes the API: made from the handlers, and from the table of who may use what.

use std::sync::Arc;

use axum::{Extension, Json};
use serde_json::{Value, json};
use utoipa::OpenApi;

use crate::access::{Who, who_may};

#[derive(OpenApi)]
#[openapi(info(
    title = "Persona manager",
    description = "Personas, who wears them, and what carries them. Nodes and edges come with client certificates, people and programs with `Authorization: Bearer` and an access token.",
    license(name = "MIT OR Apache-2.0")
))]
pub(super) struct Document;

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, body = Object)))]
pub(super) async fn served(Extension(document): Extension<Arc<Value>>) -> Json<Value> {
    Json(Value::clone(&document))
}

/// The document as it is served: who may use what and how refusals come is added, and wildcards are plain.
pub(super) fn finished(document: utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(document).expect("an OpenAPI document has string keys only");
    document["components"]["securitySchemes"] = json!({
        "accessToken": { "type": "http", "scheme": "bearer", "description": "Of people and programs." },
        "clientCertificate": { "type": "mutualTLS", "description": "Of nodes and edges." },
    });
    let Some(paths) = document["paths"].as_object_mut() else { return document };
    for (path, item) in paths.iter_mut() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let who = method.to_uppercase().parse().ok().and_then(|method| who_may(&method, path));
            debug_assert!(who.is_some(), "{method} {path} is not in access/table.rs");
            let is_change = !matches!(who, None | Some(Who::Everybody | Who::Agents)) && method != "get";
            if is_change {
                let given = operation["parameters"].as_array().cloned().unwrap_or_default();
                operation["parameters"] = given.into_iter().chain([reason_header()]).collect();
            }
            operation["security"] = who.map_or_else(|| json!([]), security);
            let has_body = operation.get("requestBody").is_some();
            let of_bodies = ["408", "413"].into_iter().filter(|_| has_body);
            for status in of_bodies.chain(["4XX", "5XX"]) {
                operation["responses"][status] = refusal();
            }
        }
    }
    // OpenAPI knows no wildcards.
    *paths = std::mem::take(paths).into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    document
}

/// Every change of people and programs may say why.
fn reason_header() -> Value {
    json!({ "name": "Persona-Reason", "in": "header", "required": false, "description": "Why; events keep it.",
        "schema": { "type": "string", "minLength": 1, "maxLength": 1000 } })
}

/// How every refusal comes (RFC 9457).
fn refusal() -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    json!({ "description": "A refusal, with what is wrong and what would be valid",
        "content": { "application/problem+json": { "schema": schema } } })
}

fn security(who: Who) -> Value {
    match who {
        Who::Everybody => json!([]),
        Who::Agents => json!([{ "clientCertificate": [] }]),
        Who::Known => json!([{ "accessToken": [] }, { "clientCertificate": [] }]),
        Who::Roles(_) => json!([{ "accessToken": [] }]),
    }
}
