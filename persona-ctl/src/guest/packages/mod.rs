//! Installing what a persona wants, and putting back what was there: a package manager behind a small trait, and an installer
//! that knows none in particular.
//!
//! ```text
//!   look → choose versions → keep what would be replaced → record → change and hold → look again → record
//! ```
//! What fails, or was under way when somebody died, is put back from the record. Nothing is removed that nobody said.

mod apt;
mod installer;
mod manager;

pub(super) use installer::Installer;
