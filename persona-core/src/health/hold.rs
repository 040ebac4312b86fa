//! How long an edge that comes and goes is kept out of service: longer each time, until it has been well for a while.

use serde::{Deserialize, Serialize};

/// How long an edge must be well after it went down once, milliseconds.
pub const HOLD_BASE_MS: u64 = 1_000;

/// However often it went down, it is tried again after this time where nothing else is configured, milliseconds.
pub const HOLD_MAX_MS: u64 = 300_000;

/// An edge that served for this many times its last hold is taken for cured.
const CURED_AFTER_HOLDS: u64 = 10;

/// What is remembered of an edge's comings and goings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// How often it went down without being well in between for long.
    pub count: u32,
    /// Since when it serves; meaningless while it does not.
    pub up_since_ms: u64,
    /// Since when nothing speaks against it, while it does not serve.
    pub well_since_ms: Option<u64>,
}

impl Hold {
    /// How long it must be well before it serves again, at most `max_ms`.
    pub fn duration_ms(&self, max_ms: u64) -> u64 {
        let doublings = self.count.saturating_sub(1).min(20);
        if self.count == 0 { 0 } else { (HOLD_BASE_MS << doublings).min(max_ms) }
    }

    pub(super) fn gone_down(self, now_ms: u64, max_ms: u64) -> Self {
        let served_ms = now_ms.saturating_sub(self.up_since_ms);
        let is_cured = served_ms >= self.duration_ms(max_ms).max(HOLD_BASE_MS) * CURED_AFTER_HOLDS;
        let count = if is_cured { 1 } else { self.count.saturating_add(1) };
        Self { count, well_since_ms: None, ..self }
    }

    pub(super) fn unwell(self) -> Self {
        Self { well_since_ms: None, ..self }
    }

    pub(super) fn well(self, now_ms: u64) -> Self {
        // A clock that was set back must not lengthen the hold.
        let since = self.well_since_ms.filter(|since| *since <= now_ms);
        Self { well_since_ms: Some(since.unwrap_or(now_ms)), ..self }
    }

    pub(super) fn gone_up(self, now_ms: u64) -> Self {
        Self { up_since_ms: now_ms, well_since_ms: None, ..self }
    }

    /// How much of the hold is left.
    pub(super) fn left_ms(&self, now_ms: u64, max_ms: u64) -> u64 {
        let well_ms = self.well_since_ms.map_or(0, |since| now_ms.saturating_sub(since));
        self.duration_ms(max_ms).saturating_sub(well_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_relapse_doubles_the_hold_and_a_long_service_cures() {
        let mut hold = Hold::default().gone_up(0);
        let mut now_ms = 0;
        for expected in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000, 300_000] {
            now_ms += 500;
            hold = hold.gone_down(now_ms, HOLD_MAX_MS);
            assert_eq!(hold.duration_ms(HOLD_MAX_MS), expected);
            hold = hold.well(now_ms);
            now_ms += expected;
            assert_eq!(hold.left_ms(now_ms - 1, HOLD_MAX_MS), 1);
            assert_eq!(hold.left_ms(now_ms, HOLD_MAX_MS), 0);
            hold = hold.gone_up(now_ms);
        }
        assert_eq!(hold.gone_down(now_ms + 10 * HOLD_MAX_MS, HOLD_MAX_MS).duration_ms(HOLD_MAX_MS), HOLD_BASE_MS);
    }
}
