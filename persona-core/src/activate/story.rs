//! Why: a sentence for each switch, and for each subject the story of every rule with every value that it saw.

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::fleet::{Fleet, Outcome, SectionChange, SubjectIndex};
use super::formula::{Compare, Comparison};
use super::rule::{Phase, RuleState};
use super::rule_set::{Condition, Rule};
use super::truth::Truth;
use crate::document::{OnUnknown, Section};
use crate::units::Span;

/// One comparison and what it saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// The comparison.
    pub comparison: String,
    /// The left side's value, in words. `unknown` where a signal is missing.
    pub value: String,
    /// Whether it holds.
    pub truth: Truth,
    /// How far the two sides are apart. None: not a number, or unknown.
    pub margin: Option<f64>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RuleStory {
    /// Its `when`.
    pub when: String,
    /// Its `leave`, if it has one.
    pub leave: Option<String>,
    /// Whether `when` holds now.
    pub holds: Truth,
    /// Whether it lets its persona be worn.
    pub is_in: bool,
    /// What it waits for or why it lost, in words.
    pub verdict: String,
    /// Every comparison of `when` and then of `leave`.
    pub seen: Vec<Seen>,
}

/// One persona of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PersonaStory {
    /// `persona@version`.
    pub persona: String,
    /// Sections in which it is worn.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub worn: Vec<Section>,
    /// Its rules, in order.
    pub rules: Vec<RuleStory>,
}

/// Every persona of a subject's list, in order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    /// The personas.
    pub personas: Vec<PersonaStory>,
}

impl Fleet {
    /// Tells of every persona and rule what it sees now and where it stands.
    pub fn explain(&self, subject: SubjectIndex, now: Moment) -> Story {
        let worn = self.worn(subject);
        let set = self.rule_set();
        let personas = set.personas().iter().enumerate().map(|(index, persona)| PersonaStory {
            persona: format!("{}@{}", persona.persona, persona.version),
            worn: worn.iter().filter(|(_, by)| *by == index).map(|(section, _)| *section).collect(),
            rules: persona.rules.clone().map(|rule| self.rule_story(subject.0, rule, now.steady_ms)).collect(),
        });
        Story { personas: personas.collect() }
    }

    fn rule_story(&self, subject: usize, rule: usize, now_ms: u64) -> RuleStory {
        let state = &self.states(subject)[rule];
        let rule = &self.rule_set().rules[rule];
        let mut seen = self.seen(subject, &rule.when);
        let holds = rule.when.truth(&self.truths(subject));
        let verdict = verdict(rule, state, holds, &seen, now_ms);
        let leave = rule.leave.as_ref();
        seen.extend(leave.into_iter().flat_map(|leave| self.seen(subject, leave)));
        RuleStory {
            when: rule.when.text.clone(),
            leave: leave.map(|leave| leave.text.clone()),
            holds,
            is_in: state.is_in(),
            verdict,
            seen,
        }
    }

    fn seen(&self, subject: usize, condition: &Condition) -> Vec<Seen> {
        let of = |index: &u16| {
            let comparison = &self.rule_set().comparisons[usize::from(*index)];
            seen(comparison, comparison.sides(&|source| self.value(subject, source)))
        };
        condition.comparisons.iter().map(of).collect()
    }

    /// The rule through which a persona is in, or which it left last.
    fn telling_rule(&self, subject: usize, persona: usize) -> usize {
        let states = self.states(subject);
        let rules = self.rule_set().personas()[persona].rules.clone();
        let is_in = rules.clone().find(|rule| states[*rule].is_in());
        is_in.or_else(|| rules.clone().max_by_key(|rule| states[*rule].changed_ms)).unwrap_or(rules.start)
    }
}

pub(super) fn seen(comparison: &Comparison, (left, right): (f64, f64)) -> Seen {
    let truth = comparison.compare.of(left, right);
    let is_number = !comparison.is_flag && truth != Truth::Unknown;
    let value = match truth {
        _ if comparison.compare == Compare::Known => if truth == Truth::True { "known" } else { "unknown" }.to_owned(),
        Truth::Unknown => "unknown".to_owned(),
        _ if comparison.is_flag => (truth == Truth::True).to_string(),
        _ => comparison.unit.show(left),
    };
    let margin = is_number.then(|| (left - right).abs());
    Seen { comparison: comparison.text().to_owned(), value, truth, margin }
}

