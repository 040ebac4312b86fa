//! Who is in a fleet: subjects come, go, and go on with what they wore elsewhere.
//!
//! A place that was left is given to the next who comes, and has no memory of who had it.

use super::super::cells::{CELL_UNKNOWN, Truths};
use super::super::rule::RuleState;
use super::{Fleet, NOBODY, Subject, SubjectIndex};
use crate::document::Section;

/// What a fleet knows of a subject that is worth keeping, to go on with in another fleet or another process. How long
/// something holds already is not: that starts anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// What is worn: the persona's index in the rule set.
    pub worn: Vec<(Section, usize)>,
    /// Rules that are in: the persona's index, and the rule's place in that persona's list.
    pub rules: Vec<(usize, usize)>,
    /// When it was switched lately, times of the steady clock, the oldest first.
    pub switches: Vec<u64>,
}

impl Subject {
    fn vacant() -> Self {
        let (truths, switches) = Default::default();
        Self { truths, worn: [NOBODY; 7], is_held: false, is_vacant: true, has_moved: false, switches }
    }
}

impl Fleet {
    /// Adds a subject that wears nothing and of which nothing is known.
    pub fn add(&mut self) -> SubjectIndex {
        let index = self.vacant.pop().unwrap_or_else(|| self.push_place());
        let mut truths = Truths::default();
        self.set.cells.iter().for_each(|cells| cells.put(CELL_UNKNOWN, &mut truths));
        self.subjects[index] = Subject { truths, is_vacant: false, ..Subject::vacant() };
        let (source_count, rule_count) = (self.set.sources.len(), self.set.rules.len());
        self.values[index * source_count..][..source_count].fill(f64::NAN);
        self.cells[index * source_count..][..source_count].fill(CELL_UNKNOWN);
        self.rules[index * rule_count..][..rule_count].fill(RuleState::default());
        self.due_ms[index] = 0;
        // Clocks that have turned already turn for the others only when they turn again.
        for source in 0..source_count {
            if self.set.sources[source].clock().is_some() {
                self.compute(index, source);
            }
        }
        SubjectIndex(index)
    }

    fn push_place(&mut self) -> usize {
        let index = self.subjects.len();
        self.subjects.push(Subject::vacant());
        self.values.resize(self.values.len() + self.set.sources.len(), f64::NAN);
        self.cells.resize(self.cells.len() + self.set.sources.len(), CELL_UNKNOWN);
        self.rules.resize(self.rules.len() + self.set.rules.len(), RuleState::default());
        self.due_ms.push(u64::MAX);
        index
    }

    /// Takes a subject out; its index may be another's from now on.
    pub fn remove(&mut self, SubjectIndex(subject): SubjectIndex) {
        self.subjects[subject] = Subject::vacant();
        self.due_ms[subject] = u64::MAX;
        self.moved.retain(|moved| *moved != subject);
        self.vacant.push(subject);
    }

    /// What is worth keeping of a subject.
    pub fn keep(&self, subject: SubjectIndex) -> Kept {
        let states = self.states(subject.0);
        let in_rules = self.set.personas().iter().enumerate().flat_map(|(index, persona)| {
            let own = states[persona.rules.clone()].iter().enumerate();
            own.filter(|(_, state)| state.is_in()).map(move |(place, _)| (index, place))
        });
        let switches = self.subjects[subject.0].switches.iter().copied().collect();
        Kept { worn: self.worn(subject), rules: in_rules.collect(), switches }
    }

    /// Has a new subject go on with what was kept of it: it wears that, and the rules are in since now.
    pub fn resume(&mut self, SubjectIndex(subject): SubjectIndex, kept: &Kept, now_ms: u64) {
        let personas = self.set.personas();
        let count = personas.len();
        for (section, persona) in kept.worn.iter().filter(|(_, persona)| *persona < count) {
            self.subjects[subject].worn[*section as usize] = *persona as u16;
        }
        let start = subject * self.set.rules.len();
        for (persona, place) in kept.rules.iter().filter(|(persona, _)| *persona < count) {
            if let Some(rule) = personas[*persona].rules.clone().nth(*place) {
                self.rules[start + rule] = RuleState::entered(now_ms);
            }
        }
        let latest = kept.switches.iter().rev().take(self.budget.count as usize);
        self.subjects[subject].switches = latest.rev().copied().collect();
    }

    /// Subjects of which a rule came in or went out since this was last asked.
    pub fn take_moved(&mut self) -> Vec<SubjectIndex> {
        let moved = std::mem::take(&mut self.moved);
        moved.iter().for_each(|subject| self.subjects[*subject].has_moved = false);
        moved.into_iter().map(SubjectIndex).collect()
    }
}
