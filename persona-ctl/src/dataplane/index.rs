//! Indices in maps, given to keys and found again after a restart; and runs of cells in an array.

use std::collections::{BTreeMap, BTreeSet};

/// Key → index in an array map.
#[derive(Debug, Clone)]
pub(super) struct Indices<K: Ord> {
    by_key: BTreeMap<K, u32>,
    used: BTreeSet<u32>,
    /// None below it is free.
    lowest: u32,
    end: u32,
}

impl<K: Ord + Clone> Indices<K> {
    /// Indices from `first` up to, not including, `end`, some of them given already.
    pub(super) fn new(first: u32, end: u32, given: impl IntoIterator<Item = (K, u32)>) -> Self {
        let by_key = given.into_iter().collect::<BTreeMap<_, _>>();
        let used = by_key.values().copied().collect();
        Self { by_key, used, lowest: first, end }
    }

    pub(super) fn get(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        self.by_key.iter().map(|(key, index)| (key, *index))
    }

    /// Gives the lowest free index; None: all are used.
    pub(super) fn give(&mut self, key: K) -> Option<u32> {
        let index = (self.lowest..self.end).find(|index| !self.used.contains(index))?;
        self.lowest = index + 1;
        self.used.insert(index);
        self.by_key.insert(key, index);
        Some(index)
    }

    pub(super) fn take_back(&mut self, key: &K) -> Option<u32> {
        let index = self.by_key.remove(key)?;
        self.used.remove(&index);
        self.lowest = self.lowest.min(index);
        Some(index)
    }

    /// Keys that `keep` doesn't hold for.
    pub(super) fn surplus(&self, keep: impl Fn(&K) -> bool) -> Vec<K> {
        self.by_key.keys().filter(|key| !keep(key)).cloned().collect()
    }
}

/// Runs of cells in an array map.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    /// First cell → length.
    used: BTreeMap<u32, u32>,
}

impl Runs {
    pub(super) fn reserve(&mut self, base: u32, length: u32) {
        self.used.insert(base, length);
    }

    pub(super) fn take_back(&mut self, base: u32) {
        self.used.remove(&base);
    }

    /// First fit within `end` cells.
    pub(super) fn give(&mut self, length: u32, end: u32) -> Option<u32> {
        let mut base = 0;
        for (start, run) in &self.used {
            if start - base >= length {
                break;
            }
            base = start + run;
        }
        if base.checked_add(length)? > end {
            return None;
        }
        self.used.insert(base, length);
        Some(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_given_lowest_first_and_come_back() {
        let mut indices = Indices::new(0, 3, [("b", 1)]);
        assert_eq!((indices.give("a"), indices.give("c"), indices.give("d")), (Some(0), Some(2), None));
        assert_eq!(indices.take_back(&"b"), Some(1));
        assert_eq!(indices.give("d"), Some(1));
        assert_eq!((indices.take_back(&"c"), indices.take_back(&"a")), (Some(2), Some(0)));
        assert_eq!((indices.give("e"), indices.give("f"), indices.give("g")), (Some(0), Some(2), None));
    }

    #[test]
    fn runs_fill_gaps_and_never_overlap() {
        let mut runs = Runs::default();
        assert_eq!((runs.give(4, 10), runs.give(4, 10), runs.give(4, 10)), (Some(0), Some(4), None));
        runs.take_back(0);
        assert_eq!((runs.give(2, 10), runs.give(2, 10), runs.give(2, 10)), (Some(0), Some(2), Some(8)));
    }
}
