//! One rule over time: how long its criterion must hold, when it leaves, and what a missing signal does to it.
//!
//! ```text
//!   Out ──enter true──► Entering ──held `for`, cooled down──► In ──leave true──► Leaving ──held `leaveFor`, dwelt──► Out
//!                        │ enter false ► Out                       │ leave false ► In
//! ```
//! While the deciding criterion is unknown no time passes for it; after `staleAfter` a rule that is in stays or leaves as
//! `onUnknown` says, and one that was entering starts anew.

use super::truth::Truth;
use crate::document::{ActivationRule, MonitoringRule, OnUnknown};
use crate::units::Span;

/// How long a criterion may be unknown before `onUnknown` decides, where the rule says nothing.
pub const STALE_AFTER_DEFAULT: Span = Span(300_000);

/// How long an alert stays at least after its criterion no longer holds, where the rule says nothing: noise around a
/// threshold raises it once.
pub const CLEAR_HOLD_MIN: Span = Span(30_000);

/// A rule's times, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long `when` must hold.
    pub hold_ms: u64,
    /// How long `leave` must hold.
    pub leave_hold_ms: u64,
    /// How long after leaving it may not be entered again.
    pub cooldown_ms: u64,
    /// How long it stays once it was entered.
    pub dwell_ms: u64,
    /// How long its criterion may be unknown.
    pub stale_after_ms: u64,
    /// What happens then.
    pub on_unknown: OnUnknown,
}

impl From<&ActivationRule> for Timing {
    fn from(rule: &ActivationRule) -> Self {
        let ms = |span: Option<Span>| span.map_or(0, |span| span.0);
        Self {
            hold_ms: ms(rule.hold),
            leave_hold_ms: ms(rule.leave_hold),
            cooldown_ms: ms(rule.cooldown),
            dwell_ms: ms(rule.dwell),
            stale_after_ms: rule.stale_after.unwrap_or(STALE_AFTER_DEFAULT).0,
            on_unknown: rule.on_unknown.unwrap_or(OnUnknown::Hold),
        }
    }
}

impl From<&MonitoringRule> for Timing {
    fn from(rule: &MonitoringRule) -> Self {
        Self {
            hold_ms: rule.hold.map_or(0, |span| span.0),
            leave_hold_ms: rule.clear_hold.unwrap_or(CLEAR_HOLD_MIN.max(rule.hold.unwrap_or_default())).0,
            cooldown_ms: 0,
            dwell_ms: 0,
            stale_after_ms: STALE_AFTER_DEFAULT.0,
            on_unknown: OnUnknown::Hold,
        }
    }
}

/// Where a rule is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Out,
    /// `when` holds, not yet long enough.
    Entering,
    In,
    /// `leave` holds, not yet long enough.
    Leaving,
}

/// What is remembered of a rule; times are of the steady clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RuleState {
    pub(crate) phase: Phase,
    /// Whether it was ever left, so that a cooldown counts.
    pub(super) was_left: bool,
    /// Whether its last leaving was for want of a signal.
    pub(super) left_unknown: bool,
    /// Since when the phase goes on, without the time in which the criterion was unknown.
    pub(crate) phase_ms: u64,
    /// When it was last entered or left.
    pub(crate) changed_ms: u64,
    /// Since when the deciding criterion is unknown.
    pub(crate) unknown_ms: Option<u64>,
}

impl RuleState {
    /// One that comes in now.
    pub(crate) fn entered(now_ms: u64) -> Self {
        Self { phase: Phase::In, phase_ms: now_ms, changed_ms: now_ms, ..Self::default() }
    }

    /// Whether its persona may be worn.
    pub(crate) fn is_in(&self) -> bool {
        matches!(self.phase, Phase::In | Phase::Leaving)
    }

    /// When the cooldown ends.
    pub(super) fn cooled_ms(&self, timing: &Timing) -> u64 {
        if self.was_left { self.changed_ms.saturating_add(timing.cooldown_ms) } else { 0 }
    }

