//! Links that log a browser in, and sessions of people at the page.

use persona_core::wire::api::AccessRole;
use serde::{Deserialize, Serialize};

/// On whose behalf a browser comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WebOwner {
    /// As events name them: `access/NAME`, `uid/NUMBER`.
    pub name: String,
    /// What they may do.
    pub role: AccessRole,
    /// Their access token, with which all of it ends. None: they came over the manager's own socket.
    pub token: Option<String>,
}

/// A link that logs a browser in; it is removed by being used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WebLinkRecord {
    /// Its id.
    pub id: String,
    /// SHA-256 of `ID.SECRET`, in hex.
    pub hash: String,
    /// Whom it logs in.
    pub owner: WebOwner,
    /// Until when.
    pub expires_ms: u64,
}

/// A session of a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WebSessionRecord {
    /// Its id.
    pub id: String,
    /// SHA-256 of `ID.SECRET`, in hex.
    pub hash: String,
    /// Whose it is.
    pub owner: WebOwner,
    /// When it began.
    pub created_ms: u64,
    /// When it ends by itself.
    pub expires_ms: u64,
}
