//! Which packages a node and its workloads have, beside what their personas want.
//!
//! ```text
//!   desired state ─► want ─┐                          ┌─► report: wanted and installed, per package
//!   /, /proc/PID/root ─────┴─ dpkg's database ─ compare ┴─► event when drift begins, changes or ends
//! ```
//! It looks and tells; nothing is installed. Files of a workload are opened below its own root, whatever they are links to.

mod dpkg;
mod keeper;
mod place;
mod status;

pub use dpkg::{Database, installed};
pub use keeper::Keeper;
pub use place::Place;
