//! The edge that a subject is planned onto, while the plan steers.

use persona_core::ids::{EdgeName, GroupName};
use persona_core::plan::{FilterCount, MoveCause, RunnerUp};
use serde::{Deserialize, Serialize};

/// A subject's planned edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedRecord {
    /// The edge.
    pub edge: EdgeName,
    /// Its group: under another group's lease the edge is nothing to the subject.
    pub group: GroupName,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Why it was put there.
    pub cause: MoveCause,
    /// The edge's score then, in points. 0 in records of earlier releases.
    #[serde(default)]
    pub score: f64,
    /// The next best edges then, at most three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<RunnerUp>,
    /// How many edges each filter refused then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<FilterCount>,
}
