//! What differs between two versions of a table. Versions share the records that are the same in both, so that a table of many
//! records is gone through quickly.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A key under which two versions have different records.
#[derive(Debug)]
pub(crate) struct Change<'a, K, R> {
    /// The key.
    pub key: &'a K,
    /// What the older version has there.
    pub before: Option<&'a Arc<R>>,
    /// What the newer one has.
    pub after: Option<&'a Arc<R>>,
}

/// All that differs, by key.
pub(crate) fn changes<'a, K: Ord, R>(
    before: &'a Arc<BTreeMap<K, Arc<R>>>,
    after: &'a Arc<BTreeMap<K, Arc<R>>>,
) -> Vec<Change<'a, K, R>> {
    if Arc::ptr_eq(before, after) { Vec::new() } else { changes_in(before, after) }
}

/// As [`changes`], of tables that are not shared themselves.
pub(crate) fn changes_in<'a, K: Ord, R>(
    before: &'a BTreeMap<K, Arc<R>>,
    after: &'a BTreeMap<K, Arc<R>>,
) -> Vec<Change<'a, K, R>> {
    let mut found = Vec::new();
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return found,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let gone = if order.is_le() { old.next() } else { None };
        let come = if order.is_ge() { new.next() } else { None };
        let is_same = gone.zip(come).is_some_and(|((_, one), (_, other))| Arc::ptr_eq(one, other));
        if let Some((key, _)) = gone.or(come).filter(|_| !is_same) {
            found.push(Change { key, before: gone.map(|(_, record)| record), after: come.map(|(_, record)| record) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_replaced_and_taken_out_is_found_and_nothing_else() {
        let before: BTreeMap<u8, Arc<&str>> =
            [(1, "a"), (2, "b"), (4, "d")].map(|(key, it)| (key, Arc::new(it))).into();
        let mut after = before.clone();
        after.remove(&1);
        after.insert(2, Arc::new("B"));
        after.insert(3, Arc::new("c"));
        after.insert(5, Arc::new("e"));
        let told = |one: &BTreeMap<u8, Arc<&'static str>>, other: &BTreeMap<u8, Arc<&'static str>>| {
            let text = |it: Option<&Arc<&'static str>>| it.map_or("-", |it| **it);
            let all = changes_in(one, other).into_iter();
            all.map(|it| format!("{}:{}{}", it.key, text(it.before), text(it.after))).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(told(&before, &after), "1:a- 2:bB 3:-c 5:-e");
        assert_eq!(told(&after, &before), "1:-a 2:Bb 3:c- 5:e-");
        assert_eq!(told(&before, &before.clone()), "");
    }
}
