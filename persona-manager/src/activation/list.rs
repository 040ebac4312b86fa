//! A list of personas with rules, in order, and the fleet of all subjects that it is for.

use std::collections::BTreeMap;

use persona_core::activate::{Fleet, RuleSet, SubjectIndex};
use persona_core::document::FlapBudget;
use persona_core::ids::{PersonaName, SubjectId};
use persona_core::signal::Input;
use persona_core::units::Span;

use crate::store::Snapshot;
use crate::tasks::wear::{Personas, bindings_of};

/// Personas with rules in the order in which a subject may wear them, and how often it may be switched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct List {
    personas: Vec<(PersonaName, u32)>,
    switch_count: u32,
    switch_span: Span,
}

impl List {
    /// A subject's list. None: no persona that it may wear has rules.
    pub(super) fn of(snapshot: &Snapshot, personas: &Personas<'_>, subject: &SubjectId) -> Option<Self> {
        let bindings = bindings_of(snapshot, subject);
        let mut found: Vec<(PersonaName, u32)> = Vec::new();
        for name in bindings.iter().flat_map(|binding| binding.spec.named_personas()) {
            let Some((version, document)) = personas.get(name) else { continue };
            if document.spec.has_rules() && !found.iter().any(|(known, _)| known == name) {
                found.push((name.clone(), *version));
            }
        }
        let budget = bindings.iter().find_map(|binding| binding.spec.flap_budget).unwrap_or_default();
        let list = Self { personas: found, switch_count: budget.count, switch_span: budget.per };
        (!list.personas.is_empty()).then_some(list)
    }

    /// How often one subject may be switched.
    pub(super) fn budget(&self) -> FlapBudget {
        FlapBudget { count: self.switch_count, per: self.switch_span }
    }
}

/// All subjects under one list.
#[derive(Debug)]
pub(super) struct Group {
    /// Judges them.
    pub(super) fleet: Fleet,
    /// What its rules read.
    pub(super) inputs: Vec<(usize, Input)>,
    /// Who is who.
    pub(super) members: BTreeMap<SubjectIndex, SubjectId>,
    /// Why the rules cannot be judged together, if so. What is worn then stays.
    pub(super) trouble: Option<String>,
}

impl Group {
    /// A group without subjects.
    pub(super) fn new(list: &List, personas: &Personas<'_>) -> Self {
        let named = list.personas.iter().filter_map(|(name, version)| {
            let (_, document) = personas.get(name)?;
            Some((name.clone(), *version, &document.spec))
        });
        let (rules, trouble) = match RuleSet::new(named) {
            Ok(rules) => (rules, None),
            Err(error) => (RuleSet::default(), Some(error.to_string())),
        };
        let inputs = rules.inputs().map(|(index, input)| (index, input.clone())).collect();
        Self { fleet: Fleet::new(rules, list.budget(), None), inputs, members: BTreeMap::new(), trouble }
    }

    /// The index of a persona in the rule set.
    pub(super) fn index_of(&self, persona: &PersonaName) -> Option<usize> {
        self.fleet.rule_set().personas().iter().position(|known| known.persona == *persona)
    }

    /// The persona of an index.
    pub(super) fn name_of(&self, index: usize) -> PersonaName {
        self.fleet.rule_set().personas()[index].persona.clone()
    }
}
