//! How full egress pools were.

use persona_core::ids::PoolName;
use serde::{Deserialize, Serialize};

/// How full a pool was, by the hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolHistoryRecord {
    /// Which pool.
    pub pool: PoolName,
    /// The oldest first.
    pub samples: Vec<PoolSample>,
}

/// How full a pool was at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolSample {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Blocks that were leased or at rest.
    pub blocks: u32,
    /// IPv6 /64 that were leased or at rest.
    pub prefixes: u32,
}