/// `cpu.utilisation > 0.8 (0.93)` for every comparison.
pub(crate) fn told(seen: &[Seen]) -> String {
    let one = |seen: &Seen| format!("{} ({})", seen.comparison, seen.value);
    seen.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn verdict(rule: &Rule, state: &RuleState, holds: Truth, seen: &[Seen], now_ms: u64) -> String {
    let since = |start: u64| Span(now_ms.saturating_sub(start) / 1_000 * 1_000);
    let timing = &rule.timing;
    match (state.phase, holds) {
        (Phase::In, _) if state.unknown_ms.is_some() => {
            let what = match timing.on_unknown {
                OnUnknown::Hold => "stays".to_owned(),
                OnUnknown::Leave => format!("leaves after {} of it", Span(timing.stale_after_ms)),
            };
            format!(
                "in for {}; its criterion cannot be told for want of a signal, so it {what}",
                since(state.changed_ms)
            )
        }
        (Phase::In, _) => format!("in for {}", since(state.changed_ms)),
        (Phase::Leaving, _) => {
            let wait = Span(timing.leave_hold_ms);
            let dwell = Span(timing.dwell_ms);
            format!("about to leave: it must be so for {wait}, and in for {dwell} at least")
        }
        (Phase::Entering, _) if now_ms < state.cooled_ms(timing) => {
            format!("holds, but cools down for {} more", Span(state.cooled_ms(timing) - now_ms))
        }
        (Phase::Entering, _) => format!("holds for {} of {}", since(state.phase_ms), Span(timing.hold_ms)),
        (Phase::Out, Truth::Unknown) => missing(seen),
        (Phase::Out, _) => lost(seen),
    }
}

/// Which comparisons miss their signals.
pub(crate) fn missing(seen: &[Seen]) -> String {
    let unknown = seen.iter().filter(|seen| seen.truth == Truth::Unknown);
    let names: Vec<&str> = unknown.map(|seen| seen.comparison.as_str()).collect();
    format!("cannot be told: nothing is known for {}", names.join(", "))
}

/// Which comparison fails, and by how much.
fn lost(seen: &[Seen]) -> String {
    let failing = failing(seen);
    if failing.is_empty() { "does not hold".to_owned() } else { format!("lost: {}", failing.join("; ")) }
}

/// The comparisons that fail, each with how far it is off.
pub(crate) fn failing(seen: &[Seen]) -> Vec<String> {
    seen.iter()
        .filter(|seen| seen.truth == Truth::False)
        .map(|seen| match seen.margin {
            Some(margin) => {
                format!("{} is {}, off by {}", seen.comparison, seen.value, crate::signal::Unit::NONE.show(margin))
            }
            None => format!("{} is {}", seen.comparison, seen.value),
        })
        .collect()
}

/// Why a subject is switched, or would be.
pub(super) fn reason(
    fleet: &Fleet,
    subject: usize,
    changes: &[SectionChange],
    outcome: Outcome,
    now_ms: u64,
) -> String {
    let set = fleet.rule_set();
    let name = |persona: usize| set.personas()[persona].persona.as_str();
    let entered = |persona: usize| {
        let rule = fleet.telling_rule(subject, persona);
        fleet.states(subject)[rule].is_in() && fleet.states(subject)[rule].changed_ms == now_ms
    };
    let mut sentences: Vec<String> = Vec::new();
    for change in changes {
        let sentence = match (change.before, change.after) {
            (Some(before), after) if !fleet.states(subject)[fleet.telling_rule(subject, before)].is_in() => {
                let next = after.filter(|after| !entered(*after)).map(|after| format!("; {} is next", name(after)));
                let left = format!("{} leaves: {}", name(before), why_left(fleet, subject, before));
                let gained =
                    after.filter(|after| entered(*after)).map(|after| format!("; {}", why_in(fleet, subject, after)));
                format!("{left}{}{}", next.unwrap_or_default(), gained.unwrap_or_default())
            }
            (Some(before), Some(after)) => {
                format!("{}; it goes before {}", why_in(fleet, subject, after), name(before))
            }
            (None, Some(after)) => why_in(fleet, subject, after),
            (_, None) => continue,
        };
        if !sentences.contains(&sentence) {
            sentences.push(sentence);
        }
    }
    let held = match outcome {
        Outcome::Switched => String::new(),
        Outcome::HeldByBudget(until_ms) => {
            format!("held back for {}, because the flap budget is used up: ", Span(until_ms.saturating_sub(now_ms)))
        }
        Outcome::HeldByPace(until_ms) => {
            format!("held back for {}, because too many subjects change: ", Span(until_ms.saturating_sub(now_ms)))
        }
    };
    format!("{held}{}", sentences.join("; "))
}

fn why_in(fleet: &Fleet, subject: usize, persona: usize) -> String {
    let index = fleet.telling_rule(subject, persona);
    let rule = &fleet.rule_set().rules[index];
    let seen = told(&fleet.seen(subject, &rule.when));
    let held = rule.timing.hold_ms;
    let held = if held == 0 { String::new() } else { format!(" for {}", Span(held)) };
    let name = &fleet.rule_set().personas()[persona].persona;
    if seen.is_empty() {
        format!("{name}: {} holds{held}", rule.when.text)
    } else {
        format!("{name}: holds{held}: {seen}")
    }
}

fn why_left(fleet: &Fleet, subject: usize, persona: usize) -> String {
    let index = fleet.telling_rule(subject, persona);
    let rule = &fleet.rule_set().rules[index];
    let seen = told(&fleet.seen(subject, rule.leave.as_ref().unwrap_or(&rule.when)));
    if fleet.states(subject)[index].left_unknown {
        return format!("unknown for {}, and onUnknown is leave: {seen}", Span(rule.timing.stale_after_ms));
    }
    if rule.leave.is_some() { seen } else { format!("no longer {seen}") }
}
