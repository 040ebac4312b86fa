//! Switching by hand.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::ids::{PersonaName, SubjectId};
use persona_core::wire::api::{AssignmentView, Problem, Switch};
use serde_json::json;

use super::input::{Body, subject};
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::overrides;
use crate::store::{AgentId, Override};

/// Puts a persona on a subject, in every section that the persona has.
#[utoipa::path(post, path = "/v1/switch", request_body = Switch,
    responses((status = 200, body = AssignmentView), (status = "4XX", body = Problem)))]
pub(super) async fn switch(
    State(context): State<Context>,
    Body(request): Body<Switch>,
) -> Result<Json<AssignmentView>, Refusal> {
    let Switch { subject, persona, for_ms } = request;
    let (assigner, who) = (context.assigner.clone(), subject.clone());
    let change = context.store.change(move |draft| {
        let until_ms = for_ms.map(|for_ms| draft.now_ms().saturating_add(for_ms));
        overrides::switch(draft, &assigner, &who, Override { value: persona, until_ms })
    });
    answer(&context, &subject, change.await?)
}

/// Takes a switch by hand back.
#[utoipa::path(delete, path = "/v1/switch/{*subject}", params(("subject" = String, Path)),
    responses((status = 200, body = AssignmentView), (status = "4XX", body = Problem)))]
pub(super) async fn take_back(
    State(context): State<Context>,
    Path(text): Path<String>,
) -> Result<Json<AssignmentView>, Refusal> {
    let subject = subject(&text)?;
    let (assigner, who) = (context.assigner.clone(), subject.clone());
    let change = context.store.change(move |draft| {
        overrides::end(draft, &assigner, &who, "switch", |record| {
            let ended: Option<Override<PersonaName>> = record.manual.take();
            ended.map(|ended| json!({ "persona": ended.value }))
        })
    });
    answer(&context, &subject, change.await?)
}

pub(super) fn answer(context: &Context, subject: &SubjectId, changed: bool) -> Result<Json<AssignmentView>, Refusal> {
    let (snapshot, live) = (context.store.snapshot(), context.live.agents());
    Ok(Json(views::assignment(&snapshot, subject, live.get(&AgentId::node(subject.node())), changed)))
}
