//! Sessions of people at the manager's page.

use serde::{Deserialize, Serialize};

use super::AccessRole;

/// The header that has [`super::WhoAmI::csrf`] in every change that a browser sends.
pub const CSRF_HEADER: &str = "persona-csrf";

/// The header in which whoever changes something says why; events keep it.
pub const REASON_HEADER: &str = "persona-reason";

/// `POST /v1/web-links`: a link that logs a browser in, once, as whoever asks for it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NewWebLink {
    /// How long the link is good for, milliseconds: up to ten minutes. Absent: one minute.
    pub ttl_ms: Option<u64>,
}

/// A new link; its secret is shown only here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebLink {
    /// Its id, which becomes the session's.
    pub id: String,
    /// The link, once for each URL of the managers. It works with one of them, once.
    pub urls: Vec<String>,
    /// Until when.
    pub expires_ms: u64,
}

/// `POST /v1/web-sessions`: what a browser logs in with. The answer sets its cookie.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum LogIn {
    /// `ID.SECRET` of a link.
    Link(String),
    /// `ID.SECRET` of an access token, or the whole line as it was printed.
    Token(String),
}

/// A session, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebSessionView {
    /// Its id.
    pub id: String,
    /// Whose it is: `access/NAME` or `uid/NUMBER`. Events name what is done in it `WHOSE/web/ID`.
    pub owner: String,
    /// What it allows.
    pub role: AccessRole,
    /// When it began.
    pub created_ms: u64,
    /// When it ends by itself.
    pub expires_ms: u64,
}
