//! Refusals, and the one map from them to HTTP: status, problem type and title (RFC 9457).
//!
//! A 5xx answer shows an id only; the log has the chain of causes under the same id.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use persona_core::wire::api::{Problem, ProblemPart};

/// Why something was not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    kind: Kind,
    detail: String,
    parts: Vec<ProblemPart>,
    cause: Option<anyhow::Error>,
    /// The version in force, for the answer's ETag.
    current: Option<String>,
    /// When it can be asked for again, seconds from now.
    retry_after_secs: Option<u64>,
}

/// The kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The input is wrong.
    InvalidInput,
    /// Nobody is known by these credentials.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// There was, and it is kept no longer.
    Gone,
    /// The path does not know the method.
    MethodNotAllowed,
    /// The body is larger than any may be.
    TooLarge,
    /// The body did not come in time.
    TooSlow,
    /// Too many requests come from there.
    TooMany,
    /// It reaches more of the fleet than changes may within an hour.
    ReachExceeded,
    /// It contradicts what is there.
    Conflict,
    /// It was changed since it was read.
    VersionConflict,
    /// It is not said which version was read.
    VersionMissing,
    /// Its idempotency key came with another request.
    KeyReused,
    /// It is in use.
    InUse,
    /// There is no room for it.
    NoRoom,
    /// No persona may be worn.
    NoPersonaFits,
    /// The manager has too much to do or stops.
    Busy,
    /// It took longer than a request may.
    TimedOut,
    /// The store cannot be written to.
    StoreUnavailable,
    /// The store has no room left.
    StoreFull,
    /// The manager failed.
    Internal,
}

impl Kind {
    /// Status, name in the problem type, title.
    fn http(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::InvalidInput => (StatusCode::BAD_REQUEST, "invalid-input", "The input is not valid"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "The credentials are not valid"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "This is not allowed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Self::Gone => (StatusCode::GONE, "gone", "This is kept no longer"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This path does not know the method")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too-slow", "The body did not come in time"),
            Self::TooMany => (StatusCode::TOO_MANY_REQUESTS, "too-many", "Too many requests come from you"),
            Self::ReachExceeded => {
                (StatusCode::TOO_MANY_REQUESTS, "reach-exceeded", "This reaches too much of the fleet")
            }
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "This contradicts what is there"),
            Self::VersionConflict => {
                (StatusCode::PRECONDITION_FAILED, "version-conflict", "It was changed since you read it")
            }
            Self::VersionMissing => {
                (StatusCode::PRECONDITION_REQUIRED, "version-missing", "Say which version you have read")
            }
            Self::KeyReused => {
                (StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The idempotency key is another request's")
            }
            Self::InUse => (StatusCode::CONFLICT, "in-use", "This is in use"),
            Self::NoRoom => (StatusCode::CONFLICT, "no-room", "There is no room for this"),
            Self::NoPersonaFits => (StatusCode::CONFLICT, "no-persona-fits", "No persona can be worn"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "The manager cannot do this now"),
            Self::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, "timed-out", "This took too long"),
            Self::StoreUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", "The store takes no changes now")
            }
            Self::StoreFull => (StatusCode::INSUFFICIENT_STORAGE, "store-full", "The store has no room left"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The manager failed"),
        }
    }
}

impl Refusal {
    /// A refusal of a kind; `detail` says what is wrong and what would be valid.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), parts: Vec::new(), cause: None, current: None, retry_after_secs: None }
    }

    /// The input is wrong.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Kind::InvalidInput, detail)
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, detail)
    }

    /// It contradicts what is there.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, detail)
    }

    /// The manager cannot do this now.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::new(Kind::Busy, detail)
    }

    /// The manager failed.
    pub(crate) fn internal(cause: anyhow::Error) -> Self {
        Self { cause: Some(cause), ..Self::new(Kind::Internal, "") }
    }

    /// The manager failed.
    pub(crate) fn internal_from(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::internal(anyhow::Error::new(cause))
    }

    /// The same with each wrong part of the input.
    pub(crate) fn with_parts(mut self, parts: Vec<ProblemPart>) -> Self {
        self.parts = parts;
        self
    }

    /// The same with the version that is in force.
    pub(crate) fn with_current(mut self, resource_version: &str) -> Self {
        self.current = Some(resource_version.to_owned());
        self
    }

    /// The same with the time after which it can be asked for again.
    pub(crate) fn with_retry_after(self, secs: Option<u64>) -> Self {
        Self { retry_after_secs: secs, ..self }
    }

    /// What is wrong.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The detail that may be shown: of failures an id, under which the log has the causes.
    fn into_shown(self) -> (String, Vec<ProblemPart>) {
        match &self.cause {
            None => (self.detail, self.parts),
            Some(cause) => {
                let id = crate::auth::random_hex::<8>();
                tracing::error!(error.id = %id, error.cause = format!("{cause:#}"), "a request failed");
                (format!("failure {id}: the manager's log has the cause under this id"), Vec::new())
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind.http();
        let current = self.current.as_deref().and_then(etag);
        let retry_after_secs = self.retry_after_secs;
        let (detail, errors) = self.into_shown();
        let problem = Problem {
            kind: format!("/problems/{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            errors,
        };
        let body = serde_json::to_vec(&problem).expect("a problem has string keys only");
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(current) = current {
            response.headers_mut().insert(header::ETAG, current);
        }
        if let Some(secs) = retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A document's version as an ETag.
pub(crate) fn etag(resource_version: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{resource_version}\"")).ok()
}
