//! How many subjects may be switched in a minute, all together.

use std::collections::VecDeque;

use super::MINUTE_MS;

/// A bound to switches per minute, and those of the last one.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    count: Option<u32>,
    changes: VecDeque<u64>,
}

impl Pace {
    /// So many switches a minute. None: any number.
    pub fn new(count: Option<u32>) -> Self {
        Self { count, changes: VecDeque::new() }
    }

    /// So many switches a minute.
    pub fn count(&self) -> Option<u32> {
        self.count
    }

    /// Until when nobody may be switched. None: somebody may now.
    pub(super) fn held_until(&mut self, now_ms: u64) -> Option<u64> {
        while self.changes.front().is_some_and(|at| at + MINUTE_MS <= now_ms) {
            self.changes.pop_front();
        }
        let is_used_up = self.count.is_some_and(|count| self.changes.len() >= count as usize);
        let oldest = self.changes.front().copied().unwrap_or(now_ms);
        is_used_up.then(|| (oldest + MINUTE_MS).max(now_ms + 1))
    }

    /// Somebody is switched now.
    pub(super) fn note(&mut self, now_ms: u64) {
        if self.count.is_some() {
            self.changes.push_back(now_ms);
        }
    }
}
