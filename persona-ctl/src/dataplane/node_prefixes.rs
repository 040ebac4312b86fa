//! What the node's tries hold: bypassed destinations, managed ranges, sources behind shared devices.

use std::net::IpAddr;

use super::maps::{PrefixSet, scoped};
use super::node_maps::NodeIndex;
use super::tables::{LeaseEntry, LeaseSpace, NodeTables};

/// The scope of the host's own list.
const HOST_SCOPE: u32 = 0;

/// Destinations that pass by: the host's under scope 0, each persona's under one plus its wearer's index.
pub(super) fn bypassed(index: &NodeIndex, tables: &NodeTables) -> PrefixSet {
    let host = tables.bypass.iter().map(|prefix| scoped(HOST_SCOPE, *prefix));
    let own = tables.subjects.iter().flat_map(|subject| {
        let scope = 1 + index.subjects.get(&subject.number.0).expect("subjects come first");
        let prefixes = subject.network.iter().flat_map(|network| &network.bypass);
        prefixes.map(move |prefix| scoped(scope, *prefix))
    });
    host.chain(own).map(|key| (key, 1)).collect()
}

/// Ranges that the guard watches.
pub(super) fn managed(tables: &NodeTables) -> PrefixSet {
    tables.managed.iter().map(|prefix| (scoped(HOST_SCOPE, *prefix), 1)).collect()
}

/// Who is behind a shared device, by source address: what was said, and configured leases of the same subjects.
pub(super) fn sources(index: &NodeIndex, tables: &NodeTables) -> PrefixSet {
    let mut set = PrefixSet::new();
    for source in &tables.sources {
        let subject_index = index.subjects.get(&source.subject.0).expect("validated");
        set.insert(scoped(source.ifindex, source.prefix), subject_index);
        for lease in tables.leases.iter().filter(|lease| lease.subject == source.subject && lease.configured) {
            set.insert(scoped(source.ifindex, leased(lease)), subject_index);
        }
    }
    set
}

fn leased(lease: &LeaseEntry) -> (IpAddr, u8) {
    match &lease.space {
        LeaseSpace::Ports { address, .. } => ((*address).into(), 32),
        LeaseSpace::Prefix { prefix } => ((*prefix).into(), 64),
    }
}
