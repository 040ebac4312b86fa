//! What was published, set, and happened.

use persona_core::ids::Generation;
use persona_core::wire::desired::ProbeItem;
use serde::{Deserialize, Serialize};

use super::agents::AgentId;

/// The generation of an agent's desired state; the state itself is computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicationRecord {
    /// Whose state.
    pub agent: AgentId,
    /// The revision that last changed it.
    pub generation: Generation,
    /// Digest of state and generation, to know after a restart whether it is still the same.
    pub digest: String,
}

/// The key of the one record of settings.
pub(crate) const SETTINGS_KEY: &str = "settings";

/// What was set through the API and goes before the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettingsRecord {
    /// How to probe.
    #[serde(default)]
    pub probe: Option<ProbeItem>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct EventRecord {
    /// Ascending, without gaps.
    pub number: u64,
    /// When.
    pub time_ms: u64,
    /// A dotted name.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Who did it.
    pub actor: String,
    /// A sentence for people.
    pub message: String,
    /// Before and after.
    pub details: serde_json::Value,
}
