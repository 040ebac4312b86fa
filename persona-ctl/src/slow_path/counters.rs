//! What the slow path counted since its process started.

use std::collections::BTreeMap;

use persona_common::drop::DropReason;
use persona_core::wire::agent::{Counters, SlowPathWork};

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
    /// Adds them to what a role reports.
    pub fn add_to(&self, counters: &mut Counters) {
        let Self { cut, waited, released, expired, .. } = *self;
        counters.slow_path = SlowPathWork { cut, waited, released, expired };
        for (reason, count) in &self.drops {
            *counters.drops.entry((*reason).to_owned()).or_default() += count;
        }
    }

    /// Counts packets that are dropped.
    pub(super) fn dropped(&mut self, reason: DropReason, count: u64) {
        if count != 0 {
            *self.drops.entry(reason.name()).or_default() += count;
        }
    }
}
