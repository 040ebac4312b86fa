//! One subject that is judged: what is known of it, and what was decided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use persona_core::activate::{Decision, Kept, Moment, SubjectIndex};
use persona_core::document::Section;
use persona_core::ids::{PersonaName, SubjectId};
use persona_core::signal::Reading;
use serde_json::{Value, json};

use super::list::{Group, List};
use super::sight::Sight;
use crate::store::{ActivationRecord, RuleIn};

/// A subject under a list.
#[derive(Debug)]
pub(super) struct Judged {
    /// Its list.
    pub(super) list: Arc<List>,
    /// Its place in the list's fleet.
    pub(super) index: SubjectIndex,
    /// What is known of it.
    pub(super) sight: Sight,
    /// What shall be kept of it in the store.
    pub(super) decided: Option<ActivationRecord>,
    /// What its last switch rests on, for the event.
    pub(super) told: Value,
    /// What was held back last.
    pub(super) held_back: Option<String>,
}

impl Judged {
    /// Takes a subject into a group; it goes on with what was decided before.
    pub(super) fn join(
        group: &mut Group,
        list: Arc<List>,
        subject: &SubjectId,
        decided: Option<ActivationRecord>,
        now_ms: u64,
    ) -> Self {
        let sight = Sight::new(group.inputs.iter().map(|(_, input)| input));
        let index = group.enter(subject, decided.as_ref(), now_ms);
        let (told, held_back) = Default::default();
        Self { list, index, sight, decided, told, held_back }
    }

    /// Goes over to another group, with its board and what it wears.
    pub(super) fn change(&mut self, group: &mut Group, list: Arc<List>, subject: &SubjectId, now_ms: u64) {
        self.sight.board.keep_reading(group.inputs.iter().map(|(_, input)| input));
        self.index = group.enter(subject, self.decided.as_ref(), now_ms);
        (self.list, self.held_back) = (list, None);
    }

    /// Shows the fleet what the board says now.
    pub(super) fn look(&self, group: &mut Group, now_ms: u64) {
        for (source, input) in &group.inputs {
            let value = self.sight.board.read(input, now_ms).unwrap_or(f64::NAN);
            group.fleet.observe(self.index, *source, value);
        }
    }

    /// Takes a switch in.
    pub(super) fn switch(&mut self, group: &Group, decision: &Decision, now: Moment) {
        let kept = group.fleet.keep(self.index);
        let sections: BTreeMap<Section, _> =
            kept.worn.iter().map(|(section, persona)| (*section, group.name_of(*persona))).collect();
        let came = |name: &PersonaName| {
            decision.changes.iter().any(|change| change.after.is_some_and(|index| group.name_of(index) == *name))
        };
        let mut before = self.decided.take().unwrap_or_default().reasons;
        let reason = |name: &PersonaName| {
            let kept = before.remove(name).filter(|_| !came(name));
            (name.clone(), kept.unwrap_or_else(|| decision.reason.clone()))
        };
        let worn: BTreeSet<&PersonaName> = sections.values().collect();
        let reasons = worn.into_iter().map(reason).collect();
        self.decided = Some(ActivationRecord {
            sections,
            reasons,
            rules: rules_of(group, &kept),
            reason: decision.reason.clone(),
            since_ms: now.wall_ms,
            switches_ms: kept.switches,
        });
        self.told = self.details(group, decision, now);
        self.held_back = None;
    }

    /// Notes which rules of what is worn are in now.
    pub(super) fn note_rules(&mut self, group: &Group) {
        if let Some(decided) = self.decided.as_mut().filter(|decided| !decided.sections.is_empty()) {
            decided.rules = rules_of(group, &group.fleet.keep(self.index));
        }
    }

    /// Every rule of the personas that change hands with what it saw, and the forecasts that it rests on.
    fn details(&self, group: &Group, decision: &Decision, now: Moment) -> Value {
        let changed =
            |index: &usize| decision.changes.iter().any(|change| [change.before, change.after].contains(&Some(*index)));
        let story = group.fleet.explain(self.index, now);
        let personas: Vec<_> =
            story.personas.into_iter().enumerate().filter(|(index, _)| changed(index)).map(|(_, it)| it).collect();
        let reads = |text: &str| {
            let seen = personas.iter().flat_map(|persona| &persona.rules).flat_map(|rule| &rule.seen);
            seen.into_iter().any(|seen| seen.comparison.contains(text))
        };
        let forecasts = group.inputs.iter().filter_map(|(_, input)| {
            let Reading::Predicted(ahead) = input.reading else { return None };
            let forecast = self.sight.board.forecast(&input.signal, ahead).filter(|_| reads(&input.to_string()))?;
            let same =
                self.sight.board.accuracies().find(|(signal, span, _)| **signal == input.signal && *span == ahead);
            let measured = same.map(|(.., measured)| measured);
            let measured = measured.filter(|measured| measured.count > 0);
            Some(json!({
                "signal": input.signal.as_str(),
                "aheadMs": ahead.0,
                "value": forecast.value,
                "typicalError": forecast.typical_error,
                "measuredError": measured.map(|measured| measured.error),
                "measuredCount": measured.map(|measured| measured.count),
            }))
        });
        let forecasts: Vec<Value> = forecasts.collect();
        json!({ "personas": personas, "forecasts": forecasts })
    }
}

impl Group {
    fn enter(&mut self, subject: &SubjectId, decided: Option<&ActivationRecord>, now_ms: u64) -> SubjectIndex {
        let index = self.fleet.add();
        if let Some(decided) = decided {
            let worn = decided.sections.iter().filter_map(|(section, name)| Some((*section, self.index_of(name)?)));
            let rules = decided.rules.iter().filter_map(|rule| Some((self.index_of(&rule.persona)?, rule.place)));
            // The steady clock was set by the wall's when it began: at a restart the two are the same.
            let switches = decided.switches_ms.clone();
            let kept = Kept { worn: worn.collect(), rules: rules.collect(), switches };
            self.fleet.resume(index, &kept, now_ms);
        }
        self.members.insert(index, subject.clone());
        index
    }

    /// Lets a subject go.
    pub(super) fn leave(&mut self, index: SubjectIndex) {
        self.members.remove(&index);
        self.fleet.remove(index);
    }
}

/// The rules that are in, of personas that are worn.
fn rules_of(group: &Group, kept: &Kept) -> Vec<RuleIn> {
    let is_worn = |persona: &usize| kept.worn.iter().any(|(_, worn)| worn == persona);
    let worn = kept.rules.iter().filter(|(persona, _)| is_worn(persona));
    worn.map(|(persona, place)| RuleIn { persona: group.name_of(*persona), place: *place }).collect()
}
