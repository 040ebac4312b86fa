//! A part of reports that is long and seldom changes: told when it has changed, and again now and then.

use std::time::{Duration, Instant};

/// What the manager has been told is told again after this time, whatever it may have forgotten meanwhile.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// A value that the manager may know already.
#[derive(Debug, Clone)]
pub(super) struct Known<T> {
    value: Option<T>,
    /// Counts the changes.
    version: u64,
    /// The version in the report that is under way.
    under_way: Option<u64>,
    /// The version that the manager has taken, and when.
    taken: Option<(u64, Instant)>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { value: None, version: 0, under_way: None, taken: None }
    }
}

impl<T: Clone + PartialEq> Known<T> {
    /// It is so from now on.
    pub(super) fn set(&mut self, value: T) {
        if self.value.as_ref() != Some(&value) {
            self.value = Some(value);
            self.version += 1;
        }
    }

    /// What the next report has to say of it. None: nothing that the manager does not know.
    pub(super) fn untold(&mut self) -> Option<T> {
        let is_known = |(version, at): (u64, Instant)| version == self.version && at.elapsed() < TELL_AGAIN;
        if self.taken.is_some_and(is_known) {
            self.under_way = None;
            return None;
        }
        self.under_way = Some(self.version);
        self.value.clone()
    }

    /// The manager has taken the report that was under way.
    pub(super) fn taken(&mut self) {
        if let Some(version) = self.under_way.take() {
            self.taken = Some((version, Instant::now()));
        }
    }

    /// Whoever is told next may know nothing.
    pub(super) fn forget(&mut self) {
        (self.taken, self.under_way) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_until_it_was_taken_and_again_when_it_changes() {
        let mut known = Known::default();
        assert_eq!(known.untold(), None, "nothing is known yet");
        known.set(1);
        assert_eq!((known.untold(), known.untold()), (Some(1), Some(1)), "a report may fail");
        known.taken();
        known.set(1);
        assert_eq!(known.untold(), None);
        known.taken();
        assert_eq!(known.untold(), None);
        known.set(2);
        assert_eq!(known.untold(), Some(2));
        known.set(3);
        known.taken();
        assert_eq!(known.untold(), Some(3), "it changed while the report was under way");
        known.taken();
        known.forget();
        assert_eq!(known.untold(), Some(3), "another manager may know nothing");
    }
}
