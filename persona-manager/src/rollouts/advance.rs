//! The pass's part of rollouts: what was seen is judged, and what follows is written into the draft.

use std::sync::Arc;

use persona_core::document::Kind;
use persona_core::rollout::{Look, Progress, Step};
use persona_core::wire::rollouts::RolloutChange;
use serde_json::json;

use super::steps_of;
use super::watch::{Sight, Watches};
use crate::reach;
use crate::store::{
    AgentId, DocumentRecord, Draft, MovedRecord, Override, RolloutMemberRecord, RolloutRecord, SubjectRecord,
};
use crate::tasks::reports::Reports;

/// Looks at every rollout that goes on by itself, and takes the next step where its time has come.
pub(crate) fn advance(draft: &mut Draft, reports: &Reports, watches: &mut Watches) {
    let all = draft.state().rollouts.values();
    let running: Vec<Arc<RolloutRecord>> = all.filter(|record| record.progress.phase.is_running()).cloned().collect();
    watches.keep(|name| running.iter().any(|record| record.name == *name));
    if !reports.is_settled() {
        return;
    }
    for record in running {
        let members: Vec<_> = draft.state().members_of(&record.name).cloned().collect();
        if let Some(sight) = watches.look(draft.state(), reports, &record, &members) {
            take_step(draft, reports, &record, &members, &sight);
        }
    }
}

fn take_step(
    draft: &mut Draft,
    reports: &Reports,
    record: &RolloutRecord,
    members: &[Arc<RolloutMemberRecord>],
    sight: &Sight,
) {
    let faults = sight.evidence.faults(&record.spec.gate);
    let look = Look {
        member_count: record.member_count,
        moved_count: record.moved_count,
        behind_count: sight.behind_count,
        watched_ms: Some(sight.watched_ms),
        faults: &faults,
    };
    let step = record.progress.step(&record.spec, &look);
    let progress = record.progress.after(&step);
    match step {
        Step::Wait => {}
        Step::Move { count, wave } => move_next(draft, reports, record, members, sight, (count, wave, progress)),
        Step::Halt { reason } => {
            let message = format!("rollout {} halted in wave {}: {reason}", record.name, record.progress.wave);
            tell(draft, record, "halted", message, json!({ "reason": reason, "health": sight.evidence.health() }));
            put(draft, RolloutRecord { progress, waiting: None, ..record.clone() });
        }
        Step::Finish => finish(draft, record, progress),
    }
}

/// Moves those who come next, as many as changes may reach now.
fn move_next(
    draft: &mut Draft,
    reports: &Reports,
    record: &RolloutRecord,
    members: &[Arc<RolloutMemberRecord>],
    sight: &Sight,
    (count, wave, progress): (u32, u32, Progress),
) {
    let left = reach::left(draft.state(), draft.now_ms()).unwrap_or(u32::MAX);
    let moving = count.min(left);
    let waiting = (moving < count).then(|| {
        format!("{} more are due in wave {wave}: changes have reached what they may within an hour", count - moving)
    });
    if moving == 0 {
        if record.waiting != waiting {
            draft.put(RolloutRecord { waiting, ..record.clone() });
        }
        return;
    }
    let mut next: Vec<&Arc<RolloutMemberRecord>> = members.iter().filter(|member| member.moved.is_none()).collect();
    next.sort_by_key(|member| member.position);
    next.truncate(moving as usize);
    for member in &next {
        move_one(draft, reports, record, member, sight);
    }
    reach::note(draft, moving);
    let moved_count = record.moved_count + next.len() as u32;
    let message = format!(
        "rollout {}: wave {wave} of {}: {} subjects are moved, {moved_count} of {} in all",
        record.name,
        record.spec.waves.len(),
        next.len(),
        record.member_count
    );
    let subjects: Vec<String> = next.iter().map(|member| member.subject.to_string()).collect();
    tell(draft, record, "wave", message, json!({ "wave": wave, "subjects": subjects }));
    put(draft, RolloutRecord { progress, moved_count, waiting, ..record.clone() });
}

fn move_one(draft: &mut Draft, reports: &Reports, record: &RolloutRecord, member: &RolloutMemberRecord, sight: &Sight) {
    let (subject, node) = (&member.subject, member.subject.node());
    let known = draft.state().subjects.get(subject).cloned();
    let moved = MovedRecord {
        at_ms: draft.now_ms(),
        generation: draft.generation(),
        heard: !reports.is_silent(&AgentId::node(node)),
        wore: known.as_ref().and_then(|known| known.target.as_ref()).map(|target| target.persona.clone()),
        manual: known.as_ref().and_then(|known| known.manual.clone()),
        node: sight.now.node_since(&sight.start, node).unwrap_or_default(),
        signs: sight.now.subject_since(&sight.start, subject),
    };
    draft.put(RolloutMemberRecord { moved: Some(moved), ..member.clone() });
    if let (RolloutChange::Switch(switch), Some(known)) = (&record.change, known) {
        let manual = Some(Override { value: switch.persona.clone(), until_ms: None });
        draft.put(SubjectRecord { manual, ..(*known).clone() });
    }
}

/// What the rollout brings is in force for everybody, also for who came since.
fn finish(draft: &mut Draft, record: &RolloutRecord, progress: Progress) {
    for step in steps_of(record) {
        let known = draft.state().document(Kind::Persona, step.persona.as_str()).cloned();
        if let Some(known) = known {
            draft.put(DocumentRecord { latest: step.to, before: Some(step.from), ..known });
            let message = format!("Persona {} is at version {} for everybody", step.persona, step.to);
            let about = format!("persona/{}", step.persona);
            draft.event(
                "document.updated",
                about,
                "manager",
                message,
                json!({ "version": step.to, "rollout": record.name }),
            );
        }
    }
    let message = format!("rollout {} is done: {} subjects were moved", record.name, record.moved_count);
    tell(draft, record, "done", message, json!({ "moved": record.moved_count }));
    put(draft, RolloutRecord { progress, waiting: None, ..record.clone() });
    forget_members(draft, record);
}

/// Forgets the members of a rollout that is over.
pub(super) fn forget_members(draft: &mut Draft, record: &RolloutRecord) {
    let subjects: Vec<String> = draft.state().members_of(&record.name).map(|it| it.subject.to_string()).collect();
    for subject in subjects {
        draft.delete::<RolloutMemberRecord>(&(record.name.clone(), subject));
    }
}

/// Stores a rollout whose phase or wave changed.
pub(super) fn put(draft: &mut Draft, record: RolloutRecord) {
    let changed_ms = draft.now_ms();
    draft.put(RolloutRecord { changed_ms, ..record });
}

fn tell(draft: &mut Draft, record: &RolloutRecord, what: &str, message: String, details: serde_json::Value) {
    draft.event(&format!("rollout.{what}"), format!("rollout/{}", record.name), "manager", message, details);
}
