//! What is kept of an instance so that everything can be put back, whatever dies when.
//!
//! It is stored before the first write of a transaction and after its last. Found with a transaction under way, it says
//! what to put back; found without, it says what was brought about, so that changes by others show.

use serde::{Deserialize, Serialize};

use super::knob::{Knob, Knobs};
use super::plan::Action;

/// The memory of one instance's limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which instance, of all that had its name: the record of another is worth nothing.
    pub identity: String,
    /// Every knob that any persona touched, as it was before the first one.
    pub baseline: Knobs,
    /// The same knobs as the last transaction left them.
    pub written: Knobs,
    /// While a transaction is under way: the knobs that it touches, as they were before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Knobs>,
}

/// A knob that somebody else changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Which.
    pub knob: Knob,
    /// As it was left.
    pub written: String,
    /// As it is. None: it is gone.
    pub found: Option<String>,
}

impl Record {
    /// The record of an instance that no persona touched yet.
    pub fn of(identity: String) -> Self {
        Self { identity, ..Self::default() }
    }

    /// Every knob of the instance as it was before the first persona.
    pub fn base(&self, observed: &Knobs) -> Knobs {
        let mut base = observed.clone();
        base.extend(self.baseline.clone());
        base
    }

    /// What knobs shall be: as a persona wants them, else as they were before the first.
    pub fn target(&self, wanted: &Knobs) -> Knobs {
        let mut target = self.baseline.clone();
        target.extend(wanted.clone());
        target
    }

    /// The record to store before a transaction towards `target` with these actions: what they touch is remembered as it
    /// is, and all that is wanted as it was before the first persona if this is the first, also where that is the same.
    pub fn begin(&self, observed: &Knobs, target: &Knobs, actions: &[Action]) -> Self {
        let mut next = self.clone();
        let mut pending = Knobs::new();
        let wanted = target.keys().filter_map(|knob| Some((knob.clone(), observed.get(knob)?.clone())));
        for (knob, value) in wanted {
            next.baseline.entry(knob).or_insert(value);
        }
        for action in actions {
            let Action::Write { knob, .. } = action else { continue };
            let Some(value) = observed.get(knob) else { continue };
            pending.insert(knob.clone(), value.clone());
            next.baseline.entry(knob.clone()).or_insert_with(|| value.clone());
        }
        next.pending = Some(pending);
        next
    }

    /// The record to store when the transaction is over, with the knobs as read back.
    pub fn end(&self, observed: &Knobs) -> Self {
        let touched = self.baseline.keys().filter_map(|knob| Some((knob.clone(), observed.get(knob)?.clone())));
        Self { written: touched.collect(), pending: None, ..self.clone() }
    }

    /// What is not as it was left.
    pub fn foreign(&self, observed: &Knobs) -> Vec<Foreign> {
        let other = self.written.iter().filter(|(knob, written)| observed.get(knob) != Some(written));
        let foreign = other.map(|(knob, written)| Foreign {
            knob: knob.clone(),
            written: written.clone(),
            found: observed.get(knob).cloned(),
        });
        foreign.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::*;

    fn knobs(pairs: &[(&str, &str)]) -> Knobs {
        pairs.iter().map(|(name, value)| (Knob::new(name), (*value).to_owned())).collect()
    }

    /// Carries actions out at once.
    fn run(observed: &Knobs, actions: &[Action]) -> Knobs {
        let mut after = observed.clone();
        for action in actions {
            if let Action::Write { knob, value } = action {
                after.insert(knob.clone(), value.clone());
            }
        }
        after
    }

    #[test]
    fn the_baseline_is_that_of_the_first_persona_and_of_every_knob() {
        let before = knobs(&[("cpu.weight", "100"), ("memory.high", "max"), ("pids.max", "9")]);
        let first = Record::of("i".into());
        let actions = plan(&before, &first.target(&knobs(&[("cpu.weight", "200")])));
        let begun = first.begin(&before, &first.target(&knobs(&[("cpu.weight", "200")])), &actions);
        assert_eq!(begun.pending, Some(knobs(&[("cpu.weight", "100")])));
        let now = run(&before, &actions);
        let second = begun.end(&now);
        // The next persona wants something else: what the first one touched goes back in the same transaction.
        let target = second.target(&knobs(&[("pids.max", "5")]));
        let actions = plan(&now, &target);
        let third = second.begin(&now, &target, &actions);
        assert_eq!(third.baseline, knobs(&[("cpu.weight", "100"), ("pids.max", "9")]));
        let now = run(&now, &actions);
        assert_eq!(now, knobs(&[("cpu.weight", "100"), ("memory.high", "max"), ("pids.max", "5")]));
        let last = third.end(&now);
        assert_eq!(run(&now, &plan(&now, &last.target(&Knobs::new()))), before);
    }

    #[test]
    fn changes_by_others_are_those_of_touched_knobs() {
        let record = Record { written: knobs(&[("cpu.weight", "200")]), ..Record::default() };
        assert!(record.foreign(&knobs(&[("cpu.weight", "200"), ("pids.max", "1")])).is_empty());
        let found = record.foreign(&knobs(&[("cpu.weight", "300")]));
        assert_eq!(found[0].found.as_deref(), Some("300"));
        assert_eq!(record.foreign(&Knobs::new())[0].found, None);
    }
}
