//! Applies documents: all or none.

use axum::Json;
use axum::extract::State;
use persona_core::document::Document;
use persona_core::wire::api::{Applied, Apply, Problem, ProblemPart};
use serde::Deserialize;

use super::input::{Body, Params};
use crate::clock::now_ms;
use crate::context::Context;
use crate::documents;
use crate::error::Refusal;
use crate::store::Draft;

/// Documents that one call may apply.
const DOCUMENT_COUNT_MAX: usize = 1_000;

/// Whether to store.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ApplyParams {
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// Stores documents, all or none; each that differs from the newest version becomes a new one.
#[utoipa::path(post, path = "/v1/apply", params(ApplyParams), request_body = Apply,
    responses((status = 200, body = Applied), (status = "4XX", body = Problem)))]
pub(super) async fn apply(
    State(context): State<Context>,
    Params(params): Params<ApplyParams>,
    Body(request): Body<Apply>,
) -> Result<Json<Applied>, Refusal> {
    let documents = read(request)?;
    let reports = context.assigner.reports();
    let applied = match params.dry_run {
        true => documents::apply(&mut Draft::new(&context.store.snapshot(), now_ms()), &reports, &documents)?,
        false => context.store.change(move |draft| documents::apply(draft, &reports, &documents)).await?,
    };
    Ok(Json(applied))
}

fn read(request: Apply) -> Result<Vec<Document>, Refusal> {
    let count = request.documents.len();
    if !(1..=DOCUMENT_COUNT_MAX).contains(&count) {
        return Err(Refusal::invalid(format!("documents has {count} entries; send 1 to {DOCUMENT_COUNT_MAX}")));
    }
    let (mut documents, mut parts) = (Vec::new(), Vec::new());
    for (index, value) in request.documents.into_iter().enumerate() {
        match Document::from_json(value) {
            Ok(document) => documents.push(document),
            Err(errors) => parts.extend(errors.into_iter().map(|error| {
                let path = format!("documents[{index}].{}", error.path);
                ProblemPart { path: path.trim_end_matches('.').to_owned(), detail: error.message }
            })),
        }
    }
    if parts.is_empty() {
        return Ok(documents);
    }
    let first = format!("{}: {}", parts[0].path, parts[0].detail);
    Err(Refusal::invalid(format!("{} problems; the first: {first}", parts.len())).with_parts(parts))
}
