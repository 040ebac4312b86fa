//! A map of which a copy costs a counter, and of which two versions are compared by what differs: they share the rest.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Index, RangeBounds};
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

/// Records by key, in the order of keys. A change takes time with the logarithm of how many there are.
pub(crate) struct SharedMap<K, V>(OrdMap<K, Same<V>>);

/// A record, the same as another only where it is that very one.
struct Same<V>(Arc<V>);

impl<V> Clone for Same<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V> PartialEq for Same<V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// A key under which two versions have different records.
#[derive(Debug)]
pub(crate) struct Change<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// What the older version has there.
    pub before: Option<&'a Arc<V>>,
    /// What the newer one has.
    pub after: Option<&'a Arc<V>>,
}

impl<K: Ord + Clone, V> SharedMap<K, V> {
    /// Whether both are one version.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }

    /// All that differs from an older version, by key.
    pub(crate) fn changes_since<'a>(&'a self, before: &'a Self) -> Vec<Change<'a, K, V>> {
        let change = |difference: DiffItem<'a, 'a, K, Same<V>>| match difference {
            DiffItem::Add(key, after) => Change { key, before: None, after: Some(&after.0) },
            DiffItem::Update { old: (_, before), new: (key, after) } => {
                Change { key, before: Some(&before.0), after: Some(&after.0) }
            }
            DiffItem::Remove(key, before) => Change { key, before: Some(&before.0), after: None },
        };
        before.0.diff(&self.0).map(change).collect()
    }

    /// Whether another version lacks a key that this one has.
    pub(crate) fn keys_gone_in(&self, newer: &Self) -> bool {
        newer.changes_since(self).iter().any(|change| change.after.is_none())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The record under a key.
    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.get(key).map(|it| &it.0)
    }

    /// Whether there is one under a key.
    pub(crate) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// All keys with their records.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &Arc<V>)> + Clone {
        self.0.iter().map(|(key, it)| (key, &it.0))
    }

    /// All keys.
    pub(crate) fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// All records.
    pub(crate) fn values(&self) -> impl DoubleEndedIterator<Item = &Arc<V>> + Clone {
        self.iter().map(|(_, it)| it)
    }

    /// Those whose keys are in a range.
    pub(crate) fn range(&self, range: impl RangeBounds<K>) -> impl DoubleEndedIterator<Item = (&K, &Arc<V>)> {
        self.0.range(range).map(|(key, it)| (key, &it.0))
    }

    /// Puts a record in, in place of the one under its key, which it returns.
    pub(crate) fn insert(&mut self, key: K, value: Arc<V>) -> Option<Arc<V>> {
        self.0.insert(key, Same(value)).map(|it| it.0)
    }

    /// Takes a record out, and returns it.
    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        self.0.remove(key).map(|it| it.0)
    }

    /// Takes out what is not wanted.
    pub(crate) fn retain(&mut self, mut is_wanted: impl FnMut(&K, &Arc<V>) -> bool) {
        let unwanted: Vec<K> =
            self.iter().filter(|(key, it)| !is_wanted(key, it)).map(|(key, _)| key.clone()).collect();
        unwanted.iter().for_each(|key| _ = self.remove(key));
    }
}

impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for SharedMap<K, V> {
    type Output = Arc<V>;

    /// The record under a key that is there.
    fn index(&self, key: &Q) -> &Arc<V> {
        &self.0[key].0
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Ord + Clone + fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V> FromIterator<(K, Arc<V>)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, Arc<V>)>>(records: I) -> Self {
        Self(records.into_iter().map(|(key, it)| (key, Same(it))).collect())
    }
}

impl<K: Ord + Clone, V> Extend<(K, Arc<V>)> for SharedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, Arc<V>)>>(&mut self, records: I) {
        records.into_iter().for_each(|(key, it)| _ = self.insert(key, it));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Words = SharedMap<u32, &'static str>;

    fn told(before: &Words, after: &Words) -> String {
        let text = |it: Option<&Arc<&'static str>>| it.map_or("-", |it| **it);
        let all = after.changes_since(before).into_iter();
        all.map(|it| format!("{}:{}{}", it.key, text(it.before), text(it.after))).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_was_put_replaced_and_taken_out_is_found_and_nothing_else() {
        let before: Words = [(1, "a"), (2, "b"), (4, "d")].map(|(key, it)| (key, Arc::new(it))).into_iter().collect();
        let mut after = before.clone();
        assert!(after.is_same(&before));
        after.remove(&1);
        after.insert(2, Arc::new("B"));
        after.insert(3, Arc::new("c"));
        after.insert(5, Arc::new("e"));
        assert!(!after.is_same(&before));
        assert_eq!(told(&before, &after), "1:a- 2:bB 3:-c 5:-e");
        assert_eq!(told(&after, &before), "1:-a 2:Bb 3:c- 5:e-");
        assert_eq!(told(&before, &before.clone()), "");
    }

    #[test]
    fn a_record_like_another_is_another() {
        let before: Words = [(1, Arc::new("a"))].into_iter().collect();
        let mut after = before.clone();
        after.insert(1, Arc::new("a"));
        assert_eq!(told(&before, &after), "1:aa");
    }

    #[test]
    fn few_changes_of_many_records_are_found_wherever_they_are() {
        let before: Words = (0..10_000).map(|key| (key * 2, Arc::new("old"))).collect();
        let mut after = before.clone();
        after.insert(7_777, Arc::new("new"));
        after.remove(&10_000);
        after.insert(0, Arc::new("first"));
        assert_eq!(told(&before, &after), "0:oldfirst 7777:-new 10000:old-");
        after.retain(|key, _| key % 4 == 0);
        assert_eq!(after.len(), 4_999);
        assert_eq!(after.range(3..9).map(|(key, _)| *key).collect::<Vec<_>>(), [4, 8]);
        assert_eq!(after.keys().next_back(), Some(&19_996));
    }
}
