//! Security settings of instances beside the firewall: which there are, what a running instance has of them, and what is to
//! be told.
//!
//! Kernel parameters can be changed while a system runs; what a process was started with cannot, and is judged by its first
//! process.

mod capability;
mod judge;
mod report;
mod sysctl;

pub use capability::{capability_bit, is_capability};
pub use judge::{Seen, judge};
pub use report::{news, report, state_of};
pub use sysctl::{is_final, sysctl_fault, sysctl_path, sysctl_value_fault, tidy_value};
