//! What a task that works by itself tells the agent: how everybody stands, and what happened since it was last asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use persona_core::ids::SubjectId;

/// Things to tell that wait to be fetched; the oldest give way.
const TOLD_COUNT_MAX: usize = 1_000;

/// Something that happened to a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Whom it is about.
    pub subject: SubjectId,
    /// The event's name.
    pub event: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// Reports by whom they are of, and what there is to tell; all copies are one.
#[derive(Debug)]
pub(crate) struct Bulletin<K, R, T>(Arc<Mutex<Posted<K, R, T>>>);

#[derive(Debug)]
struct Posted<K, R, T> {
    reports: BTreeMap<K, R>,
    /// Counts the changes of reports.
    count: u64,
    told: Vec<T>,
}

impl<K, R, T> Default for Bulletin<K, R, T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Posted { reports: BTreeMap::new(), count: 0, told: Vec::new() })))
    }
}

impl<K, R, T> Clone for Bulletin<K, R, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Ord, R: Clone + PartialEq, T> Bulletin<K, R, T> {
    /// Says how one stands, and what happened to it. Who stands as before has nothing new.
    pub(crate) fn post(&self, key: K, report: R, told: impl IntoIterator<Item = T>) {
        let mut posted = self.lock();
        posted.told.extend(told);
        let excess = posted.told.len().saturating_sub(TOLD_COUNT_MAX);
        posted.told.drain(..excess);
        if posted.reports.get(&key) != Some(&report) {
            posted.reports.insert(key, report);
            posted.count += 1;
        }
    }

    /// Forgets the reports of others.
    pub(crate) fn retain(&self, keeps: impl Fn(&K) -> bool) {
        self.lock().reports.retain(|key, _| keeps(key));
    }

    /// How everybody stands.
    pub(crate) fn reports(&self) -> Vec<R> {
        self.lock().reports.values().cloned().collect()
    }

    /// The same, if anybody stands otherwise than when `seen` was set by this.
    pub(crate) fn reports_since(&self, seen: &mut u64) -> Option<Vec<R>> {
        let count = std::mem::replace(seen, self.lock().count);
        (count != *seen).then(|| self.reports())
    }

    /// What happened since this was last asked.
    pub(crate) fn take_told(&self) -> Vec<T> {
        std::mem::take(&mut self.lock().told)
    }

    fn lock(&self) -> MutexGuard<'_, Posted<K, R, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_take_the_place_of_older_ones_and_the_oldest_told_give_way() {
        let bulletin = Bulletin::default();
        for number in 0..=TOLD_COUNT_MAX {
            bulletin.clone().post("web", number, [number]);
        }
        bulletin.post("db", 7, []);
        assert_eq!(bulletin.reports(), [7, TOLD_COUNT_MAX]);
        let told = bulletin.take_told();
        assert_eq!((told.len(), told[0]), (TOLD_COUNT_MAX, 1));
        assert_eq!(bulletin.take_told(), [0; 0]);
        let mut seen = 0;
        assert_eq!(bulletin.reports_since(&mut seen).map(|reports| reports.len()), Some(2));
        assert_eq!(bulletin.reports_since(&mut seen), None);
        bulletin.post("db", 8, []);
        assert_eq!(bulletin.reports_since(&mut seen).map(|reports| reports[0]), Some(8));
        bulletin.post("db", 8, []);
        assert_eq!(bulletin.reports_since(&mut seen), None, "it stands as before");
        bulletin.post("db", 7, []);
        bulletin.retain(|key| *key == "db");
        assert_eq!(bulletin.reports(), [7]);
    }
}
