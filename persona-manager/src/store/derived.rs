//! What is found out about a state when somebody first asks, and kept with it: readers ask the same again and again.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use persona_core::ids::NodeName;

use super::snapshot::Snapshot;

/// What was found out. A copy of a state, which may be changed, knows nothing of it.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    lease_counts: OnceLock<BTreeMap<NodeName, u32>>,
    roots_digest: OnceLock<String>,
}

impl Clone for Derived {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Snapshot {
    /// How many leases a node holds or its edges carry for it.
    pub(crate) fn lease_count_of(&self, node: &NodeName) -> u32 {
        let counts = self.derived.lease_counts.get_or_init(|| {
            let mut counts = BTreeMap::new();
            for lease in self.leases.values().filter(|lease| lease.state.is_at_edges()) {
                match counts.get_mut(lease.subject.node()) {
                    Some(count) => *count += 1,
                    None => _ = counts.insert(lease.subject.node().clone(), 1),
                }
            }
            counts
        });
        counts.get(node).copied().unwrap_or(0)
    }

    /// The digest of the roots that are trusted, which `make` finds out.
    pub(crate) fn roots_digest(&self, make: impl FnOnce() -> String) -> &str {
        self.derived.roots_digest.get_or_init(make)
    }
}
