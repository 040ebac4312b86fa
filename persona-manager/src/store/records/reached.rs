//! What changes by people and programs have reached of the fleet.

use serde::{Deserialize, Serialize};

/// Subjects that were reached within one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReachedRecord {
    /// When the minute ends, milliseconds since the Unix epoch.
    pub minute_end_ms: u64,
    /// How many, each time that one was.
    pub subject_count: u32,
}
