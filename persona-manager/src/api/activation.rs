//! What criteria make of a subject, and activations that are triggered whatever they say.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::wire::api::{ActivationView, AssignmentView, ForecastAccuracy, Page, Problem, Trigger};

use super::input::{KeyHeader, KeyedBody, Params, ReachHeader, Reaching, subject};
use super::page::{PageParams, page};
use super::switch::answer;
use crate::context::Context;
use crate::error::Refusal;
use crate::once;
use crate::overrides::{self, check_exists};
use crate::reach;
use crate::store::{Draft, Override};

/// Every persona with rules that a subject may wear, what each rule sees and waits for, and what is worn for it.
#[utoipa::path(get, path = "/v1/activation/{*subject}", params(("subject" = String, Path)),
    responses((status = 200, body = ActivationView), (status = "4XX", body = Problem)))]
pub(super) async fn status(
    State(context): State<Context>,
    Path(text): Path<String>,
) -> Result<Json<ActivationView>, Refusal> {
    let subject = subject(&text)?;
    check_exists(&context.store.snapshot(), &subject)?;
    let view = context.live.activations.view(&subject, context.live.clock.moment());
    view.map(Json).ok_or_else(|| {
        Refusal::not_found(format!(
            "no persona that {subject} may wear has rules: give one spec.activation, and name it in a binding that selects it"
        ))
    })
}

/// How far forecasts that criteria ask for turned out to be off, beside things staying as they are.
#[utoipa::path(get, path = "/v1/forecasts", params(PageParams),
    responses((status = 200, body = Page<ForecastAccuracy>), (status = "4XX", body = Problem)))]
pub(super) async fn accuracy(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<ForecastAccuracy>>, Refusal> {
    // Pages go by the order of texts: all numbers are of one length.
    let key = |it: &ForecastAccuracy| format!("{} {} {:020}", it.subject, it.signal, it.ahead_ms);
    let mut all: Vec<_> = context.live.activations.accuracies().into_iter().map(|it| (key(&it), it)).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    page(&params, all.into_iter()).map(Json)
}

/// Puts a persona on in the layer of activation: above criteria, below requests and switches by hand.
#[utoipa::path(post, path = "/v1/activation", params(KeyHeader, ReachHeader), request_body = Trigger,
    responses((status = 200, body = AssignmentView), (status = "4XX", body = Problem)))]
pub(super) async fn trigger(
    State(context): State<Context>,
    Reaching(overriding): Reaching,
    KeyedBody(request, once): KeyedBody<Trigger>,
) -> Result<Json<AssignmentView>, Refusal> {
    let Trigger { subject, persona, for_ms } = request;
    let (assigner, who) = (context.assigner.clone(), subject.clone());
    let trigger = move |draft: &mut Draft| {
        let until_ms = for_ms.map(|for_ms| draft.now_ms().saturating_add(for_ms));
        let trigger =
            |draft: &mut Draft| overrides::trigger(draft, &assigner, &who, Override { value: persona, until_ms });
        reach::within(draft, &overriding, trigger, |_, _, changed| u32::from(*changed))
    };
    let changed = context.store.change(move |draft| once::make(draft, once.as_ref(), trigger)).await?;
    answer(&context, &subject, changed)
}

/// Releases a triggered activation: criteria decide again, and a schedule when its next window opens.
#[utoipa::path(delete, path = "/v1/activation/{*subject}", params(("subject" = String, Path), ReachHeader),
    responses((status = 200, body = AssignmentView), (status = "4XX", body = Problem)))]
pub(super) async fn release(
    State(context): State<Context>,
    Path(text): Path<String>,
    Reaching(overriding): Reaching,
) -> Result<Json<AssignmentView>, Refusal> {
    let subject = subject(&text)?;
    let (assigner, who) = (context.assigner.clone(), subject.clone());
    let change = context.store.change(move |draft| {
        let release = |draft: &mut Draft| overrides::release(draft, &assigner, &who);
        reach::within(draft, &overriding, release, |_, _, changed| u32::from(*changed))
    });
    answer(&context, &subject, change.await?)
}
