//! The items of a desired state by key, with a digest that is kept up: what one change costs does not grow with the state.
//!
//! A copy costs a counter and shares its items with the map that it was made from; of two maps that share most of them only the
//! rest is compared.

use std::collections::BTreeMap;
use std::ops::Index;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::desired::Item;

/// Items by key.
#[derive(Debug, Clone, Default)]
pub struct ItemMap {
    items: OrdMap<Arc<str>, Kept>,
    sum: Sum,
}

/// An item with its own hash.
#[derive(Debug, Clone)]
struct Kept {
    item: Arc<Item>,
    hash: Sum,
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.item, &other.item) || (self.hash == other.hash && self.item == other.item)
    }
}

impl ItemMap {
    /// Adds an item under its key, replacing the one that is there.
    pub fn insert(&mut self, item: Item) {
        self.put(item.key().into(), Arc::new(item));
    }

    /// As [`insert`](Self::insert), with the key as it was sent.
    pub(super) fn put(&mut self, key: Arc<str>, item: Arc<Item>) {
        if self.items.get(&key).is_some_and(|kept| kept.item == item) {
            return;
        }
        let hash = Sum::of(&key, &item);
        self.sum.add(&hash);
        if let Some(before) = self.items.insert(key, Kept { item, hash }) {
            self.sum.subtract(&before.hash);
        }
    }

    /// Adds all items of another map, with the hashes that they have there.
    pub fn merge(&mut self, other: &Self) {
        for (key, kept) in &other.items {
            if self.items.get(key).is_some_and(|known| known == kept) {
                continue;
            }
            self.sum.add(&kept.hash);
            if let Some(before) = self.items.insert(Arc::clone(key), kept.clone()) {
                self.sum.subtract(&before.hash);
            }
        }
    }

    /// Takes an item out.
    pub fn remove(&mut self, key: &str) {
        if let Some(gone) = self.items.remove(key) {
            self.sum.subtract(&gone.hash);
        }
    }

    /// The item under a key.
    pub fn get(&self, key: &str) -> Option<&Item> {
        self.items.get(key).map(|kept| &*kept.item)
    }

    /// Whether there is an item under a key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.items.contains_key(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All items, by key.
    pub fn values(&self) -> impl Iterator<Item = &Item> + Clone {
        self.items.iter().map(|(_, kept)| &*kept.item)
    }

    /// All keys with their items.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.items.iter().map(|(key, kept)| (&**key, &*kept.item))
    }

    /// What leads from `self` to `next`: items that are new or different, and keys that are gone.
    pub fn changes_to(&self, next: &Self) -> (BTreeMap<String, Item>, Vec<String>) {
        let (mut upsert, mut remove) = (BTreeMap::new(), Vec::new());
        for difference in self.items.diff(&next.items) {
            match difference {
                DiffItem::Add(key, kept) | DiffItem::Update { new: (key, kept), .. } => {
                    upsert.insert(key.to_string(), (*kept.item).clone());
                }
                DiffItem::Remove(key, _) => remove.push(key.to_string()),
            }
        }
        (upsert, remove)
    }

    /// The digest of all items: SHA-256 over their count and the sum of their hashes modulo 2^256, after `prefix`. An item's hash
    /// is SHA-256 over the JSON of its key and itself.
    pub(super) fn digest(&self, prefix: &[u8]) -> String {
        let count = self.items.len() as u64;
        let hash = Sha256::new().chain_update(prefix).chain_update(count.to_be_bytes()).chain_update(self.sum.bytes());
        crate::hex::encode(&hash.finalize())
    }
}

impl PartialEq for ItemMap {
    fn eq(&self, other: &Self) -> bool {
        self.sum == other.sum && self.items.diff(&other.items).next().is_none()
    }
}

impl<K: AsRef<str> + ?Sized> Index<&K> for ItemMap {
    type Output = Item;

    fn index(&self, key: &K) -> &Item {
        self.get(key.as_ref()).expect("there is an item under this key")
    }
}

