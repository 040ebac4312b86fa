//! Keys that are out for good.

use serde::{Deserialize, Serialize};

use super::agents::AgentId;

/// The revocation of a node's or edge's key. It stays when the node or edge is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevocationRecord {
    /// The key, standard Base64.
    pub public_key: String,
    /// Whose it was.
    pub agent: AgentId,
    /// When it was revoked.
    pub revoked_ms: u64,
    /// Who did it.
    pub actor: String,
    /// Why.
    pub reason: String,
}
