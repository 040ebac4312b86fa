//! Access tokens: how people and programs come in.

use std::fmt;

use super::RetiredRoot;
use serde::{Deserialize, Serialize};

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub enum AccessRole {
    /// Look at everything but tokens.
    Viewer,
    /// Look; switch, request, drain, weigh, delete nodes and edges.
    Operator,
    /// Look; write personas, bindings and pools.
    Author,
    /// Look; request capabilities.
    Automation,
    /// Everything.
    Admin,
}

impl fmt::Display for AccessRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Author => "author",
            Self::Automation => "automation",
            Self::Admin => "admin",
        })
    }
}

/// `POST /v1/access-tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewAccessToken {
    /// Who will use it: lower-case letters, digits, `-` and `.`, such as `alice` or `grafana`. Events name it.
    pub name: String,
    /// What it allows.
    pub role: AccessRole,
    /// How long it is good for, milliseconds.
    pub ttl_ms: u64,
}

/// A new access token; the secret is shown only here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AccessTokenSecret {
    /// Its id, for listing and revoking.
    pub id: String,
    /// The secret with the way to the managers, as `ID.SECRET.PIN@URL,URL`. `ID.SECRET` is the bearer.
    pub token: String,
    /// When it expires.
    pub expires_ms: u64,
}

/// An access token without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AccessTokenView {
    /// Its id.
    pub id: String,
    /// Who uses it.
    pub name: String,
    /// What it allows.
    pub role: AccessRole,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_ms: u64,
    /// When it expires.
    pub expires_ms: u64,
}

/// `GET /v1/whoami`: as whom the manager knows the sender.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WhoAmI {
    /// As events name it: `access/NAME`, `uid/NUMBER`, `node/NAME`, `edge/NAME`, or one of the first two with `/web/ID`.
    pub actor: String,
    /// What it may do. Absent: a node or an edge.
    pub role: Option<AccessRole>,
    /// When its token or its session at the page expires. Absent: it has none.
    pub expires_ms: Option<u64>,
    /// Of a session at the page: what every change has to have in the header `persona-csrf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
}

/// `GET /v1/roots`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Roots {
    /// The root certificates that managers' certificates verify under, in PEM.
    pub roots: Vec<String>,
    /// Those that are trusted no more, for who checks old events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<RetiredRoot>,
}
