//! How full a lease is, in words, so that an episode of exhaustion is told once.

use serde::{Deserialize, Serialize};

use crate::wire::agent::LeaseUse;

/// Share of a lease's ports from which on it is nearly exhausted, percent.
const NEAR_PERCENT: u64 = 90;

/// Below this share an episode is over, percent.
const FINE_PERCENT: u64 = 80;

/// How full a lease is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fullness {
    /// There is room.
    #[default]
    Fine,
    /// Nine in ten ports are held, or ports are shared between remotes because TCP has none left.
    Near,
    /// Every port is held: new flows are refused.
    Exhausted,
}

impl Fullness {
    /// What a lease is after its node reported; between two thresholds it is what it was.
    pub fn after(self, report: &LeaseUse) -> Self {
        let (live, slots) = (u64::from(report.live_slot_count), u64::from(report.slot_count));
        match () {
            // A prefix has no ports to run out of.
            () if slots == 0 => Self::Fine,
            () if live >= slots => Self::Exhausted,
            () if live * 100 >= slots * NEAR_PERCENT => self.max(Self::Near),
            () if live * 100 >= slots * FINE_PERCENT => self,
            () if report.shared_port_count > 0 => Self::Near,
            () => Self::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LeaseId;

    #[test]
    fn an_episode_begins_at_nine_tenths_and_ends_below_eight() {
        let mut fullness = Fullness::Fine;
        let cases = [
            (85, 0, Fullness::Fine),
            (90, 0, Fullness::Near),
            (85, 0, Fullness::Near),
            (100, 0, Fullness::Exhausted),
            (95, 0, Fullness::Exhausted),
            (81, 0, Fullness::Exhausted),
            (79, 0, Fullness::Fine),
            (33, 5, Fullness::Near),
            (33, 0, Fullness::Fine),
        ];
        for (live_slot_count, shared_port_count, expected) in cases {
            let report = LeaseUse { lease: LeaseId(1), live_slot_count, slot_count: 100, shared_port_count };
            fullness = fullness.after(&report);
            assert_eq!(fullness, expected, "{live_slot_count} {shared_port_count}");
        }
    }
}
