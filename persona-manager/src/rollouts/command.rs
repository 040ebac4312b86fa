//! What people tell a rollout: to wait, to go on, to be given up, to be taken back.

use std::sync::Arc;

use persona_core::ids::RolloutName;
use persona_core::rollout::{Command, Phase, restored};
use persona_core::wire::rollouts::RolloutChange;
use serde_json::json;

use super::advance::{forget_members, put};
use crate::error::Refusal;
use crate::store::{Draft, Override, RolloutMemberRecord, RolloutRecord, SubjectRecord};

/// Does as somebody says, or says what could be done instead.
pub(crate) fn command(
    draft: &mut Draft,
    name: &RolloutName,
    command: Command,
    reason: Option<String>,
) -> Result<(), Refusal> {
    let known = draft.state().rollouts.get(name).cloned();
    let record = known.ok_or_else(|| Refusal::not_found(format!("there is no rollout {name}")))?;
    let progress = record.progress.told(command, reason.clone());
    let progress = progress.map_err(|refused| Refusal::conflict(format!("rollout {name}: {refused}")))?;
    let phase = progress.phase;
    let because = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let (what, effect) = told(&record, phase, command);
    let details = json!({ "before": record.progress.phase, "reason": reason });
    let message = format!("rollout {name} {effect}{because}");
    draft.event(&format!("rollout.{what}"), format!("rollout/{name}"), draft.actor(), message, details);
    if phase == Phase::RolledBack {
        give_back(draft, &record);
        forget_members(draft, &record);
    }
    put(draft, RolloutRecord { progress, waiting: None, ..(*record).clone() });
    Ok(())
}

fn told(record: &RolloutRecord, phase: Phase, command: Command) -> (&'static str, String) {
    let moved = record.moved_count;
    match (command, phase) {
        (Command::Pause, _) => ("paused", format!("waits in wave {}", record.progress.wave)),
        (Command::Resume, _) => ("resumed", format!("goes on: it is {phase}")),
        (Command::Abort, _) => ("aborted", format!("is given up: {moved} subjects stay moved until it is rolled back")),
        (Command::RollBack, _) => ("rolled-back", format!("is taken back: {moved} subjects have what they had")),
    }
}

/// Gives everybody who was switched back what was there before. Versions of personas come back by themselves: those in force
/// never changed.
fn give_back(draft: &mut Draft, record: &RolloutRecord) {
    let RolloutChange::Switch(switch) = &record.change else { return };
    let put = Override { value: switch.persona.clone(), until_ms: None };
    let members: Vec<Arc<RolloutMemberRecord>> = draft.state().members_of(&record.name).cloned().collect();
    for (member, moved) in members.iter().filter_map(|member| Some((member, member.moved.as_ref()?))) {
        let Some(subject) = draft.state().subjects.get(&member.subject).cloned() else { continue };
        let manual = restored(subject.manual.clone(), &put, moved.manual.clone());
        if manual != subject.manual {
            draft.put(SubjectRecord { manual, ..(*subject).clone() });
        }
    }
}
