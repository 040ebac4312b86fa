//! The rules of a binding's personas, in order, compiled together: what several criteria read or compare is there once.

use std::ops::Range;

use super::cells::{BIT_COUNT, Bits, Cells, Truths};
use super::compile::{Criterion, CriterionError};
use super::formula::{Compare, Comparison, LogicOp, Source, truth_of};
use super::rule::Timing;
use super::truth::Truth;
use crate::document::{ActivationRule, PersonaSpec, Section};
use crate::ids::PersonaName;
use crate::signal::Input;

/// Why rules cannot be compiled together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleSetError {
    /// A criterion is wrong.
    #[error("{persona}: spec.activation[{index}].{key}: {wrong}")]
    Criterion {
        /// Whose.
        persona: PersonaName,
        /// Which rule.
        index: usize,
        /// `when` or `leave`.
        key: &'static str,
        /// What is wrong.
        wrong: CriterionError,
    },
    /// Too many comparisons.
    #[error(
        "{persona} brings the list to {count} different comparisons: at most {BIT_COUNT} in one binding, so use the same thresholds more often or split the binding"
    )]
    TooMany {
        /// The first persona that has no room.
        persona: PersonaName,
        /// How many it would be.
        count: usize,
    },
}

/// A persona with rules, in its place in the list.
#[derive(Debug, Clone)]
pub struct PersonaRules {
    /// Its name.
    pub persona: PersonaName,
    /// Its version.
    pub version: u32,
    /// The sections that it puts on.
    pub sections: Vec<Section>,
    /// Which of the set's rules are its own.
    pub(super) rules: Range<usize>,
}

/// One rule, compiled.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) when: Condition,
    pub(super) leave: Option<Condition>,
    pub(super) timing: Timing,
}

/// A criterion over the set's comparisons.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) text: String,
    logic: Logic,
    /// Its comparisons, in the order of the text.
    pub(super) comparisons: Vec<u16>,
}

#[derive(Debug, Clone)]
enum Logic {
    /// All of these must hold: what most criteria are.
    All(Bits),
    Steps(Vec<LogicOp>),
}

impl Condition {
    pub(super) fn truth(&self, truths: &Truths) -> Truth {
        match &self.logic {
            Logic::All(mask) if truths.holds & mask == *mask => Truth::True,
            Logic::All(mask) if truths.fails & mask != 0 => Truth::False,
            Logic::All(_) => Truth::Unknown,
            Logic::Steps(steps) => truth_of(steps, &|comparison| truths.get(comparison)),
        }
    }
}

/// The rules of a list of personas.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    personas: Vec<PersonaRules>,
    pub(super) rules: Vec<Rule>,
    pub(super) sources: Vec<Source>,
    pub(super) comparisons: Vec<Comparison>,
    /// Per source: its thresholds.
    pub(super) cells: Vec<Cells>,
    /// Per source: comparisons that are more than a threshold and read it.
    pub(super) computed: Vec<Vec<u16>>,
}

impl RuleSet {
    /// Compiles the rules of personas, the preferred one first. Personas without rules take no part.
    pub fn new<'a>(
        personas: impl IntoIterator<Item = (PersonaName, u32, &'a PersonaSpec)>,
    ) -> Result<Self, RuleSetError> {
        let mut set = Self::default();
        for (persona, version, spec) in personas {
            let Some(rules) = spec.activation.as_ref().filter(|rules| !rules.is_empty()) else { continue };
            let start = set.rules.len();
            for (index, rule) in rules.iter().enumerate() {
                let wrong = |key, wrong| RuleSetError::Criterion { persona: persona.clone(), index, key, wrong };
                set.add_rule(rule).map_err(|(key, error)| wrong(key, error))?;
            }
            let count = set.comparisons.len();
            if count > BIT_COUNT {
                return Err(RuleSetError::TooMany { persona, count });
            }
            let sections = spec.sections().filter(|section| *section != Section::Activation).collect();
            set.personas.push(PersonaRules { persona, version, sections, rules: start..set.rules.len() });
        }
        set.index_thresholds();
        Ok(set)
    }

    /// The personas that have rules, in order.
    pub fn personas(&self) -> &[PersonaRules] {
        &self.personas
    }

    /// Everything that the rules read; values are passed by the index in this list.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The signals among the sources, with their indices.
    pub fn inputs(&self) -> impl Iterator<Item = (usize, &Input)> {
        self.sources.iter().enumerate().filter_map(|(index, source)| Some((index, source.input()?)))
    }

