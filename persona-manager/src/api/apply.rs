//! Applies documents: all or none.

use axum::Json;
use axum::extract::State;
use persona_core::document::Document;
use persona_core::wire::api::{Applied, Apply, Problem, ProblemPart};
use persona_core::wire::planning::WhatIf;
use serde::Deserialize;
use serde_json::Value;

use super::input::{Body, KeyHeader, KeyedBody, Params, ReachHeader, Reaching};
use super::page::selector;
use crate::clock::now_ms;
use crate::context::Context;
use crate::documents::{self, Conflicts, Pruning};
use crate::error::Refusal;
use crate::once;
use crate::reach;
use crate::store::Draft;
use crate::what_if::what_if;

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
    /// Go over documents that were changed since they were read.
    #[serde(default)]
    force_conflicts: bool,
    /// In the same transaction, delete all documents with these labels (`app=shop,tier!=old`, one KEY=VALUE at least) that are
    /// not among those of the call.
    prune: Option<String>,
    /// How many a dry run said that these are; any other number is refused. Needed with `prune`, but for a dry run.
    prune_count: Option<usize>,
}

impl ApplyParams {
    fn pruning(&self) -> Result<Option<Pruning>, Refusal> {
        let Some(text) = &self.prune else {
            return match self.prune_count {
                None => Ok(None),
                Some(_) => Err(Refusal::invalid("pruneCount goes with prune: leave it out")),
            };
        };
        let selector = selector(text)?;
        if !selector.is_scope() {
            let detail =
                format!("prune is {text:?}: name a label with its value, so that only your own documents are meant");
            return Err(Refusal::invalid(detail));
        }
        match (self.dry_run, self.prune_count) {
            (false, None) => {
                Err(Refusal::invalid("pruneCount is missing: send how many documents a dry run said would be deleted"))
            }
            (_, count) => Ok(Some(Pruning { selector, count })),
        }
    }
}

/// Stores documents, all or none; each that differs from the newest version becomes a new one. What is stored already needs
/// the `metadata.resourceVersion` that it was read with.
#[utoipa::path(post, path = "/v1/apply", params(ApplyParams, KeyHeader, ReachHeader), request_body = Apply,
    responses((status = 200, body = Applied), (status = "4XX", body = Problem)))]
pub(super) async fn apply(
    State(context): State<Context>,
    Params(params): Params<ApplyParams>,
    Reaching(overriding): Reaching,
    KeyedBody(request, once): KeyedBody<Apply>,
) -> Result<Json<Applied>, Refusal> {
    let (documents, pruning) = (read(&request)?, params.pruning()?);
    let assigner = context.assigner.clone();
    let conflicts = if params.force_conflicts { Conflicts::Override } else { Conflicts::Refuse };
    let apply = move |draft: &mut Draft| {
        let apply = |draft: &mut Draft| {
            let mut applied = documents::apply(draft, &assigner.reports(), &documents, conflicts)?;
            if let Some(pruning) = &pruning {
                applied.results.extend(documents::prune(draft, &assigner, &documents, pruning)?);
            }
            Ok(applied)
        };
        reach::within(draft, &overriding, apply, |before, after, _| reach::of_documents(&assigner, before, after))
    };
    let applied = match params.dry_run {
        true => apply(&mut Draft::new(&context.store.snapshot(), now_ms()))?,
        false => context.store.change(move |draft| once::make(draft, once.as_ref(), apply)).await?,
    };
    Ok(Json(applied))
}

/// Says who would wear something else, and how full pools and edges would get, if documents were applied. Nothing is stored.
#[utoipa::path(post, path = "/v1/simulate", request_body = Apply,
    responses((status = 200, body = WhatIf), (status = "4XX", body = Problem)))]
pub(super) async fn simulate(
    State(context): State<Context>,
    Body(request): Body<Apply>,
) -> Result<Json<WhatIf>, Refusal> {
    let documents = read(&request)?;
    let (assigner, snapshot) = (context.assigner.clone(), context.store.snapshot());
    let work = move || what_if(&assigner, &snapshot, &documents, now_ms());
    tokio::task::spawn_blocking(work).await.map_err(Refusal::internal_from)?.map(Json)
}

pub(super) fn read(request: &Apply) -> Result<Vec<Document>, Refusal> {
    let count = request.documents.len();
    if !(1..=DOCUMENT_COUNT_MAX).contains(&count) {
        return Err(Refusal::invalid(format!("documents has {count} entries; send 1 to {DOCUMENT_COUNT_MAX}")));
    }
    let (mut documents, mut parts) = (Vec::new(), Vec::new());
    for (index, value) in request.documents.iter().enumerate() {
        match Document::from_json(value.clone()) {
            Ok(document) => documents.push(document),
            Err(errors) => parts.extend(errors.into_iter().map(|error| {
                let path = format!("documents[{index}].{}", error.path);
                let pointer = format!("/documents/{index}{}", pointer(value, &error.path));
                ProblemPart {
                    path: path.trim_end_matches('.').to_owned(),
                    pointer: Some(pointer),
                    detail: error.message,
                }
            })),
        }
    }
    if parts.is_empty() {
        return Ok(documents);
    }
    let first = format!("{}: {}", parts[0].path, parts[0].detail);
    Err(Refusal::invalid(format!("{} problems; the first: {first}", parts.len())).with_parts(parts))
}

/// The JSON pointer to the part that a path such as `spec.firewall[0].ports` names, or to the nearest that is there. Keys may
/// have dots: the longest that fits is meant.
fn pointer(mut value: &Value, path: &str) -> String {
    let mut pointer = String::new();
    let mut rest = path;
    while !rest.is_empty() {
        let found = match value {
            Value::Object(object) => {
                let fits = |key: &&String| {
                    rest.strip_prefix(key.as_str()).is_some_and(|it| it.is_empty() || it.starts_with(['.', '[']))
                };
                object.keys().filter(fits).max_by_key(|key| key.len()).map(|key| (key.clone(), key.len()))
            }
            Value::Array(_) => {
                let index = rest.strip_prefix('[').and_then(|it| it.split_once(']'));
                index.map(|(index, _)| (index.to_owned(), index.len() + 2))
            }
            _ => None,
        };
        let Some((key, length)) = found else { return pointer };
        let inner = match value {
            Value::Array(items) => key.parse().ok().and_then(|index: usize| items.get(index)),
            _ => value.get(&key),
        };
        let Some(inner) = inner else { return pointer };
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        (value, rest) = (inner, rest[length..].trim_start_matches('.'));
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_leads_to_the_nearest_part_that_is_there() {
        let body =
            serde_json::json!({ "spec": { "a": [{ "b": 1 }, 2] }, "metadata": { "labels": { "x.y/z": "v", "x": 1 } } });
        for (path, expected) in [
            ("spec.a[0].b", "/spec/a/0/b"),
            ("spec.a[7].b", "/spec/a"),
            ("spec.none.c", "/spec"),
            ("metadata.labels.x.y/z", "/metadata/labels/x.y~1z"),
            ("", ""),
            ("kind", ""),
        ] {
            assert_eq!(pointer(&body, path), expected, "{path}");
            assert!(body.pointer(expected).is_some(), "{expected}");
        }
    }
}
