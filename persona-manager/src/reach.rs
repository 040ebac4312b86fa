//! How much of the fleet changes by people and programs may reach within an hour: counted in the transaction that makes
//! the change, refused with what is left, and gone over by an administrator's word. [`persona_core::reach`] decides.
//!
//! What repairs is never asked: failover and health act by themselves, rollbacks and revocations do not come here.

use std::collections::{BTreeMap, BTreeSet};

use persona_core::ids::{PersonaName, SubjectId};
use persona_core::reach::{Reached, TooFar, is_counted, used};
use persona_core::wire::api::ProblemPart;
use persona_core::wire::reach::{OVERRIDE_HEADER, ReachSettings, ReachView};
use serde_json::json;

use crate::error::{Kind, Refusal};
use crate::store::{AgentId, Draft, NetworkTarget, ReachedRecord, SETTINGS_KEY, Snapshot, SubjectRecord};
use crate::tasks::assignment::{Assigner, subjects_of};

/// What was reached is counted by the minute, milliseconds.
const MINUTE_MS: u64 = 60_000;

/// Why somebody who may goes over the limit. None: nobody does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overriding(pub Option<String>);

/// Makes a change if what it reaches is let through; `count` says how many subjects that is, from the state before and after.
pub(crate) fn within<T>(
    draft: &mut Draft,
    overriding: &Overriding,
    change: impl FnOnce(&mut Draft) -> Result<T, Refusal>,
    count: impl FnOnce(&Snapshot, &Snapshot, &T) -> u32,
) -> Result<T, Refusal> {
    let before = draft.state().clone();
    let made = change(draft)?;
    if settings_in(&before).limit.is_some() {
        let reached = count(&before, draft.state(), &made);
        admit(draft, &before, reached, overriding)?;
    }
    Ok(made)
}

/// The limit that is set.
pub(crate) fn settings_in(snapshot: &Snapshot) -> ReachSettings {
    snapshot.settings.get(SETTINGS_KEY).map(|settings| settings.reach).unwrap_or_default()
}

/// How it stands now.
pub(crate) fn view(snapshot: &Snapshot, now_ms: u64) -> ReachView {
    let (limit, fleet) = (settings_in(snapshot).limit, fleet_count(snapshot));
    let allowed = limit.map(|limit| limit.allowed(fleet));
    ReachView { limit, fleet, allowed, used: used(&past(snapshot), now_ms) }
}

fn admit(draft: &mut Draft, before: &Snapshot, subject_count: u32, overriding: &Overriding) -> Result<(), Refusal> {
    let Some(limit) = settings_in(before).limit else { return Ok(()) };
    let judged = limit.judge(fleet_count(before), &past(before), subject_count, draft.now_ms());
    match (judged, &overriding.0) {
        (Ok(()), _) => {}
        (Err(refused), None) => return Err(refusal(&refused, draft.now_ms())),
        (Err(refused), Some(reason)) => {
            let message = format!(
                "a change that reaches {subject_count} subjects goes over the limit of {} an hour: {reason}",
                refused.allowed
            );
            let details = json!({ "subjects": subject_count, "allowed": refused.allowed, "used": refused.used, "reason": reason });
            draft.event("reach.overridden", "fleet", draft.actor(), message, details);
        }
    }
    note(draft, subject_count);
    Ok(())
}

fn refusal(refused: &TooFar, now_ms: u64) -> Refusal {
    let TooFar { subject_count, allowed, used, room_at_ms } = *refused;
    let wait_secs = room_at_ms.map(|at_ms| at_ms.saturating_sub(now_ms).div_ceil(1_000));
    let when = match wait_secs {
        Some(secs) => format!("there is room for it in {secs} s"),
        None => "there is never room for so much at once: make it in parts".to_owned(),
    };
    let detail = format!(
        "this reaches {subject_count} subjects; {used} of {allowed} that may be reached within an hour were, {} are left; {when}, or an administrator goes over it with a reason",
        refused.left()
    );
    let parts = vec![
        ProblemPart::new("allowed", allowed.to_string()),
        ProblemPart::new("used", used.to_string()),
        ProblemPart::new("left", refused.left().to_string()),
        ProblemPart::new("roomAtMs", room_at_ms.map_or_else(|| "never".to_owned(), |at_ms| at_ms.to_string())),
        ProblemPart::new("override", format!("the header {OVERRIDE_HEADER} with the reason, by an administrator")),
    ];
    Refusal::new(Kind::ReachExceeded, detail).with_parts(parts).with_retry_after(wait_secs)
}

