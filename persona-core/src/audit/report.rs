//! What checking a chain found.

use serde::{Deserialize, Serialize};

/// What was checked, and what is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditReport {
    /// Events that were looked at.
    pub entry_count: u64,
    /// The oldest.
    pub first: Option<u64>,
    /// The newest.
    pub last: Option<u64>,
    /// Events that were written before the chain began; nothing shows whether they are what was written then.
    pub unchained_count: u64,
    /// Times that a manager process began to write.
    pub process_count: u64,
    /// Seals whose signature and hash are right.
    pub seal_count: u64,
    /// The newest event that a right seal vouches for.
    pub sealed_to: Option<u64>,
    /// Events up to this one were dropped for their age, which is signed.
    pub pruned_to: Option<u64>,
    /// Things worth knowing that are not wrong.
    pub notes: Vec<String>,
    /// What is wrong, in the order of events. Empty: the chain is whole.
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The first event that it is about.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// A sentence for people.
    pub detail: String,
}

/// What may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// Its text is not the one that its hash was made of.
    Altered,
    /// It is not there any more.
    Removed,
    /// It was put in.
    Inserted,
    /// It stands where another stood.
    Moved,
    /// Text and hash were changed together.
    Rewritten,
    /// It has no hash although the chain had begun.
    Bare,
    /// A signature is not right.
    Signature,
    /// It should be signed by now and is not.
    Unsealed,
    /// The chain is not the one that the checkpoint is of.
    Diverged,
}

impl AuditReport {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }
}

impl Finding {
    /// About events `first` to `last`.
    pub(super) fn new(kind: FindingKind, (first, last): (u64, u64), detail: impl Into<String>) -> Self {
        Self { kind, first, last, detail: detail.into() }
    }
}

/// A range of events in words: `event 7`, or `events 7 to 9`.
pub fn events((first, last): (u64, u64)) -> String {
    if first == last { format!("event {first}") } else { format!("events {first} to {last}") }
}
