//! Bindings: who may wear what.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::document::Kind;
use persona_core::wire::api::{DocumentView, Page, Problem};

use super::input::{IfMatch, Params, ReachHeader, Reaching, Tagged};
use super::page::{LabelledPageParams, page};
use crate::context::Context;
use crate::documents;
use crate::error::Refusal;
use crate::reach;
use crate::store::{Draft, Snapshot, VersionRecord};
use crate::versions;

/// All bindings at their newest version.
#[utoipa::path(get, path = "/v1/bindings", params(LabelledPageParams), responses((status = 200, body = Page<DocumentView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<LabelledPageParams>,
) -> Result<Json<Page<DocumentView>>, Refusal> {
    let (params, selector) = params.split()?;
    let snapshot = context.store.snapshot();
    let live = snapshot.latest(Kind::Binding).filter(|version| selector.matches(&version.labels()));
    page(&params, live.map(|version| (version.name.clone(), view(&snapshot, version)))).map(Json)
}

/// One binding.
#[utoipa::path(get, path = "/v1/bindings/{name}", params(("name" = String, Path)),
    responses((status = 200, body = DocumentView), (status = "4XX", body = Problem)))]
pub(super) async fn get(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Tagged<DocumentView>, Refusal> {
    let snapshot = context.store.snapshot();
    let record = documents::existing(&snapshot, Kind::Binding, &name)?;
    let version = snapshot.version(Kind::Binding, &name, record.latest);
    let view = version.map(|version| Tagged(versions::resource_version(version), view(&snapshot, version)));
    view.ok_or_else(|| Refusal::not_found(format!("there is no Binding {name}")))
}

/// Deletes a binding; its subjects wear what other layers say.
#[utoipa::path(delete, path = "/v1/bindings/{name}",
    params(("name" = String, Path), ReachHeader,
        ("If-Match" = String, Header, description = "The ETag of the document as it was read, or *")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn delete(
    State(context): State<Context>,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
    Reaching(overriding): Reaching,
) -> Result<StatusCode, Refusal> {
    let assigner = context.assigner.clone();
    let change = move |draft: &mut Draft| {
        let delete = |draft: &mut Draft| documents::delete(draft, Kind::Binding, &name, &expected);
        reach::within(draft, &overriding, delete, |before, after, ()| reach::of_documents(&assigner, before, after))
    };
    context.store.change(change).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(snapshot: &Snapshot, version: &VersionRecord) -> DocumentView {
    DocumentView {
        name: version.name.clone(),
        version: version.version,
        created_ms: version.created_ms,
        document: versions::shown(snapshot, version),
    }
}
