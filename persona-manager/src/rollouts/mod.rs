//! Rollouts on the live fleet: [`persona_core::rollout`] decides, the store keeps who was moved, passes move the next.
//!
//! ```text
//!   start ──▶ candidate versions beside those in force, members in order
//!   pass  ──▶ watch (what reports say of those moved) ──▶ step ──▶ members moved, halted, done
//! ```
//! A persona's version in force changes only when its rollout is done: until then members who were moved wear the candidate,
//! everybody else what there was. So taking it back is to forget who was moved.

mod advance;
mod command;
mod sample;
mod start;
mod trouble;
mod view;
mod watch;

use persona_core::document::{Document, Kind, PersonaDocument};
use persona_core::ids::{RolloutName, SubjectId};
use persona_core::wire::rollouts::{RolloutChange, VersionStep};

pub(crate) use advance::advance;
pub(crate) use command::command;
pub(crate) use start::{start, switch};
pub(crate) use view::view_of;
pub(crate) use watch::Watches;

use crate::error::Refusal;
use crate::store::{RolloutRecord, Snapshot};

/// The rollout that holds a persona at its version in force, if one does.
fn holder<'a>(snapshot: &'a Snapshot, persona: &str) -> Option<&'a RolloutRecord> {
    let mut open = snapshot.rollouts.values().filter(|record| !record.progress.phase.is_over());
    open.find(|record| record.version_of(persona).is_some()).map(|record| &**record)
}

/// Refuses to change a document that a rollout is under way for.
pub(crate) fn check_free(snapshot: &Snapshot, kind: Kind, name: &str) -> Result<(), Refusal> {
    let Some(record) = holder(snapshot, name).filter(|_| kind == Kind::Persona) else { return Ok(()) };
    let (rollout, phase) = (&record.name, record.progress.phase);
    Err(Refusal::conflict(format!(
        "rollout {rollout} ({phase}) brings another version of {kind} {name}: let it finish, or take it back with persona-ctl rollout rollback {rollout}"
    )))
}

/// Rollouts under way that switch subjects to a persona.
pub(crate) fn switching_to<'a>(snapshot: &'a Snapshot, persona: &'a str) -> impl Iterator<Item = &'a RolloutName> {
    let open = snapshot.rollouts.values().filter(|record| !record.progress.phase.is_over());
    let is_to = move |record: &&std::sync::Arc<RolloutRecord>| match &record.change {
        RolloutChange::Switch(switch) => switch.persona.as_str() == persona,
        RolloutChange::Personas(_) => false,
    };
    open.filter(is_to).map(|record| &record.name)
}

/// The versions that rollouts under way bring.
pub(crate) fn candidates(snapshot: &Snapshot) -> impl Iterator<Item = (&VersionStep, &PersonaDocument)> {
    let open = snapshot.rollouts.values().filter(|record| !record.progress.phase.is_over());
    let steps = open.filter_map(|record| match &record.change {
        RolloutChange::Personas(steps) => Some(steps),
        RolloutChange::Switch(_) => None,
    });
    steps.flatten().filter_map(move |step| Some((step, document_of(snapshot, step)?)))
}

/// The versions that rollouts have moved a subject to.
pub(crate) fn moved_to<'a>(
    snapshot: &'a Snapshot,
    subject: &SubjectId,
) -> impl Iterator<Item = (&'a VersionStep, &'a PersonaDocument)> {
    let is_moved = move |record: &&std::sync::Arc<RolloutRecord>| {
        let member = snapshot.rollout_members.get(&(record.name.clone(), subject.to_string()));
        !record.progress.phase.is_over() && member.is_some_and(|member| member.moved.is_some())
    };
    let moved: Vec<&VersionStep> = match snapshot.rollout_members.is_empty() {
        true => Vec::new(),
        false => snapshot.rollouts.values().filter(is_moved).flat_map(|record| steps_of(record)).collect(),
    };
    moved.into_iter().filter_map(move |step| Some((step, document_of(snapshot, step)?)))
}

fn steps_of(record: &RolloutRecord) -> &[VersionStep] {
    match &record.change {
        RolloutChange::Personas(steps) => steps,
        RolloutChange::Switch(_) => &[],
    }
}

fn document_of<'a>(snapshot: &'a Snapshot, step: &VersionStep) -> Option<&'a PersonaDocument> {
    match snapshot.version(Kind::Persona, step.persona.as_str(), step.to)?.parsed()? {
        Document::Persona(document) => Some(document),
        _ => None,
    }
}
