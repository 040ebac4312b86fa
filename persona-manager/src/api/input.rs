//! Extractors whose refusals say what would be valid.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use persona_core::ids::{InvalidSubject, SubjectId};
use persona_core::wire::api::AccessRole;
use persona_core::wire::reach::OVERRIDE_HEADER;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::access::{Caller, Peer};
use crate::auth::certificate_missing;
use crate::body::whole;
use crate::context::Context;
use crate::error::{Kind, Refusal, etag};
use crate::once::Once;
use crate::reach::Overriding;
use crate::revocation::checked_reason;
use crate::store::AgentId;
use crate::versions::Expected;

/// The largest body that is read, bytes.
const BODY_LENGTH_MAX: usize = 8 << 20;

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Context> for Body<T> {
    type Rejection = Refusal;
    async fn from_request(request: Request, _: &Context) -> Result<Self, Refusal> {
        parse(&read(request).await?).map(Self)
    }
}

/// The query.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Context> for Params<T> {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, Refusal> {
        let query = Query::try_from_uri(&parts.uri);
        query.map(|Query(value)| Self(value)).map_err(|error| Refusal::invalid(error.body_text()))
    }
}

/// A request by a node or an edge, with its client certificate.
pub(super) struct FromAgent {
    /// Who.
    pub(super) id: AgentId,
    /// The key identifier of the root under which its certificate is.
    pub(super) issuer: Option<String>,
    /// The body.
    pub(super) body: Bytes,
}

impl FromRequest<Context> for FromAgent {
    type Rejection = Refusal;
    async fn from_request(request: Request, _: &Context) -> Result<Self, Refusal> {
        let Some(Caller::Agent(id)) = request.extensions().get::<Caller>().cloned() else {
            return Err(certificate_missing());
        };
        let certificate = request.extensions().get::<Peer>().and_then(|peer| peer.certificate.as_ref());
        let issuer = certificate.and_then(|certificate| certificate.issuer.clone());
        Ok(Self { id, issuer, body: read(request).await? })
    }
}

/// How a route describes the header of a [`KeyedBody`].
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes; `Once` reads the header")]
pub(super) struct KeyHeader {
    /// Random, 16 to 255 characters: the same request under the same key is done once and answered the same, for a day.
    #[param(rename = "Idempotency-Key", min_length = 16, max_length = 255)]
    key: Option<String>,
}

/// A JSON body that may come again under the same idempotency key.
pub(super) struct KeyedBody<T>(pub(super) T, pub(super) Option<Once>);

impl<T: DeserializeOwned> FromRequest<Context> for KeyedBody<T> {
    type Rejection = Refusal;
    async fn from_request(request: Request, _: &Context) -> Result<Self, Refusal> {
        let sender = request.extensions().get::<Caller>().map(ToString::to_string).unwrap_or_default();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let (what, headers) = (format!("{} {path}", request.method()), request.headers().clone());
        let body = read(request).await?;
        Ok(Self(parse(&body)?, Once::of(&headers, &sender, &what, &body)?))
    }
}

/// Whether somebody goes over the limit of what changes may reach; only an administrator may.
pub(super) struct Reaching(pub(super) Overriding);

impl FromRequestParts<Context> for Reaching {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, Refusal> {
        let Some(reason) = parts.headers.get(OVERRIDE_HEADER) else { return Ok(Self(Overriding::default())) };
        let reason = std::str::from_utf8(reason.as_bytes());
        let reason = reason.map_err(|_| Refusal::invalid(format!("{OVERRIDE_HEADER} is not UTF-8")))?;
        let reason = checked_reason(reason)?.to_owned();
        match parts.extensions.get::<Caller>().and_then(Caller::role) {
            Some(AccessRole::Admin) => Ok(Self(Overriding(Some(reason)))),
            _ => Err(Refusal::new(Kind::Forbidden, format!("{OVERRIDE_HEADER} is for administrators"))),
        }
    }
}

/// How a route describes the header of [`Reaching`].
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes; `Reaching` reads the header")]
pub(super) struct ReachHeader {
    /// By an administrator: why this goes over the limit of what changes may reach within an hour.
    #[param(rename = "Persona-Override-Reach", min_length = 1, max_length = 1000)]
    reason: Option<String>,
}

/// What a change expects of what it changes.
pub(super) struct IfMatch(pub(super) Expected);

impl FromRequestParts<Context> for IfMatch {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, Refusal> {
        Expected::of(&parts.headers).map(Self)
    }
}

/// One document, with its version as the ETag.
pub(super) struct Tagged<T>(pub(super) String, pub(super) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let Self(resource_version, view) = self;
        let mut response = Json(view).into_response();
        if let Some(tag) = etag(&resource_version) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// Reads JSON.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid(format!("the body is not valid: {error}")))
}

async fn read(request: Request) -> Result<Bytes, Refusal> {
    whole(request.into_body(), BODY_LENGTH_MAX).await
}

/// Reads a subject from a path.
pub(super) fn subject(text: &str) -> Result<SubjectId, Refusal> {
    text.parse().map_err(|error: InvalidSubject| match std::error::Error::source(&error) {
        None => Refusal::invalid(error.to_string()),
        Some(cause) => Refusal::invalid(format!("{error}: {cause}")),
    })
}

/// Deleting what is in use.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ForceParams {
    /// Why it is deleted although it is in use.
    force: Option<String>,
}

impl ForceParams {
    /// The reason, which must say something.
    pub(super) fn checked(self) -> Result<Option<String>, Refusal> {
        match self.force {
            Some(reason) if reason.trim().is_empty() => {
                Err(Refusal::invalid("force is empty: say why it is deleted although it is in use"))
            }
            reason => Ok(reason),
        }
    }
}
