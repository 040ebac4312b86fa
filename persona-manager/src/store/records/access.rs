//! Who may ask for what.

use persona_core::wire::api::AccessRole;
use serde::{Deserialize, Serialize};

/// An access token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessTokenRecord {
    /// Its id.
    pub id: String,
    /// SHA-256 of `ID.SECRET`, in hex.
    pub hash: String,
    /// Who uses it.
    pub name: String,
    /// What it allows.
    pub role: AccessRole,
    /// When it was made.
    pub created_ms: u64,
    /// Who made it.
    pub created_by: String,
    /// When it expires.
    pub expires_ms: u64,
}
