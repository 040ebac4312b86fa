//! Limits of instances: what a persona's resources mean to a kernel or hypervisor, in which order differences are
//! written, and what goes back to what.
//!
//! ```text
//!   Resources ─► Limits ─ translate ─► wanted knobs ─┐
//!                                   observed knobs ──┴ plan ─► actions, in the safe order
//!   Record: knobs before the first persona, knobs as written, knobs before a transaction under way
//! ```
//! A knob is one setting with its text, so that putting back is exact. Everything here is pure.

mod actual;
mod knob;
mod limits;
mod plan;
mod record;
mod throttle;
mod translate;
mod unit;

pub use actual::actual;
pub use knob::{Knob, Knobs, amount, names};
pub use limits::Limits;
pub use plan::{Action, plan};
pub use record::{Foreign, Record};
pub use throttle::Throttle;
pub use translate::{InstanceKind, Surroundings, Wanted, translate};
pub use unit::{UnitProperty, is_unit_name, unit_properties};
