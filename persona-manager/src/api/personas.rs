//! Personas and their versions.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::document::Kind;
use persona_core::wire::api::{Page, PersonaView, Problem, Rollback};
use serde::Deserialize;

use super::input::{IfMatch, KeyHeader, KeyedBody, Params, Tagged};
use super::page::{LabelledPageParams, PageParams, page};
use crate::context::Context;
use crate::documents;
use crate::error::Refusal;
use crate::once;
use crate::store::{DocumentRecord, Draft, Snapshot, VersionRecord};
use crate::versions;

/// Which version.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionParams {
    /// Absent: the newest.
    version: Option<u32>,
}

/// All personas at their newest version.
#[utoipa::path(get, path = "/v1/personas", params(LabelledPageParams), responses((status = 200, body = Page<PersonaView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<LabelledPageParams>,
) -> Result<Json<Page<PersonaView>>, Refusal> {
    let (params, selector) = params.split()?;
    let snapshot = context.store.snapshot();
    let live = snapshot.latest(Kind::Persona).filter(|version| selector.matches(&version.labels()));
    let views = live.filter_map(|version| Some((version.name.clone(), view(&snapshot, version)?)));
    page(&params, views).map(Json)
}

/// One persona.
#[utoipa::path(get, path = "/v1/personas/{name}", params(("name" = String, Path), VersionParams),
    responses((status = 200, body = PersonaView), (status = "4XX", body = Problem)))]
pub(super) async fn get(
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(params): Params<VersionParams>,
) -> Result<Tagged<PersonaView>, Refusal> {
    one(&context.store.snapshot(), &name, params.version)
}

/// Every version of a persona, oldest first; also of one that was deleted.
#[utoipa::path(get, path = "/v1/personas/{name}/versions", params(("name" = String, Path), PageParams),
    responses((status = 200, body = Page<PersonaView>), (status = "4XX", body = Problem)))]
pub(super) async fn versions(
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<PersonaView>>, Refusal> {
    let snapshot = context.store.snapshot();
    let record = recorded(&snapshot, &name)?;
    let stored =
        (1..=record.latest.max(record.given)).filter_map(|version| snapshot.version(Kind::Persona, &name, version));
    let views = stored.filter_map(|version| Some((format!("{:010}", version.version), view(&snapshot, version)?)));
    page(&params, views).map(Json)
}

/// Makes an older version's content the newest version.
#[utoipa::path(post, path = "/v1/personas/{name}/rollback", params(("name" = String, Path), KeyHeader,
        ("If-Match" = String, Header, description = "The ETag of the document as it was read, or *")), request_body = Rollback,
    responses((status = 200, body = PersonaView), (status = "4XX", body = Problem)))]
pub(super) async fn rollback(
    State(context): State<Context>,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
    KeyedBody(request, once): KeyedBody<Rollback>,
) -> Result<Tagged<PersonaView>, Refusal> {
    let persona = name.clone();
    let roll_back =
        move |draft: &mut Draft| documents::roll_back(draft, (Kind::Persona, &persona), request.to, &expected);
    let version = context.store.change(move |draft| once::make(draft, once.as_ref(), roll_back)).await?;
    one(&context.store.snapshot(), &name, Some(version))
}

/// Deletes a persona that nobody wears and no binding names.
#[utoipa::path(delete, path = "/v1/personas/{name}",
    params(("name" = String, Path), ("If-Match" = String, Header, description = "The ETag of the document as it was read, or *")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn delete(
    State(context): State<Context>,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Refusal> {
    context.store.change(move |draft| documents::delete(draft, Kind::Persona, &name, &expected)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn recorded<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a DocumentRecord, Refusal> {
    let record = snapshot.documents.get(&(Kind::Persona, name.to_owned()));
    record.map(AsRef::as_ref).ok_or_else(|| Refusal::not_found(format!("there is no Persona named {name}")))
}

fn one(snapshot: &Snapshot, name: &str, version: Option<u32>) -> Result<Tagged<PersonaView>, Refusal> {
    let (version, latest) = match version {
        Some(version) => (version, recorded(snapshot, name).map(|record| record.latest.max(record.given))?),
        None => documents::existing(snapshot, Kind::Persona, name).map(|record| (record.latest, record.latest))?,
    };
    let stored = snapshot.version(Kind::Persona, name, version);
    let stored = stored.and_then(|version| Some(Tagged(versions::resource_version(version), view(snapshot, version)?)));
    stored.ok_or_else(|| Refusal::not_found(format!("persona {name} has no version {version}; it has 1 to {latest}")))
}

fn view(snapshot: &Snapshot, version: &VersionRecord) -> Option<PersonaView> {
    let record = snapshot.documents.get(&(Kind::Persona, version.name.clone()))?;
    let wears = |record: &crate::store::SubjectRecord| {
        record.sections.values().any(|section| section.persona.as_str() == version.name)
    };
    Some(PersonaView {
        name: version.name.parse().ok()?,
        version: version.version,
        latest_version: record.latest,
        vni: record.vni?,
        digest: version.digest.clone(),
        created_ms: version.created_ms,
        wearers: snapshot.subjects.values().filter(|record| wears(record)).count() as u32,
        document: versions::shown(snapshot, version),
    })
}
