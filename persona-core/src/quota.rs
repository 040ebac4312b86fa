//! How often somebody may ask within a time.

use std::collections::VecDeque;

/// So many questions within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many.
    pub count: usize,
    /// Within how long, milliseconds.
    pub per_ms: u64,
}

/// When somebody asked lately, the oldest first. Times are of a clock that never goes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked(VecDeque<u64>);

impl Asked {
    /// Notes a question, or says how long to wait before the next, milliseconds.
    pub fn take(&mut self, quota: Quota, now_ms: u64) -> Result<(), u64> {
        while self.0.front().is_some_and(|at_ms| at_ms.saturating_add(quota.per_ms) <= now_ms) {
            self.0.pop_front();
        }
        if self.0.len() < quota.count {
            self.0.push_back(now_ms);
            return Ok(());
        }
        let free_ms = self.0.front().map_or(u64::MAX, |at_ms| at_ms.saturating_add(quota.per_ms));
        Err(free_ms - now_ms)
    }

    /// Whether nothing of it counts any more.
    pub fn is_over(&self, quota: Quota, now_ms: u64) -> bool {
        self.0.back().is_none_or(|at_ms| at_ms.saturating_add(quota.per_ms) <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// No time of that length has more than the quota, and who waits as long as he was told is let through.
        #[test]
        fn nobody_asks_more_often(count in 1_usize..6, per_ms in 1_u64..1_000, pauses in proptest::collection::vec(0_u64..400, 0..60)) {
            let quota = Quota { count, per_ms };
            let (mut asked, mut taken, mut now_ms) = (Asked::default(), Vec::new(), 0);
            for pause in pauses {
                now_ms += pause;
                match asked.take(quota, now_ms) {
                    Ok(()) => taken.push(now_ms),
                    Err(wait_ms) => {
                        prop_assert!(asked.clone().take(quota, now_ms + wait_ms - 1).is_err());
                        prop_assert!(asked.clone().take(quota, now_ms + wait_ms).is_ok());
                    }
                }
            }
            for window in taken.windows(count + 1) {
                prop_assert!(window[count] - window[0] >= per_ms, "{taken:?}");
            }
        }
    }
}
