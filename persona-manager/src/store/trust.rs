//! What decides whether a connection may stay. It changes seldom: thousands of connections wait for that, and not for every commit.

use super::records::{RevocationRecord, RootRecord};
use super::snapshot::{Records, Snapshot};

/// The part of a state that certificates are judged by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust {
    /// Root certificates by id.
    pub roots: Records<RootRecord>,
    /// Keys that are out for good.
    pub revocations: Records<RevocationRecord>,
}

impl Trust {
    /// A state's.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self { roots: snapshot.roots.clone(), revocations: snapshot.revocations.clone() }
    }

    /// Takes a newer state's. Returns whether that is another.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) -> bool {
        let is_same = self.roots.is_same(&snapshot.roots) && self.revocations.is_same(&snapshot.revocations);
        if !is_same {
            *self = Self::of(snapshot);
        }
        !is_same
    }
}
