//! What was pushed about subjects, and what criteria made of it.

use std::collections::BTreeMap;

use persona_core::document::Section;
use persona_core::ids::{PersonaName, SubjectId};
use serde::{Deserialize, Serialize};

/// A value that another system pushed about a subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SignalRecord {
    /// About whom.
    pub subject: SubjectId,
    /// Its name, which the catalogue knows.
    pub name: String,
    /// The value.
    pub value: f64,
    /// When it came.
    pub pushed_ms: u64,
    /// Until when it counts.
    pub until_ms: u64,
    /// Who pushed it.
    pub by: String,
}

/// What a subject wears by activation, and what is needed to go on with that after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActivationRecord {
    /// The persona of each section that is worn by activation.
    pub sections: BTreeMap<Section, PersonaName>,
    /// The rules of these personas that are in.
    pub rules: Vec<RuleIn>,
    /// Why each of these personas came to be worn, sentences for people.
    pub reasons: BTreeMap<PersonaName, String>,
    /// Why it was last switched.
    pub reason: String,
    /// Since when it wears that.
    pub since_ms: u64,
    /// When it was switched lately, as far as its flap budget asks.
    pub switches_ms: Vec<u64>,
}

impl ActivationRecord {
    /// Why a persona is worn.
    pub(crate) fn reason_of(&self, persona: &PersonaName) -> &str {
        self.reasons.get(persona).unwrap_or(&self.reason)
    }
}

/// An alert that is raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AlertRecord {
    /// The persona that watches for it, as it was when the alert was raised.
    pub persona: PersonaName,
    /// That persona's version.
    pub version: u32,
    /// Since when.
    pub since_ms: u64,
    /// Why, a sentence for people.
    pub reason: String,
}

/// A rule that is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuleIn {
    /// Whose.
    pub persona: PersonaName,
    /// Its place in that persona's list, from 0.
    pub place: usize,
}
