//! The fleet's roots, and one taking over from another.

use axum::Json;
use axum::extract::{Path, State};
use persona_core::wire::api::{AuthorityView, Problem, Retire, RootState as ShownState, RootView, Rotate};

use super::input::{Body, KeyHeader, KeyedBody};
use crate::authority::{agents_under, ends_ms, followed_by_next, retire, succeed, tokens_under};
use crate::clock::now_ms;
use crate::context::Context;
use crate::error::Refusal;
use crate::once;
use crate::revocation::checked_reason;
use crate::store::{Draft, RootRecord, RootState};

/// The roots, and who would be cut off without each.
#[utoipa::path(get, path = "/v1/authority", responses((status = 200, body = AuthorityView)))]
pub(super) async fn authority(State(context): State<Context>) -> Json<AuthorityView> {
    Json(view(&context))
}

/// Makes a new root, which signs from now on; the one before stays trusted until it is retired.
#[utoipa::path(post, path = "/v1/authority/rotate", params(KeyHeader), request_body = Rotate,
    responses((status = 200, body = AuthorityView), (status = "4XX", body = Problem)))]
pub(super) async fn rotate(
    State(context): State<Context>,
    KeyedBody(request, once): KeyedBody<Rotate>,
) -> Result<Json<AuthorityView>, Refusal> {
    let reason = checked_reason(&request.reason)?.to_owned();
    // A key is not made for nothing.
    let before = once.as_ref().map(|once| once.find::<()>(&context.store.snapshot(), now_ms())).transpose()?;
    if before.flatten().is_some() {
        return followed(&context);
    }
    followed_by_next(&context.store.snapshot())?;
    let successor = context.authority.make_successor(request.share_key, now_ms()).map_err(Refusal::internal_from)?;
    let succeed = move |draft: &mut Draft| succeed(draft, successor, &reason);
    context.store.change(move |draft| once::make(draft, once.as_ref(), succeed)).await?;
    followed(&context)
}

/// Takes a root out of trust that another has followed.
#[utoipa::path(post, path = "/v1/authority/roots/{id}/retire", params(("id" = String, Path)), request_body = Retire,
    responses((status = 200, body = AuthorityView), (status = "4XX", body = Problem)))]
pub(super) async fn retire_root(
    State(context): State<Context>,
    Path(id): Path<String>,
    Body(request): Body<Retire>,
) -> Result<Json<AuthorityView>, Refusal> {
    let request = Retire { reason: checked_reason(&request.reason)?.to_owned(), ..request };
    let grace_ms = context.config.certificate_grace_ms;
    context.store.change(move |draft| retire(draft, &id, &request, grace_ms)).await?;
    followed(&context)
}

/// This manager does as the store says from here on, and not only when somebody connects.
fn followed(context: &Context) -> Result<Json<AuthorityView>, Refusal> {
    context.authority.follow(&context.store).map_err(Refusal::internal_from)?;
    Ok(Json(view(context)))
}

fn view(context: &Context) -> AuthorityView {
    let (snapshot, now_ms) = (context.store.snapshot(), now_ms());
    let root_view = |root: &RootRecord| {
        let is_followed = root.state == RootState::Trusted;
        let ended_ms = now_ms.saturating_sub(context.config.certificate_grace_ms);
        RootView {
            id: root.id.clone(),
            state: match root.state {
                RootState::Signing => ShownState::Signing,
                RootState::Trusted => ShownState::Trusted,
                RootState::Retired => ShownState::Retired,
            },
            made_ms: root.made_ms,
            expires_ms: ends_ms(&root.certificate),
            agents: if is_followed { agents_under(&snapshot, root, ended_ms) } else { Vec::new() },
            join_tokens: if is_followed { tokens_under(&snapshot, &root.id, now_ms) } else { Vec::new() },
            sealed_with: root.stored_key.as_ref().map(|key| key.by.clone()),
            seals_until: root.succession.as_ref().map(|succession| succession.until_event),
        }
    };
    let mut roots: Vec<RootView> = snapshot.roots.values().map(|root| root_view(root)).collect();
    roots.sort_by_key(|root| std::cmp::Reverse(root.made_ms));
    AuthorityView { roots }
}
