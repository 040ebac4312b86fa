//! Beginning a rollout: what it changes is checked as if it were made at once, then kept beside what is in force.

use std::collections::BTreeSet;

use persona_core::compose::selector_matches;
use persona_core::document::{Document, Kind};
use persona_core::ids::{RolloutName, SubjectId};
use persona_core::rollout::{Progress, RolloutSpec, in_order};
use persona_core::wire::api::ProblemPart;
use persona_core::wire::rollouts::{RolloutChange, SwitchMany, VersionStep};
use serde_json::json;

use crate::documents::{self, Conflicts};
use crate::error::{Kind as RefusalKind, Refusal};
use crate::reach::changed_by;
use crate::store::{
    DocumentRecord, Draft, Override, RolloutMemberRecord, RolloutRecord, Snapshot, SubjectRecord, VersionRecord,
};
use crate::tasks::assignment::{Assigner, subjects_of};
use crate::tasks::wear::labels_of;

/// Rollouts that are over and still kept.
const KEPT_COUNT_MAX: usize = 100;

/// Subjects that a refusal names.
const NAMED_COUNT_MAX: usize = 10;

/// Begins to roll out new versions of personas.
pub(crate) fn start(
    draft: &mut Draft,
    assigner: &Assigner,
    name: Option<RolloutName>,
    documents: &[Document],
    conflicts: Conflicts,
    spec: RolloutSpec,
) -> Result<RolloutName, Refusal> {
    check_spec(&spec)?;
    let mut after = Draft::new(draft.state(), draft.now_ms());
    documents::apply(&mut after, &assigner.reports(), documents, conflicts)?;
    let steps = steps(draft.state(), after.state(), documents)?;
    let first = &steps.first().ok_or_else(|| Refusal::invalid("nothing of that differs from what is stored"))?;
    let name = free_name(draft.state(), name, &format!("{}-{}", first.persona, first.to))?;
    let members = changed_by(assigner, draft.state(), after.state());
    for step in &steps {
        keep_candidate(draft, after.state(), step);
    }
    let message = format!(
        "rollout {name} of {} to {} subjects begins",
        steps.iter().map(|step| format!("{} version {}", step.persona, step.to)).collect::<Vec<_>>().join(", "),
        members.len()
    );
    begin(draft, name, RolloutChange::Personas(steps), spec, members, message)
}

/// Begins to switch many subjects.
pub(crate) fn switch(
    draft: &mut Draft,
    assigner: &Assigner,
    name: Option<RolloutName>,
    switch: SwitchMany,
    spec: RolloutSpec,
) -> Result<RolloutName, Refusal> {
    check_spec(&spec)?;
    let persona = &switch.persona;
    if draft.state().document(Kind::Persona, persona.as_str()).is_none() {
        return Err(Refusal::not_found(format!("there is no persona {persona}: apply it first")));
    }
    let members = selected(draft.state(), &switch);
    if members.is_empty() {
        return Err(Refusal::invalid(format!("the selector matches nobody who is not switched to {persona} already")));
    }
    check_wearable(draft.state(), assigner, &switch, &members)?;
    let name = free_name(draft.state(), name, &format!("{persona}-switch"))?;
    let message = format!("rollout {name} begins to switch {} subjects to {persona}", members.len());
    begin(draft, name, RolloutChange::Switch(switch), spec, members, message)
}

fn check_spec(spec: &RolloutSpec) -> Result<(), Refusal> {
    spec.check().map_err(|error| Refusal::invalid(format!("spec.{error}")))
}

/// Personas with their versions before and after, if nothing else would change.
fn steps(before: &Snapshot, after: &Snapshot, documents: &[Document]) -> Result<Vec<VersionStep>, Refusal> {
    let latest = |snapshot: &Snapshot, document: &Document| {
        snapshot.document(document.kind(), document.name()).map(|record| record.latest)
    };
    let mut steps = Vec::new();
    for document in documents {
        let (from, to) = (latest(before, document), latest(after, document));
        match (document, from, to) {
            (_, from, to) if from == to => {}
            (Document::Persona(persona), Some(from), Some(to)) => {
                steps.push(VersionStep { persona: persona.metadata.name.clone(), from, to });
            }
            _ => {
                let (kind, name) = (document.kind(), document.name());
                return Err(Refusal::invalid(format!(
                    "{kind} {name} would be new or is no persona: apply it first; new versions of personas that there are can be rolled out"
                )));
            }
        }
    }
    Ok(steps)
}

/// Keeps a version beside the one in force.
fn keep_candidate(draft: &mut Draft, after: &Snapshot, step: &VersionStep) {
    let name = step.persona.as_str();
    let (Some(known), Some(version)) =
        (draft.state().document(Kind::Persona, name).cloned(), after.version(Kind::Persona, name, step.to))
    else {
        return;
    };
    draft.put(DocumentRecord { given: step.to, ..known });
    draft.put(VersionRecord::clone(version));
}

