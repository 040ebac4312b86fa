//! Rollouts and their members.

use persona_core::ids::{Generation, PersonaName, RolloutName, SubjectId};
use persona_core::rollout::{NodeErrors, Progress, RolloutSpec, SubjectSigns};
use persona_core::wire::rollouts::RolloutChange;
use serde::{Deserialize, Serialize};

use super::subjects::Override;

/// A change for many subjects that is made in waves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RolloutRecord {
    /// Its name.
    pub name: RolloutName,
    /// What it changes.
    pub change: RolloutChange,
    /// How it goes.
    pub spec: RolloutSpec,
    /// Where it is.
    pub progress: Progress,
    /// Subjects that it is for.
    pub member_count: u32,
    /// Those who were moved.
    pub moved_count: u32,
    /// Why the next who are due are not moved yet.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Who started it.
    pub started_by: String,
    /// When, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When its phase or wave changed last.
    pub changed_ms: u64,
}

impl RolloutRecord {
    /// The version that it brings of a persona.
    pub(crate) fn version_of(&self, persona: &str) -> Option<u32> {
        let RolloutChange::Personas(steps) = &self.change else { return None };
        steps.iter().find(|step| step.persona.as_str() == persona).map(|step| step.to)
    }
}

/// A subject that a rollout is for. It is kept until the rollout is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RolloutMemberRecord {
    /// Of which rollout.
    pub rollout: RolloutName,
    /// Who.
    pub subject: SubjectId,
    /// Its place in the order in which members are moved.
    pub position: u32,
    /// What there was when it was moved. None: it was not yet.
    #[serde(default)]
    pub moved: Option<MovedRecord>,
}

/// What there was when a member was moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MovedRecord {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The generation that moved it.
    pub generation: Generation,
    /// Whether its node was heard then.
    pub heard: bool,
    /// The persona of its network section.
    pub wore: Option<PersonaName>,
    /// The switch by hand that was in force.
    pub manual: Option<Override<PersonaName>>,
    /// What its node carried and dropped in the time before.
    pub node: NodeErrors,
    /// What it sent and heard in the time before.
    pub signs: SubjectSigns,
}