/// How many subjects a change of documents dresses otherwise.
pub(crate) fn of_documents(assigner: &Assigner, before: &Snapshot, after: &Snapshot) -> u32 {
    changed_by(assigner, before, after).len() as u32
}

/// Subjects that a change of documents dresses otherwise: what the next pass would make of the state before and after.
pub(crate) fn changed_by(assigner: &Assigner, before: &Snapshot, after: &Snapshot) -> BTreeSet<SubjectId> {
    changed_between(&assigner.settled(before), &assigner.settled(after))
}

/// Subjects that wear or lease something else in one state than in the other.
pub(crate) fn changed_between(before: &Snapshot, after: &Snapshot) -> BTreeSet<SubjectId> {
    let (old, new) = (worn(before), worn(after));
    let changed = old.keys().chain(new.keys()).filter(|subject| old.get(*subject) != new.get(*subject));
    changed.cloned().collect()
}

/// How many more subjects may be reached now. None: any number.
pub(crate) fn left(snapshot: &Snapshot, now_ms: u64) -> Option<u32> {
    let limit = settings_in(snapshot).limit?;
    Some(limit.allowed(fleet_count(snapshot)).saturating_sub(used(&past(snapshot), now_ms)))
}

/// Subjects whose flows take another way when an edge takes more, fewer or none of them: its share of those of its group.
pub(crate) fn of_edge(snapshot: &Snapshot, name: &str) -> u32 {
    let Some(edge) = snapshot.agents.get(&AgentId::edge(name)).and_then(|agent| agent.edge()) else { return 0 };
    let peers = snapshot.agents.values().filter_map(|agent| agent.edge()).filter(|peer| peer.group == edge.group);
    let all: u64 = peers.map(|peer| u64::from(peer.weight)).sum();
    let holds =
        |lease: &&std::sync::Arc<crate::store::LeaseRecord>| lease.group == edge.group && lease.state.is_at_edges();
    let holders: BTreeSet<&SubjectId> = snapshot.leases.values().filter(holds).map(|lease| &lease.subject).collect();
    (holders.len() as u64 * u64::from(edge.weight)).div_ceil(all.max(1)) as u32
}

/// Subjects of a node that hold leases.
pub(crate) fn of_node(snapshot: &Snapshot, name: &str) -> u32 {
    let is_there =
        |record: &&std::sync::Arc<SubjectRecord>| record.subject.node().as_str() == name && record.target.is_some();
    snapshot.subjects.values().filter(is_there).count() as u32
}

/// Every subject: what is changed is for the whole fleet.
pub(crate) fn of_all(snapshot: &Snapshot) -> u32 {
    fleet_count(snapshot)
}

/// What everybody wears, and under which leases.
type Worn = BTreeMap<SubjectId, (BTreeMap<String, (PersonaName, u32)>, Option<NetworkTarget>)>;

fn worn(snapshot: &Snapshot) -> Worn {
    let sections = |record: &SubjectRecord| {
        record.sections.iter().map(|(name, it)| (name.clone(), (it.persona.clone(), it.version))).collect()
    };
    let subjects = snapshot.subjects.values();
    subjects.map(|record| (record.subject.clone(), (sections(record), record.target.clone()))).collect()
}

/// Subjects that there are.
fn fleet_count(snapshot: &Snapshot) -> u32 {
    subjects_of(snapshot).len() as u32
}

/// Notes what was reached while there is a limit, and forgets what counts no longer.
pub(crate) fn note(draft: &mut Draft, subject_count: u32) {
    if subject_count == 0 || settings_in(draft.state()).limit.is_none() {
        return;
    }
    let now_ms = draft.now_ms();
    let is_over = |record: &ReachedRecord| !is_counted(&reached(record), now_ms);
    let old: Vec<u64> = draft.state().reached.values().filter(|it| is_over(it)).map(|it| it.minute_end_ms).collect();
    old.iter().for_each(|minute| draft.delete::<ReachedRecord>(minute));
    // A minute counts from its end: what was reached counts for an hour at least.
    let minute_end_ms = (now_ms / MINUTE_MS + 1) * MINUTE_MS;
    let before = draft.state().reached.get(&minute_end_ms).map_or(0, |record| record.subject_count);
    draft.put(ReachedRecord { minute_end_ms, subject_count: before.saturating_add(subject_count) });
}

fn past(snapshot: &Snapshot) -> Vec<Reached> {
    snapshot.reached.values().map(|record| reached(record)).collect()
}

fn reached(record: &ReachedRecord) -> Reached {
    Reached { at_ms: record.minute_end_ms, subject_count: record.subject_count }
}
