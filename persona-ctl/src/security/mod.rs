//! Security settings of instances beside the firewall: what a running one can be given is written, the rest is looked at.
//!
//! ```text
//!   sysctl ─► parameters ── transaction ─► /proc/sys, of the guest itself or inside a container's network namespace
//!   the others ─► look: the first process's status, mounts, profile ─► in force, or needs a restart
//! ```
//! Writing is one transaction with a record, as with limits. What stands how is decided in `persona_core::security`.

mod keeper;
mod look;
mod parameters;
mod settings;

pub use keeper::Keeper;
pub(crate) use look::look;
pub(crate) use parameters::Place;
pub(crate) use settings::{Outcome, Settings};
