//! Why a member who was moved cannot wear what it was moved to.

use persona_core::ids::SubjectId;
use persona_core::wire::limits::{LimitReport, LimitState};
use persona_core::wire::rollouts::RolloutChange;

use crate::live::AgentLive;
use crate::store::{MovedRecord, RolloutRecord, Snapshot, SubjectRecord};

/// Why it cannot, for people. None: nothing is known against it.
pub(super) fn trouble_of(
    snapshot: &Snapshot,
    rollout: &RolloutRecord,
    moved: &MovedRecord,
    subject: &SubjectRecord,
    node: Option<&AgentLive>,
) -> Option<String> {
    without_network(snapshot, rollout, moved, subject).or_else(|| unlimited(rollout, subject, node?))
}

/// It had a network section, and has none or another persona's since.
fn without_network(
    snapshot: &Snapshot,
    rollout: &RolloutRecord,
    moved: &MovedRecord,
    subject: &SubjectRecord,
) -> Option<String> {
    let wore = moved.wore.as_ref()?;
    let expected = match &rollout.change {
        RolloutChange::Personas(_) => rollout.version_of(wore.as_str()).map(|_| wore)?,
        RolloutChange::Switch(switch) => {
            let of_now = subject.manual.as_ref().map(|manual| &manual.value);
            // Somebody has switched it elsewhere since: that is not the rollout's doing.
            Some(&switch.persona)
                .filter(|persona| of_now == Some(*persona) && has_network(snapshot, persona.as_str()))?
        }
    };
    match &subject.target {
        None => {
            let why = subject.unassigned.as_deref().unwrap_or("nothing says why");
            Some(format!("it has no network section any more: {why}"))
        }
        Some(target) if target.persona != *expected && !is_chosen_otherwise(rollout, subject) => {
            Some(format!("it wears {} instead of {expected}", target.persona))
        }
        Some(_) => None,
    }
}

fn has_network(snapshot: &Snapshot, persona: &str) -> bool {
    let mut personas = snapshot.personas();
    personas.any(|it| it.document.metadata.name.as_str() == persona && it.document.spec.network.is_some())
}

/// Whether a person, a program or criteria chose its persona.
fn is_chosen_otherwise(rollout: &RolloutRecord, subject: &SubjectRecord) -> bool {
    let by_hand = subject.manual.is_some() && matches!(rollout.change, RolloutChange::Personas(_));
    by_hand || subject.request.is_some() || subject.triggered.is_some() || subject.activation.is_some()
}

/// None of the limits that it shall have since is in force.
fn unlimited(rollout: &RolloutRecord, subject: &SubjectRecord, node: &AgentLive) -> Option<String> {
    let resources = subject.item.as_ref()?.resources.as_ref()?;
    if rollout.version_of(resources.persona.as_str()) != Some(resources.version) {
        return None;
    }
    let wants = format!("{}@{}", resources.persona, resources.version);
    let SubjectId::Workload(_, name) = &subject.subject else { return None };
    let is_failed = |it: &&LimitReport| {
        it.workload == *name && it.state == LimitState::Failed && it.persona.as_ref() == Some(&wants)
    };
    let report = node.limits.iter().find(is_failed)?;
    Some(format!("its limits are not in force: {}", report.reason.as_deref().unwrap_or("nothing says why")))
}
