//! The node's slow path: kept alive from pass to pass, and told what holds for leases.

use std::collections::BTreeMap;
use std::sync::Mutex;

use persona_core::ids::SubjectNumber;
use persona_core::wire::desired::LeaseSpace;

use super::observe::Observed;
use super::pass::lock;
use crate::dataplane::NodeDataplane;
use crate::dataplane::tables::NodeTables;
use crate::slow_path::{Facts, Fates, Keeper, LeaseFacts, wire_ifindex};

/// Puts the slow path's device into the tables, and tells the slow path what they say of leases.
pub(super) fn provide(
    keeper: &mut Keeper,
    tables: &mut NodeTables,
    dataplane: &Mutex<NodeDataplane>,
    observed: &Observed,
) {
    let open = || lock(dataplane).fragment_fates().map(|fates| Box::new(fates) as Box<dyn Fates>);
    // A device made a moment ago is not among the links that were seen.
    let is_up = |index| observed.links.iter().all(|link| link.index != index || link.is_up);
    tables.slow_ifindex = tokio::task::block_in_place(|| keeper.ensure(open, is_up));
    keeper.set_facts(facts(tables));
}

fn facts(tables: &NodeTables) -> Facts {
    let class = |entry: &crate::dataplane::tables::SubjectEntry| {
        Some((entry.number, entry.network.as_ref().map(|network| network.egress_class)?))
    };
    let classes: BTreeMap<SubjectNumber, u32> = tables.subjects.iter().filter_map(class).collect();
    let mut facts = Facts::default();
    for lease in &tables.leases {
        if let LeaseSpace::Ports { address, block_bits, blocks } = &lease.space {
            let class = classes.get(&lease.subject).copied().unwrap_or(0);
            let wire_ifindex = wire_ifindex(tables.wire.is_encrypted(&lease.space), tables.wire.ifindex);
            let lease_facts = LeaseFacts { mtu: lease.mtu, class, wire_ifindex };
            blocks.iter().for_each(|block| facts.insert(*address, *block_bits, *block, lease_facts));
        }
    }
    facts
}
