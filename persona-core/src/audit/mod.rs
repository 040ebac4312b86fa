//! The audit chain: every event carries the hash of the one before it, so that none can be changed, taken out, put in or
//! moved without the chain saying where.
//!
//! ```text
//!  event 1 ◀─ event 2 ◀─ … ◀─ audit.begun (a process writes from here on) ◀─ … ◀─ audit.sealed (signed: up to here)
//! ```
//!
//! The hash is over stored bytes, and signatures (*seals*) are over hashes; whoever rewrites everything after some event
//! cannot sign it anew. A seal kept elsewhere (a *checkpoint*) finds that too. Signatures are checked by who has keys.

mod compare;
mod entry;
mod hash;
mod links;
mod report;
mod seal;
mod seals;
#[cfg(test)]
mod tests;
mod walk;

pub use compare::Exported;
pub use entry::{AuditEntry, Begun};
pub use hash::EventHash;
pub use report::{AuditReport, Finding, FindingKind, events};
pub use seal::{AuditSeal, SealPurpose};
pub use walk::Walk;

/// The event with which a manager process begins to write; its details are a [`Begun`].
pub const BEGUN_EVENT: &str = "audit.begun";

/// The event that signs what came before it; its details are an [`AuditSeal`].
pub const SEALED_EVENT: &str = "audit.sealed";
