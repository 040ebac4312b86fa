//! The time after the store went back, until everybody has said what is held.

use persona_core::ids::Generation;
use serde::{Deserialize, Serialize};

use super::agents::AgentId;

/// The key of the one record of a recovery.
pub(crate) const RECOVERY_KEY: &str = "recovery";

/// The store went back to an earlier state, and what happened since is being learnt from nodes and edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecoveryRecord {
    /// The store incarnation that asks.
    pub incarnation: u32,
    /// Since when.
    pub since_ms: u64,
    /// Why, for people.
    pub reason: String,
}

/// A node or an edge that has said what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeardRecord {
    /// Who.
    pub agent: AgentId,
}

/// On whose word a lease stands in the store: the manager's that granted it, or a holder's after the store went back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The store incarnation in which the word was given.
    pub incarnation: u32,
    /// The state that it was given of: of two words about the same ports the newer one is true.
    pub state: Generation,
}
