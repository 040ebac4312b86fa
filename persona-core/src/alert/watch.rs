//! One subject under the rules of a section: what is raised, and what changes with the values of now.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rules::{AlertRule, AlertRules};
use crate::activate::{Moment, Phase, RuleState, Seen, Truth, failing, missing, told};
use crate::signal::Input;
use crate::units::Span;

/// The alerts of one subject.
#[derive(Debug, Clone)]
pub struct Watch {
    rules: Arc<AlertRules>,
    states: Vec<RuleState>,
}

/// An alert that is raised or cleared.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertChange {
    /// Its name.
    pub alert: String,
    /// Whether it is raised; else it is cleared.
    pub is_raised: bool,
    /// A sentence for people, with the values that decided.
    pub reason: String,
    /// The comparisons that decided.
    pub seen: Vec<Seen>,
}

/// One alert as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AlertStory {
    /// Its name.
    pub alert: String,
    /// Its `when`.
    pub when: String,
    /// Its `clear`, if it has one.
    pub clear: Option<String>,
    /// Whether `when` holds now.
    pub holds: Truth,
    /// Whether it is raised.
    pub is_raised: bool,
    /// What it waits for, or why it is quiet, in words.
    pub verdict: String,
    /// Every comparison of `when` and then of `clear`.
    pub seen: Vec<Seen>,
}

/// What one rule's criteria say now.
struct Look {
    enter: Truth,
    leave: Truth,
    seen: Vec<Seen>,
    /// Of `clear`, where there is one.
    seen_clear: Vec<Seen>,
}

impl Watch {
    /// Begins to watch. Alerts in `raised`, which somebody else has raised before, stay so until they are cleared.
    pub fn new<'a>(rules: Arc<AlertRules>, raised: impl IntoIterator<Item = &'a str>, now_ms: u64) -> Self {
        let raised: Vec<&str> = raised.into_iter().collect();
        let state = |rule: &AlertRule| match raised.contains(&rule.name.as_str()) {
            true => RuleState::entered(now_ms),
            false => RuleState::default(),
        };
        let states = rules.rules.iter().map(state).collect();
        Self { rules, states }
    }

    /// Goes over to other rules: those that are the same go on, and what is raised and still has a rule stays raised.
    pub fn follow(&mut self, rules: Arc<AlertRules>, now_ms: u64) {
        let before = std::mem::replace(self, Self::new(Arc::clone(&rules), [], now_ms));
        for (rule, state) in rules.rules.iter().zip(&mut self.states) {
            let known = before.rules.rules.iter().zip(&before.states).find(|(known, _)| known.name == rule.name);
            *state = match known {
                Some((known, state)) if known.is_same(rule) => *state,
                Some((_, state)) if state.is_in() => RuleState::entered(now_ms),
                _ => RuleState::default(),
            };
        }
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<AlertRules> {
        &self.rules
    }

    /// The names of alerts that are raised.
    pub fn raised(&self) -> impl Iterator<Item = &str> {
        let pairs = self.rules.rules.iter().zip(&self.states);
        pairs.filter(|(_, state)| state.is_in()).map(|(rule, _)| rule.name.as_str())
    }

    /// Takes the values of now in, and says what changes. `read` gives None for what is unknown.
    pub fn step(&mut self, now: Moment, read: &impl Fn(&Input) -> Option<f64>) -> Vec<AlertChange> {
        let mut changes = Vec::new();
        for (rule, state) in self.rules.rules.iter().zip(&mut self.states) {
            let (look, was_raised) = (rule.look(now.wall_ms, read), state.is_in());
            state.step(&rule.timing, look.enter, look.leave, now.steady_ms);
            if state.is_in() != was_raised {
                changes.push(rule.change(look, state.is_in()));
            }
        }
        changes
    }

    /// Every alert with what it sees.
    pub fn story(&self, now: Moment, read: &impl Fn(&Input) -> Option<f64>) -> Vec<AlertStory> {
        let pairs = self.rules.rules.iter().zip(&self.states);
        pairs.map(|(rule, state)| rule.story(state, now.steady_ms, rule.look(now.wall_ms, read))).collect()
    }
}

impl AlertRule {
    fn look(&self, wall_ms: u64, read: &impl Fn(&Input) -> Option<f64>) -> Look {
        let values = self.when.values(wall_ms, read);
        let (enter, seen) = (self.when.evaluate(&values), self.when.seen(&values));
        let Some(clear) = &self.clear else {
            return Look { enter, leave: !enter, seen, seen_clear: Vec::new() };
        };
        let values = clear.values(wall_ms, read);
        Look { enter, leave: clear.evaluate(&values), seen, seen_clear: clear.seen(&values) }
    }

    fn change(&self, look: Look, is_raised: bool) -> AlertChange {
        let span = |ms: u64| if ms == 0 { String::new() } else { format!(" for {}", Span(ms)) };
        let (reason, seen) = match (is_raised, &self.clear) {
            (true, _) => (format!("holds{}: {}", span(self.timing.hold_ms), told(&look.seen)), look.seen),
            (false, Some(_)) => {
                let held = span(self.timing.leave_hold_ms);
                (format!("clear holds{held}: {}", told(&look.seen_clear)), look.seen_clear)
            }
            (false, None) => {
                let held = span(self.timing.leave_hold_ms);
                (format!("holds no longer{held}: {}", told(&look.seen)), look.seen)
            }
        };
        AlertChange { alert: self.name.clone(), is_raised, reason, seen }
    }

    fn story(&self, state: &RuleState, now_ms: u64, mut look: Look) -> AlertStory {
        let verdict = self.verdict(state, now_ms, &look);
        look.seen.append(&mut look.seen_clear);
        AlertStory {
            alert: self.name.clone(),
            when: self.when.to_string(),
            clear: self.clear.as_ref().map(ToString::to_string),
            holds: look.enter,
            is_raised: state.is_in(),
            verdict,
            seen: look.seen,
        }
    }

    fn verdict(&self, state: &RuleState, now_ms: u64, look: &Look) -> String {
        let since = |start: u64| Span(now_ms.saturating_sub(start) / 1_000 * 1_000);
        match (state.phase, look.enter) {
            (Phase::In | Phase::Leaving, _) if state.unknown_ms.is_some() => {
                format!("raised for {}; what would clear it cannot be told, so it stays", since(state.changed_ms))
            }
            (Phase::In, _) => format!("raised for {}", since(state.changed_ms)),
            (Phase::Leaving, _) => {
                let (quiet, wanted) = (since(state.phase_ms), Span(self.timing.leave_hold_ms));
                format!("raised for {}; clears after {wanted} of quiet, {quiet} so far", since(state.changed_ms))
            }
            (Phase::Entering, _) => format!("holds for {} of {}", since(state.phase_ms), Span(self.timing.hold_ms)),
            (Phase::Out, Truth::Unknown) => missing(&look.seen),
            (Phase::Out, _) => match failing(&look.seen) {
                failing if failing.is_empty() => "quiet".to_owned(),
                failing => format!("quiet: {}", failing.join("; ")),
            },
        }
    }
}

#[cfg(test)]
mod tests;