    /// Takes the truths of now in. Answers when to look again although nothing changes.
    pub(crate) fn step(&mut self, timing: &Timing, enter: Truth, leave: Truth, now_ms: u64) -> Option<u64> {
        match self.phase {
            Phase::Out | Phase::Entering => self.step_out(timing, enter, now_ms),
            // What should be entered is not left at the same time.
            Phase::In | Phase::Leaving => self.step_in(timing, leave.and(!enter_holds(enter)), now_ms),
        }
    }

    fn step_out(&mut self, timing: &Timing, enter: Truth, now_ms: u64) -> Option<u64> {
        match enter {
            Truth::False => {
                (self.phase, self.unknown_ms) = (Phase::Out, None);
                None
            }
            Truth::Unknown if self.phase == Phase::Out => None,
            Truth::Unknown => {
                let forgotten = self.unknown_since(now_ms).saturating_add(timing.stale_after_ms);
                if now_ms < forgotten {
                    return Some(forgotten);
                }
                (self.phase, self.unknown_ms) = (Phase::Out, None);
                None
            }
            Truth::True => {
                if self.phase == Phase::Out {
                    (self.phase, self.phase_ms) = (Phase::Entering, now_ms);
                }
                self.go_on(now_ms);
                let due = self.phase_ms.saturating_add(timing.hold_ms).max(self.cooled_ms(timing));
                if now_ms < due {
                    return Some(due);
                }
                (self.phase, self.phase_ms, self.changed_ms) = (Phase::In, now_ms, now_ms);
                None
            }
        }
    }

    fn step_in(&mut self, timing: &Timing, leave: Truth, now_ms: u64) -> Option<u64> {
        let dwelt = self.changed_ms.saturating_add(timing.dwell_ms);
        match leave {
            Truth::False => {
                (self.phase, self.unknown_ms) = (Phase::In, None);
                None
            }
            Truth::Unknown => {
                let decided = self.unknown_since(now_ms).saturating_add(timing.stale_after_ms).max(dwelt);
                match timing.on_unknown {
                    OnUnknown::Hold => None,
                    OnUnknown::Leave if now_ms < decided => Some(decided),
                    OnUnknown::Leave => self.go_out(now_ms, true),
                }
            }
            Truth::True => {
                if self.phase == Phase::In {
                    (self.phase, self.phase_ms, self.unknown_ms) = (Phase::Leaving, now_ms, None);
                }
                self.go_on(now_ms);
                let due = self.phase_ms.saturating_add(timing.leave_hold_ms).max(dwelt);
                if now_ms < due { Some(due) } else { self.go_out(now_ms, false) }
            }
        }
    }

    fn go_out(&mut self, now_ms: u64, left_unknown: bool) -> Option<u64> {
        let left = Self { was_left: true, left_unknown, phase_ms: now_ms, changed_ms: now_ms, ..Self::default() };
        *self = left;
        None
    }

    fn unknown_since(&mut self, now_ms: u64) -> u64 {
        *self.unknown_ms.get_or_insert(now_ms)
    }

    /// The criterion is known again: the time in between does not count.
    fn go_on(&mut self, now_ms: u64) {
        if let Some(since) = self.unknown_ms.take() {
            self.phase_ms = self.phase_ms.saturating_add(now_ms.saturating_sub(since));
        }
    }
}

