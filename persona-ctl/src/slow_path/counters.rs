//! What the slow path counted since its process started.

use std::collections::BTreeMap;

use persona_common::drop::DropReason;

/// Counts of packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlowPathCounters {
    /// Packets that were cut because they were too big.
    pub cut: u64,
    /// Pieces that they became.
    pub pieces: u64,
    /// Fragments that had to wait for their first.
    pub waited: u64,
    /// Fragments that went on after their first had come.
    pub released: u64,
    /// Fragments whose first never came.
    pub expired: u64,
    /// Drop reason → packets, the expired ones included.
    pub drops: BTreeMap<&'static str, u64>,
}

impl SlowPathCounters {
    /// Counts packets that are dropped.
    pub(super) fn dropped(&mut self, reason: DropReason, count: u64) {
        if count != 0 {
            *self.drops.entry(reason.name()).or_default() += count;
        }
    }
}
