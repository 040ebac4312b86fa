//! What vouches for the chain of events.

use serde::{Deserialize, Serialize};

use crate::audit::AuditSeal;

/// `GET /v1/audit/checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditCheckpoint {
    /// The newest event, signed when this was asked.
    pub checkpoint: AuditSeal,
    /// The last of the events that were dropped for their age. Absent: none was.
    pub stub: Option<AuditSeal>,
}