    /// The first persona of which some rule's `when` holds with these values, whatever was before: no times, no state.
    pub fn first_match(&self, values: &[f64]) -> Option<usize> {
        let truths = self.truths_of(values);
        let holds = |rule: &Rule| rule.when.truth(&truths) == Truth::True;
        self.personas.iter().position(|persona| self.rules[persona.rules.clone()].iter().any(holds))
    }

    fn truths_of(&self, values: &[f64]) -> Truths {
        let mut truths = Truths::default();
        for (cells, value) in self.cells.iter().zip(values) {
            cells.put(cells.cell_of(*value), &mut truths);
        }
        let value = |source: u16| values.get(usize::from(source)).copied().unwrap_or(f64::NAN);
        for bits in &self.computed {
            for bit in bits {
                truths.set(usize::from(*bit), self.comparisons[usize::from(*bit)].truth(&value));
            }
        }
        truths
    }

    fn add_rule(&mut self, rule: &ActivationRule) -> Result<(), (&'static str, CriterionError)> {
        let when = Criterion::parse(&rule.when).map_err(|error| ("when", error))?;
        let leave = rule.leave.as_deref().map(Criterion::parse).transpose().map_err(|error| ("leave", error))?;
        let when = self.add_condition(&when);
        let leave = leave.map(|leave| self.add_condition(&leave));
        self.rules.push(Rule { when, leave, timing: Timing::from(rule) });
        Ok(())
    }

    /// Takes a criterion's sources and comparisons in, each only if it is new.
    fn add_condition(&mut self, criterion: &Criterion) -> Condition {
        let sources: Vec<u16> = criterion.sources.iter().map(|source| self.source_index(source)).collect();
        let own: Vec<u16> = criterion
            .comparisons
            .iter()
            .map(|comparison| position_or_push(&mut self.comparisons, comparison.with_sources(&sources)))
            .collect();
        let renamed = criterion.logic.iter().map(|op| match op {
            LogicOp::Comparison(index) => LogicOp::Comparison(own[usize::from(*index)]),
            other => *other,
        });
        Condition { text: criterion.to_string(), logic: Logic::of(renamed.collect()), comparisons: own }
    }

    fn source_index(&mut self, source: &Source) -> u16 {
        let name = source.to_string();
        let known = self.sources.iter().position(|known| known.to_string() == name);
        let index = known.unwrap_or_else(|| {
            self.sources.push(source.clone());
            self.sources.len() - 1
        });
        u16::try_from(index).expect("128 comparisons of bounded length read fewer sources")
    }

    fn index_thresholds(&mut self) {
        let mut thresholds: Vec<Vec<(usize, Compare, f64)>> = vec![Vec::new(); self.sources.len()];
        let mut known: Vec<Vec<usize>> = vec![Vec::new(); self.sources.len()];
        self.computed = vec![Vec::new(); self.sources.len()];
        for (bit, comparison) in self.comparisons.iter().enumerate() {
            if comparison.compare == Compare::Known {
                comparison.sources().for_each(|source| known[usize::from(source)].push(bit));
            } else if let Some((source, compare, value)) = comparison.threshold() {
                thresholds[usize::from(source)].push((bit, compare, value));
            } else {
                for source in comparison.sources() {
                    let computed = &mut self.computed[usize::from(source)];
                    if computed.last() != Some(&(bit as u16)) {
                        computed.push(bit as u16);
                    }
                }
            }
        }
        let with_known = |(thresholds, known): (Vec<_>, Vec<usize>)| {
            let mut cells = Cells::new(&thresholds);
            known.into_iter().for_each(|bit| cells.ask_known(bit));
            cells
        };
        self.cells = thresholds.into_iter().zip(known).map(with_known).collect();
    }
}

impl Logic {
    fn of(steps: Vec<LogicOp>) -> Self {
        let bit = |step: &LogicOp| match step {
            LogicOp::Comparison(index) if usize::from(*index) < BIT_COUNT => Some(1 << index),
            LogicOp::And => Some(0),
            _ => None,
        };
        let mask: Option<Bits> = steps.iter().map(bit).try_fold(0, |mask, bit| Some(mask | bit?));
        mask.map_or(Self::Steps(steps), Self::All)
    }
}

fn position_or_push(list: &mut Vec<Comparison>, item: Comparison) -> u16 {
    let index = list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    });
    u16::try_from(index).expect("documents are bounded, and so are their comparisons")
}
