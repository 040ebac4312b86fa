//! Access tokens: how people and programs come in.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use persona_core::wire::api::{AccessTokenSecret, AccessTokenView, NewAccessToken, Page, Problem};
use serde_json::json;

use super::input::{KeyHeader, KeyedBody, Params};
use super::join_tokens::new_credential;
use super::page::{PageParams, page};
use crate::auth::sha256_hex;
use crate::context::Context;
use crate::error::Refusal;
use crate::once;
use crate::store::{AccessTokenRecord, Draft};

/// The longest life of a token: a year.
const TTL_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// The longest name.
const NAME_LENGTH_MAX: usize = 63;

/// Makes an access token; its secret is shown only here.
#[utoipa::path(post, path = "/v1/access-tokens", request_body = NewAccessToken,
    params(KeyHeader),
    responses((status = 201, body = AccessTokenSecret), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    State(context): State<Context>,
    KeyedBody(new, once): KeyedBody<NewAccessToken>,
) -> Result<(StatusCode, Json<AccessTokenSecret>), Refusal> {
    check(&new)?;
    let credential = new_credential(&context)?;
    let hash = sha256_hex(credential.bearer().as_bytes());
    let NewAccessToken { name, role, ttl_ms } = new;
    let (id, token) = (credential.id.clone(), credential.to_string());
    let make = move |draft: &mut Draft| {
        let (created_ms, created_by) = (draft.now_ms(), draft.actor().to_string());
        let expires_ms = created_ms + ttl_ms;
        let details = json!({ "name": name, "role": role, "expiresMs": expires_ms });
        let message = format!("an access token of {name} as {role} was made");
        draft.event("access-token.created", format!("access-token/{id}"), draft.actor(), message, details);
        draft.put(AccessTokenRecord { id: id.clone(), hash, name, role, created_ms, created_by, expires_ms });
        Ok(AccessTokenSecret { id, token, expires_ms })
    };
    let made = context.store.change(move |draft| once::make(draft, once.as_ref(), make));
    Ok((StatusCode::CREATED, Json(made.await?)))
}

/// All access tokens, without their secrets.
#[utoipa::path(get, path = "/v1/access-tokens", params(PageParams),
    responses((status = 200, body = Page<AccessTokenView>)))]
pub(super) async fn list(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<AccessTokenView>>, Refusal> {
    let snapshot = context.store.snapshot();
    page(&params, snapshot.access_tokens.values().map(|token| (token.id.clone(), view(token)))).map(Json)
}

/// Revokes an access token: whoever uses it is out at once.
#[utoipa::path(delete, path = "/v1/access-tokens/{id}", params(("id" = String, Path)),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn revoke(State(context): State<Context>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    let revoked = context.store.change(move |draft| {
        let Some(token) = draft.state().access_tokens.get(&id).cloned() else {
            return Err(Refusal::not_found(format!("there is no access token {id}")));
        };
        draft.delete::<AccessTokenRecord>(&id);
        let (about, details) = (format!("access-token/{id}"), json!({ "name": token.name, "role": token.role }));
        let message = format!("an access token of {} was revoked", token.name);
        draft.event("access-token.revoked", about, draft.actor(), message, details);
        Ok(())
    });
    revoked.await.map(|()| StatusCode::NO_CONTENT)
}

fn check(new: &NewAccessToken) -> Result<(), Refusal> {
    if !(1..=TTL_MS_MAX).contains(&new.ttl_ms) {
        return Err(Refusal::invalid(format!("ttlMs is {}; use 1 to {TTL_MS_MAX}, which is a year", new.ttl_ms)));
    }
    let is_letter = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-' || it == '.';
    if !(1..=NAME_LENGTH_MAX).contains(&new.name.len()) || !new.name.chars().all(is_letter) {
        return Err(Refusal::invalid(format!(
            "name is {:?}; use 1 to {NAME_LENGTH_MAX} lower-case letters, digits, `-` and `.`",
            new.name
        )));
    }
    Ok(())
}

fn view(token: &AccessTokenRecord) -> AccessTokenView {
    AccessTokenView {
        id: token.id.clone(),
        name: token.name.clone(),
        role: token.role,
        created_by: token.created_by.clone(),
        created_ms: token.created_ms,
        expires_ms: token.expires_ms,
    }
}
