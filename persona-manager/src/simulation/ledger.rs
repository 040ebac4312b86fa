//! What is really in use, by the tables of everybody who moves packets: nothing is used under a new lease before it
//! rested, and nobody but its holder uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use persona_core::ids::LeaseId;
use persona_core::wire::agent::Role;
use persona_core::wire::desired::LeaseSpace;

use super::QUARANTINE_MS;
use super::fleet::Fleet;
use crate::store::Snapshot;

/// 1,024 ports of an address, or a /64.
type Unit = (IpAddr, u16);

/// When a unit was last in anybody's tables, and under which lease.
#[derive(Default)]
pub(super) struct Ledger {
    last_used: BTreeMap<Unit, (LeaseId, u64)>,
    seen: BTreeSet<LeaseId>,
}

impl Ledger {
    /// Leases that there ever were.
    pub(super) fn seen_count(&self) -> usize {
        self.seen.len()
    }

    /// Compares what is in use now with what was before.
    pub(super) fn watch(&mut self, fleet: &Fleet, snapshot: &Snapshot, now_ms: u64) {
        self.seen.extend(snapshot.leases.keys());
        let mut used: BTreeMap<Unit, LeaseId> = BTreeMap::new();
        // First what nodes send from, then what edges would still deliver.
        for role in [Role::Node, Role::Edge] {
            let active = fleet.agents.iter().filter(|agent| agent.id.role == role && agent.is_active());
            for agent in active {
                for lease in agent.leases() {
                    for unit in units(&lease.space) {
                        let other = *used.entry(unit).or_insert(lease.id);
                        assert_eq!(other, lease.id, "{unit:?} is in use twice, {} has it as {}", agent.id, lease.id);
                    }
                }
            }
        }
        for (unit, lease) in used {
            if let Some((before, last_ms)) = self.last_used.get(&unit)
                && *before != lease
            {
                let rested_ms = now_ms - last_ms;
                assert!(
                    rested_ms >= QUARANTINE_MS,
                    "{unit:?} went from lease {before} to {lease} after {rested_ms} ms of rest"
                );
            }
            self.last_used.insert(unit, (lease, now_ms));
        }
    }
}

fn units(space: &LeaseSpace) -> Vec<Unit> {
    match space {
        LeaseSpace::Prefix { prefix } => vec![((*prefix).into(), 0)],
        LeaseSpace::Ports { address, .. } => {
            let ranges = space.port_ranges().into_iter();
            ranges
                .flat_map(|(first, last)| (first >> 10)..=(last >> 10))
                .map(|unit| ((*address).into(), unit))
                .collect()
        }
    }
}