impl FromIterator<Item> for ItemMap {
    fn from_iter<I: IntoIterator<Item = Item>>(items: I) -> Self {
        let mut map = Self::default();
        items.into_iter().for_each(|item| map.insert(item));
        map
    }
}

impl Serialize for ItemMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for ItemMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = BTreeMap::<String, Item>::deserialize(deserializer)?;
        let mut map = Self::default();
        items.into_iter().for_each(|(key, item)| map.put(key.into(), Arc::new(item)));
        Ok(map)
    }
}

/// A number modulo 2^256, least significant part first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum([u64; 4]);

impl Sum {
    fn of(key: &str, item: &Item) -> Self {
        let text = serde_json::to_vec(&(key, item)).expect("an item has string keys only");
        let hash = Sha256::digest(text);
        let mut parts = [0; 4];
        for (part, bytes) in parts.iter_mut().zip(hash.chunks_exact(8)) {
            *part = u64::from_le_bytes(bytes.try_into().expect("a chunk has eight bytes"));
        }
        Self(parts)
    }

    fn add(&mut self, other: &Self) {
        let mut carry = false;
        for (part, other) in self.0.iter_mut().zip(other.0) {
            let (sum, first) = part.overflowing_add(other);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*part, carry) = (sum, first || second);
        }
    }

    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (part, other) in self.0.iter_mut().zip(other.0) {
            let (rest, first) = part.overflowing_sub(other);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*part, borrow) = (rest, first || second);
        }
    }

    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, part) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&part.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::desired::NodeItem;

    fn node(number: u8, address: u8) -> Item {
        let name = format!("n{number}").parse().unwrap();
        Item::Node(NodeItem { name, address: IpAddr::from([10, 0, 0, address]) })
    }

    proptest! {
        /// A digest that is kept up is the one of a map that is made at once; and changes lead from one map to the other.
        #[test]
        fn what_is_kept_up_is_what_making_it_anew_gives(
            steps in prop::collection::vec((any::<bool>(), 0u8..8, 0u8..3), 0..60), split in 0usize..60
        ) {
            let (mut map, mut plain, mut halfway) = (ItemMap::default(), BTreeMap::new(), ItemMap::default());
            for (index, (is_put, number, address)) in steps.into_iter().enumerate() {
                match is_put {
                    true => {
                        map.insert(node(number, address));
                        plain.insert(number, address);
                    }
                    false => {
                        map.remove(&format!("node/n{number}"));
                        plain.remove(&number);
                    }
                }
                if index == split {
                    halfway = map.clone();
                }
            }
            let anew: ItemMap = plain.into_iter().map(|(number, address)| node(number, address)).collect();
            prop_assert_eq!(map.digest(b""), anew.digest(b""));
            prop_assert_eq!(&map, &anew);
            let (upsert, remove) = halfway.changes_to(&map);
            prop_assert!(remove.iter().all(|key| halfway.contains_key(key) && !map.contains_key(key)));
            prop_assert!(upsert.iter().all(|(key, item)| halfway.get(key) != Some(item)));
            remove.iter().for_each(|key| halfway.remove(key));
            upsert.into_iter().for_each(|(key, item)| halfway.put(key.into(), Arc::new(item)));
            prop_assert_eq!(halfway.digest(b""), map.digest(b""));
            prop_assert_eq!(halfway, map);
        }
    }

    #[test]
    fn digests_differ_by_key_by_item_and_by_what_they_follow() {
        let of = |items: &[Item]| items.iter().cloned().collect::<ItemMap>();
        let all = [of(&[]), of(&[node(1, 1)]), of(&[node(1, 2)]), of(&[node(2, 1)]), of(&[node(1, 1), node(2, 1)])];
        let mut digests: Vec<String> = all.iter().flat_map(|it| [it.digest(b"1"), it.digest(b"2")]).collect();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 10);
    }
}
