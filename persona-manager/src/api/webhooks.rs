//! Webhooks: where events are sent, what did not get there, and that being tried again.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::wire::api::{
    DeadLetterView, NewWebhook, Page, Problem, Retried, RetryDeadLetters, WebhookSecret, WebhookView,
};

use super::input::{Body, IfMatch, KeyHeader, KeyedBody, Params, Tagged};
use super::page::{PageParams, page};
use crate::auth::random_hex;
use crate::context::Context;
use crate::error::Refusal;
use crate::once;
use crate::store::Draft;
use crate::webhooks;

/// Has events sent somewhere from now on, signed with a secret that is shown only here.
#[utoipa::path(post, path = "/v1/webhooks", request_body = NewWebhook, params(KeyHeader),
    responses((status = 201, body = WebhookSecret), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    State(context): State<Context>,
    KeyedBody(new, once): KeyedBody<NewWebhook>,
) -> Result<(StatusCode, Json<WebhookSecret>), Refusal> {
    webhooks::checked_url(&new.url, &context.config.webhook_allow)?;
    let (name, secret) = (new.name.clone(), random_hex::<32>());
    let sealed = context.authority.seal_secret(&format!("webhook/{name}"), &secret).map_err(Refusal::internal_from)?;
    let make = move |draft: &mut Draft| {
        webhooks::create(draft, new, sealed)?;
        Ok(WebhookSecret { name, secret })
    };
    let made = context.store.change(move |draft| once::make(draft, once.as_ref(), make));
    Ok((StatusCode::CREATED, Json(made.await?)))
}

/// All webhooks, without their secrets, and how they fare.
#[utoipa::path(get, path = "/v1/webhooks", params(PageParams), responses((status = 200, body = Page<WebhookView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<WebhookView>>, Refusal> {
    let (snapshot, troubles) = (context.store.snapshot(), context.live.webhook_troubles.all());
    let view = |name: &String| webhooks::view(&snapshot, &snapshot.webhooks[name], &troubles);
    page(&params, snapshot.webhooks.keys().map(|name| (name.clone(), view(name)))).map(Json)
}

/// One webhook.
#[utoipa::path(get, path = "/v1/webhooks/{name}", params(("name" = String, Path)),
    responses((status = 200, body = WebhookView), (status = "4XX", body = Problem)))]
pub(super) async fn get(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Tagged<WebhookView>, Refusal> {
    let snapshot = context.store.snapshot();
    let record = webhooks::found(&snapshot, &name)?;
    Ok(Tagged(webhooks::tag(&record), webhooks::view(&snapshot, &record, &context.live.webhook_troubles.all())))
}

/// Sends nothing there any more, and forgets its dead letters.
#[utoipa::path(delete, path = "/v1/webhooks/{name}",
    params(("name" = String, Path), ("If-Match" = String, Header, description = "The ETag of the webhook as it was read, or *")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn delete(
    State(context): State<Context>,
    Path(name): Path<String>,
    IfMatch(expected): IfMatch,
) -> Result<StatusCode, Refusal> {
    let change = move |draft: &mut Draft| {
        let record = webhooks::found(draft.state(), &name)?;
        expected.check_tag(&format!("webhook/{name}"), &webhooks::tag(&record))?;
        webhooks::delete(draft, &name)
    };
    context.store.change(change).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Events that the receiver did not take, the oldest first.
#[utoipa::path(get, path = "/v1/webhooks/{name}/dead-letters", params(("name" = String, Path), PageParams),
    responses((status = 200, body = Page<DeadLetterView>), (status = "4XX", body = Problem)))]
pub(super) async fn dead_letters(
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<DeadLetterView>>, Refusal> {
    let snapshot = context.store.snapshot();
    webhooks::found(&snapshot, &name)?;
    // Pages go by the order of texts: all numbers are of one length.
    let letters = webhooks::dead_letters(&snapshot, &name).into_iter();
    page(&params, letters.map(|letter| (format!("{:020}", letter.event), letter))).map(Json)
}

/// Has dead letters tried again, each once.
#[utoipa::path(post, path = "/v1/webhooks/{name}/retry", params(("name" = String, Path)), request_body = RetryDeadLetters,
    responses((status = 200, body = Retried), (status = "4XX", body = Problem)))]
pub(super) async fn retry(
    State(context): State<Context>,
    Path(name): Path<String>,
    Body(order): Body<RetryDeadLetters>,
) -> Result<Json<Retried>, Refusal> {
    let count = context.store.change(move |draft| webhooks::retry(draft, &name, order.event)).await?;
    Ok(Json(Retried { count }))
}
