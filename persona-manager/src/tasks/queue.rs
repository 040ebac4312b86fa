//! Whom passes have still to decide. One pass decides so many that requests which come meanwhile do not wait long, and the next
//! ones go on: what each leaves is as consistent as what they come to in the end.
//!
//! Those come first of whom others changed something, then whoever rests on what concerns everybody, in turn, and last those
//! whom passes themselves changed.

use std::collections::BTreeSet;
use std::ops::Bound;

use persona_core::ids::SubjectId;

/// What one pass may take, in decisions that change nothing.
pub(super) const BUDGET: usize = 16_384;

/// What a decision takes that changes something: it is written down, stored and told.
const CHANGE_COST: usize = 8;

/// Who waits to be decided.
#[derive(Debug, Default)]
pub(super) struct Queue {
    first: BTreeSet<SubjectId>,
    in_turn: BTreeSet<SubjectId>,
    again: BTreeSet<SubjectId>,
    /// Who was taken last of those in turn: the next one follows.
    last: Option<SubjectId>,
    /// Whether those in turn are decided once more, because passes changed them.
    is_second_turn: bool,
}

impl Queue {
    /// Somebody waits for this one.
    pub(super) fn put_first(&mut self, subject: SubjectId) {
        self.first.insert(subject);
    }

    /// Those come when it is their turn.
    pub(super) fn put(&mut self, subjects: impl IntoIterator<Item = SubjectId>) {
        self.in_turn.extend(subjects);
        self.is_second_turn = false;
    }

    /// Those come once more when the others are through.
    pub(super) fn put_again(&mut self, subjects: impl IntoIterator<Item = SubjectId>) {
        self.again.extend(subjects);
    }

    /// Where all can be decided at once, they are in the order of subjects: what a node wears is its workloads' default.
    pub(super) fn begin(&mut self, budget: usize) {
        if (self.first.len() + self.in_turn.len() + self.again.len()).saturating_mul(CHANGE_COST) <= budget {
            self.first.append(&mut self.in_turn);
            self.first.append(&mut self.again);
        }
    }

    /// The next one.
    pub(super) fn take(&mut self) -> Option<SubjectId> {
        if let Some(subject) = self.first.pop_first() {
            self.in_turn.remove(&subject);
            self.again.remove(&subject);
            return Some(subject);
        }
        if self.in_turn.is_empty() {
            std::mem::swap(&mut self.in_turn, &mut self.again);
            (self.last, self.is_second_turn) = (None, true);
        }
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.in_turn.range::<SubjectId, _>((after, Bound::Unbounded)).next().or(self.in_turn.first());
        let subject = next.cloned()?;
        self.in_turn.remove(&subject);
        self.last = Some(subject.clone());
        Some(subject)
    }

    /// Whether somebody waits whom others changed, or who has not had a turn. Who is only to be looked at once more has time: should
    /// decisions not come to an end, nothing else is held up.
    pub(super) fn is_urgent(&self) -> bool {
        !self.first.is_empty() || !(self.in_turn.is_empty() || self.is_second_turn)
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.in_turn.is_empty() && self.again.is_empty()
    }
}

/// What a decision takes of a pass.
pub(super) fn cost(has_changed: bool) -> usize {
    if has_changed { CHANGE_COST } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> SubjectId {
        format!("workload/n1/{name}").parse().unwrap()
    }

    fn names(queue: &mut Queue, count: usize) -> String {
        let taken = std::iter::from_fn(|| queue.take()).take(count);
        let name = |subject: SubjectId| subject.to_string().rsplit('/').next().unwrap_or_default().to_owned();
        taken.map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn whoever_is_waited_for_comes_first_and_the_others_go_on_where_they_were() {
        let mut queue = Queue::default();
        queue.put(["a", "b", "c", "d", "e"].map(subject));
        queue.put_again([subject("b"), subject("x")]);
        queue.put_first(subject("d"));
        queue.begin(1);
        assert!(queue.is_urgent());
        assert_eq!(names(&mut queue, 3), "d a b");
        // All are to be decided anew: those are next who were before, and nobody is left out.
        queue.put(["a", "b", "c", "d", "e"].map(subject));
        assert_eq!(names(&mut queue, 5), "c d e a b");
        assert!(!queue.is_urgent() && !queue.is_empty());
        assert_eq!(names(&mut queue, 5), "b x");
        assert!(queue.is_empty());
    }

    #[test]
    fn a_few_are_decided_in_the_order_of_subjects() {
        let mut queue = Queue::default();
        queue.put([subject("b")]);
        queue.put_again([subject("a"), subject("b")]);
        queue.put_first(subject("c"));
        queue.begin(BUDGET);
        assert_eq!(names(&mut queue, 9), "a b c");
        assert!(queue.is_empty());
    }
}
