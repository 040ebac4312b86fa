//! A fleet: subjects under one list of personas. Values go in as they change, decisions come out.
//!
//! Only what changed is looked at: a value that leaves its cell, a clock that turns a minute, a time that is due. Decisions are
//! held back by a flap budget per subject and by a pace for all; what is held back is told once and comes when it may.
//! Subjects come and go; one that was judged elsewhere before goes on with what it wears ([`Kept`]).

mod membership;
mod pace;

use std::collections::VecDeque;

pub use membership::Kept;
pub use pace::Pace;

use super::cells::Truths;
use super::clock::Moment;
use super::rule::RuleState;
use super::rule_set::RuleSet;
use super::story;
use crate::document::{FlapBudget, Section};

/// A subject's place in a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectIndex(pub(super) usize);

/// What became of a wish to switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The subject is switched.
    Switched,
    /// Its flap budget is used up until this time of the steady clock; it keeps what it wears.
    HeldByBudget(u64),
    /// The whole fleet changes too fast; the subject keeps what it wears until this time of the steady clock.
    HeldByPace(u64),
}

/// A section that changes hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionChange {
    /// Which.
    pub section: Section,
    /// The persona's index in the rule set. None: what lower layers say.
    pub before: Option<usize>,
    /// The persona's index in the rule set. None: what lower layers say.
    pub after: Option<usize>,
}

/// One subject's switch, or why it does not come yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whose.
    pub subject: SubjectIndex,
    /// Whether it is done.
    pub outcome: Outcome,
    /// What changes.
    pub changes: Vec<SectionChange>,
    /// A sentence for people, with the values that decided.
    pub reason: String,
}

/// Nobody is worn.
const NOBODY: u16 = u16::MAX;

/// Who is worn, per section.
pub(super) type Worn = [u16; Section::ALL.len()];

/// What is remembered of a subject beside its rules.
#[derive(Debug, Clone)]
struct Subject {
    truths: Truths,
    worn: Worn,
    is_held: bool,
    /// Nobody has this place; who comes next takes it.
    is_vacant: bool,
    /// It is among those that moved.
    has_moved: bool,
    /// Times of its latest switches, at most as many as the budget has.
    switches: VecDeque<u64>,
}

/// Subjects under one list of personas.
#[derive(Debug, Clone)]
pub struct Fleet {
    set: RuleSet,
    budget: FlapBudget,
    pace: Pace,
    /// Values by subject and source; those of clocks are the fleet's.
    values: Vec<f64>,
    cells: Vec<u16>,
    clock_values: Vec<f64>,
    clock_truths: Truths,
    clock_minute: Option<u64>,
    subjects: Vec<Subject>,
    rules: Vec<RuleState>,
    /// When each subject is looked at again; 0 is now.
    due_ms: Vec<u64>,
    /// Subjects of which a rule came in or went out since that was asked for.
    moved: Vec<usize>,
    /// Places that nobody has.
    vacant: Vec<usize>,
}

/// One minute.
const MINUTE_MS: u64 = 60_000;

impl Fleet {
    /// A fleet without subjects. `change_count_per_minute`: how many subjects may be switched in a minute, if bounded.
    pub fn new(set: RuleSet, budget: FlapBudget, change_count_per_minute: Option<u32>) -> Self {
        let clock_values = vec![f64::NAN; set.sources.len()];
        Self {
            set,
            budget,
            pace: Pace::new(change_count_per_minute),
            values: Vec::new(),
            cells: Vec::new(),
            clock_values,
            clock_truths: Truths::default(),
            clock_minute: None,
            subjects: Vec::new(),
            rules: Vec::new(),
            due_ms: Vec::new(),
            moved: Vec::new(),
            vacant: Vec::new(),
        }
    }

    /// The rules.
    pub fn rule_set(&self) -> &RuleSet {
        &self.set
    }

    /// A source's value of a subject; NaN is unknown. Nothing is decided before [`Self::evaluate`].
    pub fn observe(&mut self, SubjectIndex(subject): SubjectIndex, source: usize, value: f64) {
        let at = subject * self.set.sources.len() + source;
        self.values[at] = value;
        let cells = &self.set.cells[source];
        if !cells.is_within(self.cells[at], value) {
            let cell = cells.cell_of(value);
            if cell != self.cells[at] {
                self.cells[at] = cell;
                cells.put(cell, &mut self.subjects[subject].truths);
                self.due_ms[subject] = 0;
            }
        }
        if !self.set.computed[source].is_empty() {
            self.compute(subject, source);
        }
    }

