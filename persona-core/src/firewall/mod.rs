//! Firewall rules: what they decide, and the rows by which a node's programs decide the same in three look-ups.
//!
//! Rules judge what *opens* a flow: the first that matches decides, and what none matches passes. Pure, and the oracle of tests.

mod compile;
mod decide;
mod rule;

pub use compile::{CompiledRules, RULE_COUNT_MAX, SERVICE_COUNT_MAX, TooLarge};
pub use decide::{Opening, Verdict, decide};
