//! What criteria come to, written down: pushed values that are over, and what subjects wear by activation, with events.

use std::collections::BTreeSet;
use std::sync::Arc;

use persona_core::ids::{PersonaName, SubjectId};
use serde_json::{Value, json};

use crate::activation::Turn;
use crate::live::Live;
use crate::store::{ActivationRecord, Draft, SignalRecord, SubjectRecord};

/// Why somebody who is no longer judged wears nothing by activation.
const GONE: &str = "it is gone, or none of the personas that it may wear has rules any more";

/// Ends what is over, judges what changed, and writes what follows into the draft.
pub(super) fn advance(draft: &mut Draft, live: &Live) {
    end_signals(draft);
    for turn in live.activations.turn(draft.state(), live.clock.moment()) {
        match turn {
            Turn::Decided { subject, record, told } => decided(draft, &subject, record, &told),
            Turn::HeldBack { subject, reason } => {
                draft.event("activation.held-back", &subject, "manager", format!("{subject}: {reason}"), json!({}));
            }
            Turn::Unjudged { subject, trouble } => {
                let message = format!("the rules of the personas of {subject} cannot be judged: {trouble}");
                draft.event("activation.failed", &subject, "manager", message, json!({}));
            }
        }
    }
}

fn end_signals(draft: &mut Draft) {
    let now_ms = draft.now_ms();
    let over = draft.state().signals.values().filter(|record| record.until_ms <= now_ms);
    let over: Vec<Arc<SignalRecord>> = over.cloned().collect();
    for record in over {
        let SignalRecord { subject, name, .. } = &*record;
        draft.delete::<SignalRecord>(&(subject.clone(), name.clone()));
        let message = format!("{name} of {subject} is unknown from now on: its time is over");
        draft.event("signal.expired", subject, "manager", message, json!({ "name": name, "value": record.value }));
    }
}

fn decided(draft: &mut Draft, subject: &SubjectId, record: Option<ActivationRecord>, told: &Value) {
    let Some(before) = draft.state().subjects.get(subject).cloned() else { return };
    note(draft, subject, before.activation.as_deref(), record.as_ref(), told);
    draft.put(SubjectRecord { activation: record.map(Box::new), ..(*before).clone() });
}

/// An event for each persona that is put on or taken off, or that has other sections than before.
fn note(
    draft: &mut Draft,
    subject: &SubjectId,
    before: Option<&ActivationRecord>,
    after: Option<&ActivationRecord>,
    told: &Value,
) {
    let (old, new) = (personas_of(before), personas_of(after));
    let reason = after.map_or(GONE, |after| &after.reason);
    for persona in old.union(&new) {
        let (was, is) = (sections_of(before, persona), sections_of(after, persona));
        let (name, what) = match (was.is_empty(), is.is_empty()) {
            _ if was == is => continue,
            (true, _) => ("activation.entered", format!("{persona} is worn in {}", is.join(", "))),
            (_, true) => ("activation.left", format!("{persona} is no longer worn in {}", was.join(", "))),
            _ => {
                ("activation.changed", format!("{persona} is worn in {}, no longer {}", is.join(", "), was.join(", ")))
            }
        };
        let details = json!({ "persona": persona, "before": was, "after": is, "reason": reason, "saw": told });
        draft.event(name, subject, "manager", format!("{subject}: {what}: {reason}"), details);
    }
}

fn personas_of(record: Option<&ActivationRecord>) -> BTreeSet<&PersonaName> {
    record.into_iter().flat_map(|record| record.sections.values()).collect()
}

fn sections_of(record: Option<&ActivationRecord>, persona: &PersonaName) -> Vec<&'static str> {
    let all = record.into_iter().flat_map(|record| &record.sections);
    all.filter(|(_, worn)| *worn == persona).map(|(section, _)| section.as_str()).collect()
}
