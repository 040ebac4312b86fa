//! Alerts: what the `monitoring` section of a persona watches while the persona is worn.
//!
//! ```text
//!   monitoring rules ─► AlertRules, shared by all wearers ─► Watch of one subject: values in, raised and cleared out
//! ```
//! Criteria and their times are those of [`crate::activate`]: what is unknown neither raises nor clears, and clearing takes a
//! while, so that noise around a threshold raises an alert once.

mod rules;
mod watch;

pub use rules::AlertRules;
pub use watch::{AlertChange, AlertStory, Watch};
