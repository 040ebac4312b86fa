//! Which edge carries whom, on the live fleet: the planner of `persona-core`, fed from the store and the reports.
//!
//! ```text
//!   snapshot, reports ──fleet──▶ Fleet ──persona-core──▶ plan ──keeper, in waves──▶ subjects' records ──▶ nodes
//! ```
//! As advice the plan is made for whoever asks. Steering, the leading manager keeps one, and its passes write it down.

mod fleet;
mod keeper;
mod processor;
mod view;

pub(crate) use fleet::{bound_location_of, fleet_of, place_of};
pub(crate) use keeper::{Keeper, plan_in_force, plannable, settings_of};
pub(crate) use view::{Current, considered, plan_view};
