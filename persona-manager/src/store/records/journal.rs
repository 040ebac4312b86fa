//! What was published, set, and happened.

use persona_core::audit::AuditSeal;
use persona_core::ids::Generation;
use persona_core::wire::desired::ProbeItem;
use persona_core::wire::planning::PlanSettings;
use persona_core::wire::reach::ReachSettings;
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SettingsRecord {
    /// How to probe.
    #[serde(default)]
    pub probe: Option<ProbeItem>,
    /// How the fleet is planned.
    #[serde(default)]
    pub plan: Option<PlanSettings>,
    /// How much of the fleet changes may reach.
    #[serde(default)]
    pub reach: ReachSettings,
}

/// The key of the one record of what was dropped.
pub(crate) const AUDIT_STUB_KEY: &str = "stub";

/// What stands for the events that were dropped for their age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditStubRecord {
    /// The last of them, signed.
    pub seal: AuditSeal,
}
