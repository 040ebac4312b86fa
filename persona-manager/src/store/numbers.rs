//! Numbers that count up and are never given twice: VNIs, leases, subjects, edges.

use serde::{Deserialize, Serialize};

/// The next numbers to give. None is ever given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbers {
    /// The next VNI.
    pub vni: u32,
    /// The next lease id.
    pub lease: u64,
    /// The next subject number.
    pub subject: u32,
    /// The next edge number.
    pub edge: u16,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { vni: 1, lease: 1, subject: 1, edge: 1 }
    }
}

/// One of the [`Numbers`], as stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberRecord {
    /// Its name in the store.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

impl Numbers {
    /// The numbers by name.
    pub(crate) fn records(self) -> [NumberRecord; 4] {
        [
            NumberRecord { name: "next_vni", value: self.vni.into() },
            NumberRecord { name: "next_lease", value: self.lease },
            NumberRecord { name: "next_subject", value: self.subject.into() },
            NumberRecord { name: "next_edge", value: self.edge.into() },
        ]
    }
}