    /// Recomputes the comparisons that are more than a threshold and read the source.
    fn compute(&mut self, subject: usize, source: usize) {
        if self.subjects[subject].is_vacant {
            return;
        }
        let before = self.subjects[subject].truths;
        let mut truths = before;
        for bit in &self.set.computed[source] {
            let truth = self.set.comparisons[usize::from(*bit)].truth(&|source| self.value(subject, source));
            truths.set(usize::from(*bit), truth);
        }
        if truths != before {
            self.subjects[subject].truths = truths;
            self.due_ms[subject] = 0;
        }
    }

    /// A source's value for a subject; NaN where it is unknown.
    pub(super) fn value(&self, subject: usize, source: u16) -> f64 {
        let source = usize::from(source);
        if self.set.sources[source].clock().is_some() {
            return self.clock_values[source];
        }
        self.values[subject * self.set.sources.len() + source]
    }

    /// Decides for every subject of which something changed or a time has come.
    pub fn evaluate(&mut self, now: Moment) -> Vec<Decision> {
        self.turn_clocks(now.wall_ms);
        let mut decisions = Vec::new();
        for subject in 0..self.due_ms.len() {
            if self.due_ms[subject] <= now.steady_ms {
                self.due_ms[subject] = u64::MAX;
                decisions.extend(self.decide(subject, now.steady_ms));
            }
        }
        decisions
    }

    /// The same at a pace that several fleets share, instead of this one's own.
    pub fn evaluate_within(&mut self, now: Moment, pace: &mut Pace) -> Vec<Decision> {
        std::mem::swap(&mut self.pace, pace);
        let decisions = self.evaluate(now);
        std::mem::swap(&mut self.pace, pace);
        decisions
    }

