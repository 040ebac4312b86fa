//! The edge that a subject is planned onto, while the plan steers.

use persona_core::ids::{EdgeName, GroupName};
use persona_core::plan::MoveCause;
use serde::{Deserialize, Serialize};

/// A subject's planned edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedRecord {
    /// The edge.
    pub edge: EdgeName,
    /// Its group: under another group's lease the edge is nothing to the subject.
    pub group: GroupName,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Why it was put there.
    pub cause: MoveCause,
}
