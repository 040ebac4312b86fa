//! Switching by hand.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::ids::SubjectId;
use persona_core::wire::api::{AssignmentView, Problem, Switch, SwitchEnd};
use serde_json::json;

use super::input::{KeyHeader, KeyedBody, Params, ReachHeader, Reaching, subject};
use super::views;
use crate::context::Context;
use crate::error::Refusal;
use crate::once;
use crate::overrides;
use crate::reach::{self, Overriding};
use crate::store::{AgentId, Draft, Override, SubjectRecord};

/// Puts a persona on a subject, in every section that the persona has.
#[utoipa::path(post, path = "/v1/switch", params(KeyHeader, ReachHeader), request_body = Switch,
    responses((status = 200, body = AssignmentView), (status = "4XX", body = Problem)))]
pub(super) async fn switch(
    State(context): State<Context>,
    Reaching(overriding): Reaching,
    KeyedBody(request, once): KeyedBody<Switch>,
) -> Result<Json<AssignmentView>, Refusal> {
    let Switch { subject, persona, for_ms, cut_after_ms } = request;
    let (assigner, who) = (context.assigner.clone(), subject.clone());
    let switch = move |draft: &mut Draft| {
        let until_ms = for_ms.map(|for_ms| draft.now_ms().saturating_add(for_ms));
        let switch = |draft: &mut Draft| {
            overrides::switch(draft, &assigner, &who, Override { value: persona, until_ms }, cut_after_ms)
        };
        reach::within(draft, &overriding, switch, |_, _, changed| u32::from(*changed))
    };
    let changed = context.store.change(move |draft| once::make(draft, once.as_ref(), switch)).await?;
    answer(&context, &subject, changed)
}

/// Takes a switch by hand back.
#[utoipa::path(delete, path = "/v1/switch/{*subject}", params(("subject" = String, Path), SwitchEnd, ReachHeader),
    responses((status = 200, body = AssignmentView), (status = "4XX", body = Problem)))]
pub(super) async fn take_back(
    State(context): State<Context>,
    Path(text): Path<String>,
    Params(params): Params<SwitchEnd>,
    Reaching(overriding): Reaching,
) -> Result<Json<AssignmentView>, Refusal> {
    end(&context, &text, ("switch", params.cut_after_ms), overriding, |record| {
        record.manual.take().map(|ended| json!({ "persona": ended.value }))
    })
    .await
}

/// Takes an override back, and bounds old flows: `take` takes it out of the subject's record and says what it was, for the event.
pub(super) async fn end(
    context: &Context,
    text: &str,
    (kind, cut_after_ms): (&'static str, Option<u64>),
    overriding: Overriding,
    take: impl FnOnce(&mut SubjectRecord) -> Option<serde_json::Value> + Send + 'static,
) -> Result<Json<AssignmentView>, Refusal> {
    let subject = subject(text)?;
    let (assigner, who) = (context.assigner.clone(), subject.clone());
    let change = context.store.change(move |draft| {
        let end = |draft: &mut Draft| overrides::end(draft, &assigner, &who, kind, cut_after_ms, take);
        reach::within(draft, &overriding, end, |_, _, changed| u32::from(*changed))
    });
    answer(context, &subject, change.await?)
}

pub(super) fn answer(context: &Context, subject: &SubjectId, changed: bool) -> Result<Json<AssignmentView>, Refusal> {
    let (snapshot, live) = (context.store.snapshot(), context.live.agents().clone());
    Ok(Json(views::assignment(&snapshot, subject, live.get(&AgentId::node(subject.node())), changed)))
}
