//! Signals: pushed by other systems for a while, and everything that is known of a subject.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::ids::SubjectId;
use persona_core::signal::SignalName;
use persona_core::wire::api::{Problem, PushSignal, SignalEnd, SignalsView};

use super::input::{KeyHeader, KeyedBody, Params, subject};
use crate::context::Context;
use crate::error::Refusal;
use crate::once;
use crate::overrides::check_exists;
use crate::pushed;
use crate::store::Draft;

/// Takes a value in, which counts until its time is over. Pushed again, it is replaced.
#[utoipa::path(post, path = "/v1/signals", params(KeyHeader), request_body = PushSignal,
    responses((status = 200, body = SignalsView), (status = "4XX", body = Problem)))]
pub(super) async fn push(
    State(context): State<Context>,
    KeyedBody(request, once): KeyedBody<PushSignal>,
) -> Result<Json<SignalsView>, Refusal> {
    let subject = request.subject.clone();
    let push = move |draft: &mut Draft| pushed::push(draft, request);
    context.store.change(move |draft| once::make(draft, once.as_ref(), push)).await?;
    Ok(Json(view(&context, subject)))
}

/// Every signal of a subject that is known now.
#[utoipa::path(get, path = "/v1/signals/{*subject}", params(("subject" = String, Path)),
    responses((status = 200, body = SignalsView), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    State(context): State<Context>,
    Path(text): Path<String>,
) -> Result<Json<SignalsView>, Refusal> {
    let subject = subject(&text)?;
    check_exists(&context.store.snapshot(), &subject)?;
    Ok(Json(view(&context, subject)))
}

/// Takes a pushed value back: it is unknown from then on.
#[utoipa::path(delete, path = "/v1/signals/{*subject}", params(("subject" = String, Path), SignalEnd),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn withdraw(
    State(context): State<Context>,
    Path(text): Path<String>,
    Params(params): Params<SignalEnd>,
) -> Result<StatusCode, Refusal> {
    let subject = subject(&text)?;
    let name: SignalName = params.name.parse().map_err(|error| Refusal::invalid(format!("name: {error}")))?;
    context.store.change(move |draft| pushed::withdraw(draft, &subject, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(context: &Context, subject: SubjectId) -> SignalsView {
    let (snapshot, live) = (context.store.snapshot(), &context.live);
    SignalsView { signals: live.activations.signals(&snapshot, &subject, live.clock.moment()), subject }
}
