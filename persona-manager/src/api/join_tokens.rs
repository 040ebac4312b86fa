//! Join tokens: what a new node or edge needs once.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::ids::{EdgeName, NodeName};
use persona_core::wire::agent::Role;
use persona_core::wire::api::{JoinTokenSecret, JoinTokenView, NewJoinToken, Page, Problem};
use persona_core::wire::credential::Credential;
use serde_json::json;

use super::input::{KeyHeader, KeyedBody, Params};
use super::labels::check_labels;
use super::page::{PageParams, page};
use crate::auth::{random_hex, sha256_hex};
use crate::context::Context;
use crate::error::Refusal;
use crate::once;
use crate::store::{Draft, JoinTokenRecord, JoinedKeyRecord, Snapshot};

/// The longest life of a token: 30 days.
const TTL_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// The most keys that may join with one token.
const USES_MAX: u32 = 10_000;

/// Makes a join token; its secret is shown only here.
#[utoipa::path(post, path = "/v1/join-tokens", request_body = NewJoinToken,
    params(KeyHeader),
    responses((status = 201, body = JoinTokenSecret), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    State(context): State<Context>,
    KeyedBody(new, once): KeyedBody<NewJoinToken>,
) -> Result<(StatusCode, Json<JoinTokenSecret>), Refusal> {
    check(&new)?;
    let credential = new_credential(&context)?;
    let root = credential.pin.map(|pin| pin.to_string());
    let (id, token, hash) = (credential.id.clone(), credential.to_string(), sha256_hex(credential.bearer().as_bytes()));
    let make = move |draft: &mut Draft| {
        let expires_ms = draft.now_ms() + new.ttl_ms;
        let NewJoinToken { role, name, uses, labels, .. } = new;
        let details = json!({ "role": role, "name": name, "uses": uses, "labels": labels, "expiresMs": expires_ms });
        draft.event(
            "join-token.created",
            format!("join-token/{id}"),
            draft.actor(),
            "a join token was made".into(),
            details,
        );
        let keys = Vec::new();
        draft.put(JoinTokenRecord { id: id.clone(), hash, role, name, uses, labels, keys, expires_ms, root });
        Ok(JoinTokenSecret { id, token, expires_ms })
    };
    let made = context.store.change(move |draft| once::make(draft, once.as_ref(), make));
    Ok((StatusCode::CREATED, Json(made.await?)))
}

/// All join tokens, without their secrets.
#[utoipa::path(get, path = "/v1/join-tokens", params(PageParams), responses((status = 200, body = Page<JoinTokenView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<JoinTokenView>>, Refusal> {
    let snapshot = context.store.snapshot();
    let views = snapshot.tokens.values().map(|token| (token.id.clone(), view(&snapshot, token)));
    page(&params, views).map(Json)
}

/// Revokes a join token; who has joined with it stays.
#[utoipa::path(delete, path = "/v1/join-tokens/{id}", params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(State(context): State<Context>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let revoked = context.store.change(move |draft| {
        if !draft.state().tokens.contains_key(&id) {
            return Err(Refusal::not_found(format!("there is no join token {id}")));
        }
        draft.delete::<JoinTokenRecord>(&id);
        let joined: Vec<(String, String)> = draft.state().joined_with(&id).cloned().collect();
        joined.iter().for_each(|key| draft.delete::<JoinedKeyRecord>(key));
        let about = format!("join-token/{id}");
        draft.event("join-token.revoked", about, draft.actor(), "a join token was revoked".into(), json!({}));
        Ok(())
    });
    revoked.await.map(|()| StatusCode::NO_CONTENT)
}

/// A new secret with the way to the managers.
pub(super) fn new_credential(context: &Context) -> Result<Credential, Refusal> {
    let managers = context.urls.to_vec();
    if managers.is_empty() {
        let detail = "the manager listens on all interfaces and cannot tell which address others reach: set `urls` in its configuration (--url)";
        return Err(Refusal::conflict(detail));
    }
    let pin = (!context.config.insecure_http).then(|| context.authority.signing().pin());
    Ok(Credential { id: random_hex::<6>(), secret: random_hex::<32>(), pin, managers })
}

fn check(new: &NewJoinToken) -> Result<(), Refusal> {
    check_labels(&new.labels)?;
    if !(1..=TTL_MS_MAX).contains(&new.ttl_ms) {
        return Err(Refusal::invalid(format!("ttlMs is {}; use 1 to {TTL_MS_MAX}", new.ttl_ms)));
    }
    if !(1..=USES_MAX).contains(&new.uses) {
        return Err(Refusal::invalid(format!("uses is {}; use 1 to {USES_MAX}", new.uses)));
    }
    let Some(name) = &new.name else { return Ok(()) };
    let checked = match new.role {
        Role::Node => name.parse::<NodeName>().map(drop),
        Role::Edge => name.parse::<EdgeName>().map(drop),
    };
    checked.map_err(|error| Refusal::invalid(error.to_string()))
}

fn view(snapshot: &Snapshot, token: &JoinTokenRecord) -> JoinTokenView {
    JoinTokenView {
        id: token.id.clone(),
        role: token.role,
        name: token.name.clone(),
        labels: token.labels.clone(),
        uses_left: token.uses.saturating_sub(snapshot.joined_count(token) as u32),
        expires_ms: token.expires_ms,
    }
}