/// A name that no rollout has: the one asked for, or the first that is free.
fn free_name(snapshot: &Snapshot, asked: Option<RolloutName>, base: &str) -> Result<RolloutName, Refusal> {
    let is_taken = |name: &RolloutName| snapshot.rollouts.contains_key(name);
    if let Some(name) = asked {
        return match is_taken(&name) {
            true => Err(Refusal::conflict(format!("there is a rollout {name} already: choose another name"))),
            false => Ok(name),
        };
    }
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let names = std::iter::once(base.to_owned()).chain(numbered.take(snapshot.rollouts.len() + 1));
    let free = names.filter_map(|name| name.parse().ok()).find(|name| !is_taken(name));
    free.ok_or_else(|| Refusal::invalid("the persona's name is too long to name the rollout after it: give a name"))
}

/// Subjects that a selector matches and that are not switched there already.
fn selected(snapshot: &Snapshot, switch: &SwitchMany) -> BTreeSet<SubjectId> {
    let is_there = |subject: &SubjectId| {
        let manual = snapshot.subjects.get(subject).and_then(|record| record.manual.as_ref());
        manual.is_some_and(|manual| manual.value == switch.persona && manual.until_ms.is_none())
    };
    let all = subjects_of(snapshot).into_iter();
    let matching = all.filter(|it| selector_matches(&switch.selector, it, &labels_of(snapshot, it)));
    matching.filter(|subject| !is_there(subject)).collect()
}

/// Refuses a switch that somebody cannot wear, by what would come out if all were switched at once.
fn check_wearable(
    snapshot: &Snapshot,
    assigner: &Assigner,
    switch: &SwitchMany,
    members: &BTreeSet<SubjectId>,
) -> Result<(), Refusal> {
    let settled = assigner.settled(snapshot);
    let mut after = Draft::new(&settled, 0);
    for subject in members {
        if let Some(record) = settled.subjects.get(subject) {
            let manual = Some(Override { value: switch.persona.clone(), until_ms: None });
            after.put(SubjectRecord { manual, ..(**record).clone() });
        }
    }
    let after = assigner.settled(after.state());
    let wears = |subject: &&SubjectId| {
        let record = after.subjects.get(*subject);
        record.is_some_and(|record| record.sections.values().any(|section| section.persona == switch.persona))
    };
    let refused: Vec<&SubjectId> = members.iter().filter(|subject| !wears(subject)).collect();
    let Some(first) = refused.first() else { return Ok(()) };
    let why = |subject: &SubjectId| {
        let record = after.subjects.get(subject);
        let unassigned = record.and_then(|record| record.unassigned.clone());
        unassigned.unwrap_or_else(|| format!("its bindings do not name {}, or there is no room", switch.persona))
    };
    let detail = format!("{} of {} cannot wear {}, such as {first}", refused.len(), members.len(), switch.persona);
    let parts = refused.iter().take(NAMED_COUNT_MAX).map(|it| ProblemPart::new(it.to_string(), why(it)));
    Err(Refusal::new(RefusalKind::NoPersonaFits, detail).with_parts(parts.collect()))
}

fn begin(
    draft: &mut Draft,
    name: RolloutName,
    change: RolloutChange,
    spec: RolloutSpec,
    members: BTreeSet<SubjectId>,
    message: String,
) -> Result<RolloutName, Refusal> {
    forget_old(draft);
    let details = json!({ "change": change, "spec": spec, "members": members.len() });
    draft.event("rollout.started", format!("rollout/{name}"), draft.actor(), message, details);
    let (now_ms, started_by) = (draft.now_ms(), draft.actor().to_string());
    draft.put(RolloutRecord {
        name: name.clone(),
        change,
        spec,
        progress: Progress::default(),
        member_count: members.len() as u32,
        moved_count: 0,
        waiting: None,
        started_by,
        started_ms: now_ms,
        changed_ms: now_ms,
    });
    for (subject, position) in in_order(&name, members).into_iter().zip(0..) {
        draft.put(RolloutMemberRecord { rollout: name.clone(), subject, position, moved: None });
    }
    Ok(name)
}

/// Forgets the oldest of those that are over.
fn forget_old(draft: &mut Draft) {
    let over = draft.state().rollouts.values().filter(|record| record.progress.phase.is_over());
    let mut over: Vec<(u64, RolloutName)> = over.map(|record| (record.changed_ms, record.name.clone())).collect();
    over.sort();
    let surplus = (over.len() + 1).saturating_sub(KEPT_COUNT_MAX);
    over.iter().take(surplus).for_each(|(_, name)| draft.delete::<RolloutRecord>(name));
}
