//! Activation: choosing, per section, the first persona of a binding's list whose criteria hold.
//!
//! ```text
//!   text ─lex, parse─► Expr ─compile: types, units─► Criterion ─┐
//!   personas of a binding, in order ────────────────────────────┴─► RuleSet ─► Fleet: values in, decisions out
//! ```
//! A criterion is true, false or unknown (Kleene); unknown neither enters nor leaves. Nothing loops: a criterion is a
//! bounded list of comparisons. Time comes in as a [`Moment`], values as numbers.

mod cells;
mod clock;
mod compile;
mod cron;
mod expr;
mod fleet;
mod formula;
mod functions;
mod lex;
mod number;
mod parse;
mod rule;
mod rule_set;
mod story;
mod timetable;
mod truth;

pub use clock::Moment;
pub use compile::{Criterion, CriterionError};
pub use expr::Expr;
pub use fleet::{Decision, Fleet, Kept, Outcome, Pace, SectionChange, SubjectIndex};
pub use formula::{Comparison, Source};
pub use parse::{DEPTH_MAX, LENGTH_MAX, NODE_COUNT_MAX, parse};
pub use rule::{CLEAR_HOLD_MIN, STALE_AFTER_DEFAULT, Timing};
pub(crate) use rule::{Phase, RuleState};
pub use rule_set::{PersonaRules, RuleSet, RuleSetError};
pub use story::{PersonaStory, RuleStory, Seen, Story};
pub(crate) use story::{failing, missing, told};
pub use timetable::{SCHEDULED_FOR_MAX, SCHEDULED_FOR_MIN, Timetable, TimetableError, instant};
pub use truth::Truth;
