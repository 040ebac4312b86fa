//! What shows that a manager has published a state to a node or an edge: who is ahead of the store proves it with this, and
//! not by its own word (docs/decisions/0020).

use serde::{Deserialize, Serialize};

use crate::ids::Generation;

/// The manager's word that it published a state, for nobody but the manager to check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateProof {
    /// The state's generation.
    pub generation: Generation,
    /// Its digest.
    pub digest: String,
    /// The root whose key it was made with: SHA-256 of its certificate in hex.
    pub root: String,
    /// HMAC-SHA-256 over [`StateProof::statement`], in hex.
    pub mac: String,
}

impl StateProof {
    /// The bytes that the proof is over; `agent` is `node/NAME` or `edge/NAME`.
    pub fn statement(agent: &str, generation: Generation, digest: &str) -> Vec<u8> {
        format!("persona state 1\nagent {agent}\ngeneration {}\ndigest {digest}\n", generation.0).into_bytes()
    }
}