/// True only where it is certain; what is unknown does not keep a rule in.
fn enter_holds(enter: Truth) -> Truth {
    (enter == Truth::True).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Truth::{False, True, Unknown};

    const TIMING: Timing = Timing {
        hold_ms: 30,
        leave_hold_ms: 20,
        cooldown_ms: 100,
        dwell_ms: 200,
        stale_after_ms: 50,
        on_unknown: OnUnknown::Leave,
    };

    /// Steps through (time, enter, leave) and says when the rule was in.
    fn run(timing: Timing, steps: &[(u64, Truth, Truth)]) -> Vec<bool> {
        let mut state = RuleState::default();
        let step = |(now_ms, enter, leave): &(u64, Truth, Truth)| {
            state.step(&timing, *enter, *leave, *now_ms);
            state.is_in()
        };
        steps.iter().map(step).collect()
    }

    #[test]
    fn it_enters_after_its_hold_and_leaves_after_dwell_and_leave_hold() {
        let steps = [
            (0, True, False),
            (29, True, False),
            (30, True, False),
            (40, False, True),
            (229, False, True),
            (230, False, True),
            (231, True, False),
            (329, True, False),
            (330, True, False),
        ];
        assert_eq!(run(TIMING, &steps), [false, false, true, true, true, false, false, false, true]);
    }

    #[test]
    fn a_criterion_that_fails_in_between_starts_anew() {
        let steps = [(0, True, False), (29, False, True), (30, True, False), (59, True, False), (60, True, False)];
        assert_eq!(run(TIMING, &steps), [false, false, false, false, true]);
    }

    #[test]
    fn unknown_neither_enters_nor_leaves_and_its_time_does_not_count() {
        let steps = [(0, True, False), (20, Unknown, Unknown), (40, True, False), (49, True, False), (50, True, False)];
        assert_eq!(run(TIMING, &steps), [false, false, false, false, true]);
        let hold = Timing { on_unknown: OnUnknown::Hold, ..TIMING };
        let steps = [(0, True, False), (30, True, False), (400, Unknown, Unknown), (9_000, Unknown, Unknown)];
        assert_eq!(run(hold, &steps), [false, true, true, true]);
    }

    #[test]
    fn after_stale_after_on_unknown_decides() {
        let steps = [
            (0, True, False),
            (30, True, False),
            (300, Unknown, Unknown),
            (349, Unknown, Unknown),
            (350, Unknown, Unknown),
        ];
        assert_eq!(run(TIMING, &steps), [false, true, true, true, false]);
        let steps = [
            (0, True, False),
            (10, Unknown, Unknown),
            (60, Unknown, Unknown),
            (70, True, False),
            (99, True, False),
            (100, True, False),
        ];
        assert_eq!(run(TIMING, &steps), [false, false, false, false, false, true]);
    }

    #[test]
    fn what_should_be_entered_is_not_left() {
        let steps = [(0, True, True), (30, True, True), (1_000, True, True)];
        assert_eq!(run(TIMING, &steps), [false, true, true]);
    }

    #[test]
    fn the_next_look_is_when_something_can_change() {
        let mut state = RuleState::default();
        assert_eq!(state.step(&TIMING, True, False, 5), Some(35));
        assert_eq!(state.step(&TIMING, True, False, 35), None);
        assert_eq!(state.step(&TIMING, False, True, 36), Some(235));
        assert_eq!(state.step(&TIMING, False, True, 235), None);
        assert_eq!(state.step(&TIMING, True, False, 240), Some(335));
    }

    proptest::proptest! {
        /// Evaluating more often than asked for changes nothing: what matters happens at the announced times.
        #[test]
        fn looking_only_when_asked_is_enough(
            truths in proptest::collection::vec((0_usize..3, 0_usize..3, 1_u64..80), 1..60),
        ) {
            let all = [False, Unknown, True];
            let (mut often, mut seldom, mut now_ms) = (RuleState::default(), RuleState::default(), 0);
            for (enter, leave, length) in truths {
                let (enter, leave) = (all[enter], all[leave]);
                let mut due = seldom.step(&TIMING, enter, leave, now_ms);
                for _ in 0..length {
                    often.step(&TIMING, enter, leave, now_ms);
                    if due.is_some_and(|due| due <= now_ms) {
                        due = seldom.step(&TIMING, enter, leave, now_ms);
                    }
                    proptest::prop_assert_eq!(often.is_in(), seldom.is_in(), "at {}", now_ms);
                    now_ms += 1;
                }
            }
        }
    }
}
