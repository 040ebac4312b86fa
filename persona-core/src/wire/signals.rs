//! Signals on the wire: what nodes measured, one batch for each time that they looked.

use serde::{Deserialize, Serialize};

use crate::ids::WorkloadName;

/// Batches that one report may carry: what is measured in a minute, and some more.
pub const SAMPLE_BATCH_COUNT_MAX: usize = 64;

/// What was measured at one time, as a table: a column per signal, a row per subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SampleBatch {
    /// How long before the report was sent, milliseconds.
    pub age_ms: u32,
    /// Names of signals of the catalogue.
    pub signals: Vec<String>,
    /// The node, and its workloads.
    pub rows: Vec<SampleRow>,
}

/// What was measured of one subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SampleRow {
    /// Which workload. Absent: the node itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadName>,
    /// A value per signal, in the signal's unit; null where there is none.
    pub values: Vec<Option<f32>>,
}
