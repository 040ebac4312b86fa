//! Join tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::agent::Role;

/// `POST /v1/join-tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewJoinToken {
    /// What may join with it.
    pub role: Role,
    /// The only name that may join with it. Absent: any.
    pub name: Option<String>,
    /// How many different keys may join with it.
    #[serde(default = "one")]
    pub uses: u32,
    /// How long it is good for, milliseconds.
    pub ttl_ms: u64,
    /// Labels that who joins with it has, whatever else it says of itself.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

/// A new join token; the secret is shown only here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenSecret {
    /// Its id, for listing and revoking.
    pub id: String,
    /// The secret with the way to the managers, as `ID.SECRET.PIN@URL,URL`.
    pub token: String,
    /// When it expires.
    pub expires_ms: u64,
}

/// A join token without its secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenView {
    /// Its id.
    pub id: String,
    /// What may join with it.
    pub role: Role,
    /// The only name that may join with it.
    pub name: Option<String>,
    /// Labels that who joins with it has.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Uses left.
    pub uses_left: u32,
    /// When it expires.
    pub expires_ms: u64,
}