    /// When the next subject wants to be looked at although nothing changes. Clocks turn once a minute besides.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due_ms.iter().min().copied().filter(|due| *due < u64::MAX)
    }

    /// Whether something changed for a subject, or its time has come.
    pub fn is_due(&self, SubjectIndex(subject): SubjectIndex, now_ms: u64) -> bool {
        self.due_ms[subject] <= now_ms
    }

    /// Whether a wish of a subject is held back.
    pub fn is_held_back(&self, SubjectIndex(subject): SubjectIndex) -> bool {
        self.subjects[subject].is_held
    }

    /// How often a subject was switched within the time of the flap budget.
    pub fn switch_count(&self, SubjectIndex(subject): SubjectIndex, now_ms: u64) -> usize {
        let switches = self.subjects[subject].switches.iter();
        switches.filter(|at| at.saturating_add(self.budget.per.0) > now_ms).count()
    }

    fn turn_clocks(&mut self, wall_ms: u64) {
        let minute = wall_ms / MINUTE_MS;
        if self.clock_minute == Some(minute) {
            return;
        }
        self.clock_minute = Some(minute);
        let before = self.clock_truths;
        let mut turned = Vec::new();
        for (source, reading) in self.set.sources.iter().enumerate().filter_map(|(at, it)| Some((at, it.clock()?))) {
            let value = reading.read(wall_ms);
            if self.clock_values[source] != value {
                self.clock_values[source] = value;
                let cells = &self.set.cells[source];
                cells.put(cells.cell_of(value), &mut self.clock_truths);
                turned.push(source);
            }
        }
        for source in turned.into_iter().filter(|source| !self.set.computed[*source].is_empty()).collect::<Vec<_>>() {
            (0..self.subjects.len()).for_each(|subject| self.compute(subject, source));
        }
        if self.clock_truths != before {
            let places = self.due_ms.iter_mut().zip(&self.subjects);
            places.filter(|(_, subject)| !subject.is_vacant).for_each(|(due, _)| *due = 0);
        }
    }

    fn decide(&mut self, subject: usize, now_ms: u64) -> Option<Decision> {
        let truths = self.truths(subject);
        let start = subject * self.set.rules.len();
        let (mut due, mut has_moved) = (u64::MAX, false);
        for (rule, state) in self.set.rules.iter().zip(&mut self.rules[start..]) {
            let enter = rule.when.truth(&truths);
            let leave = rule.leave.as_ref().map_or(!enter, |leave| leave.truth(&truths));
            let was_in = state.is_in();
            due = due.min(state.step(&rule.timing, enter, leave, now_ms).unwrap_or(u64::MAX));
            has_moved |= state.is_in() != was_in;
        }
        if has_moved && !std::mem::replace(&mut self.subjects[subject].has_moved, true) {
            self.moved.push(subject);
        }
        let wanted = self.wanted(subject);
        let before = self.subjects[subject].worn;
        if wanted == before {
            self.subjects[subject].is_held = false;
            self.due_ms[subject] = due;
            return None;
        }
        let outcome = self.outcome(subject, now_ms);
        let was_held = std::mem::replace(&mut self.subjects[subject].is_held, outcome != Outcome::Switched);
        if let Outcome::HeldByBudget(until_ms) | Outcome::HeldByPace(until_ms) = outcome {
            due = due.min(until_ms);
        } else {
            self.record_switch(subject, wanted, now_ms);
        }
        self.due_ms[subject] = due;
        // What is held back is told once.
        let is_news = outcome == Outcome::Switched || !was_held;
        is_news.then(|| {
            let changes = changes_between(&before, &wanted);
            let reason = story::reason(self, subject, &changes, outcome, now_ms);
            Decision { subject: SubjectIndex(subject), outcome, changes, reason }
        })
    }

    /// Who would be worn if nothing held anything back: per section the first persona of which a rule is in.
    fn wanted(&self, subject: usize) -> Worn {
        let states = self.states(subject);
        let mut wanted = [NOBODY; Section::ALL.len()];
        for (index, persona) in self.set.personas().iter().enumerate() {
            if states[persona.rules.clone()].iter().any(RuleState::is_in) {
                for section in &persona.sections {
                    let worn = &mut wanted[*section as usize];
                    *worn = if *worn == NOBODY { index as u16 } else { *worn };
                }
            }
        }
        wanted
    }

    fn outcome(&mut self, subject: usize, now_ms: u64) -> Outcome {
        let switches = &mut self.subjects[subject].switches;
        while switches.front().is_some_and(|at| at.saturating_add(self.budget.per.0) <= now_ms) {
            switches.pop_front();
        }
        if switches.len() >= self.budget.count as usize {
            let oldest = switches.front().copied().unwrap_or(now_ms);
            return Outcome::HeldByBudget(oldest.saturating_add(self.budget.per.0).max(now_ms + 1));
        }
        self.pace.held_until(now_ms).map_or(Outcome::Switched, Outcome::HeldByPace)
    }

    fn record_switch(&mut self, subject: usize, wanted: Worn, now_ms: u64) {
        let subject = &mut self.subjects[subject];
        subject.worn = wanted;
        subject.switches.push_back(now_ms);
        self.pace.note(now_ms);
    }

    /// What a subject wears by activation, in the order of the sections.
    pub fn worn(&self, SubjectIndex(subject): SubjectIndex) -> Vec<(Section, usize)> {
        let worn = self.subjects[subject].worn;
        let pairs = Section::ALL.into_iter().zip(worn);
        pairs
            .filter(|(_, persona)| *persona != NOBODY)
            .map(|(section, persona)| (section, usize::from(persona)))
            .collect()
    }

    pub(super) fn truths(&self, subject: usize) -> Truths {
        self.subjects[subject].truths.joined(&self.clock_truths)
    }

    pub(super) fn states(&self, subject: usize) -> &[RuleState] {
        let count = self.set.rules.len();
        &self.rules[subject * count..][..count]
    }
}

fn changes_between(before: &Worn, after: &Worn) -> Vec<SectionChange> {
    let known = |persona: u16| (persona != NOBODY).then_some(usize::from(persona));
    let sections = Section::ALL.into_iter().enumerate();
    let differ = sections.filter(|(index, _)| before[*index] != after[*index]);
    differ
        .map(|(index, section)| SectionChange { section, before: known(before[index]), after: known(after[index]) })
        .collect()
}

#[cfg(test)]
mod tests;
