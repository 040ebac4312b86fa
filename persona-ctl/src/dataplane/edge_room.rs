//! Whether an edge's tables fit, found out before anything is written: what an apply will ask for is asked for here in the
//! same order, from copies.

use persona_common::maps::{ADDRESS_COUNT_MAX, BLOCK_COUNT_MAX};

use super::edge_maps::EdgeIndex;
use super::maps::address_be;
use super::tables::EdgeTables;

/// Refuses tables for which an apply would run out of indices or cells half-way.
pub(super) fn check(index: &EdgeIndex, tables: &EdgeTables) -> Result<(), String> {
    let (mut nodes, mut personas) = (index.nodes.clone(), index.personas.clone());
    let mut block_runs = index.block_runs.clone();
    for node in &tables.nodes {
        let key = address_be(node.address);
        if nodes.get(&key).is_none() {
            nodes.give(key).ok_or_else(|| full("node", &node.address))?;
        }
    }
    let mut address_count = index.addresses.len();
    for entry in tables.addresses.iter().filter(|entry| !index.addresses.contains_key(&address_be(entry.address))) {
        address_count += 1;
        let given = block_runs.give(65_536 >> entry.block_bits, BLOCK_COUNT_MAX);
        if given.is_none() || address_count > ADDRESS_COUNT_MAX as usize {
            return Err(full("egress address", &entry.address));
        }
    }
    for lease in &tables.leases {
        if personas.get(&lease.vni.0).is_none() {
            personas.give(lease.vni.0).ok_or_else(|| full("persona", &lease.vni))?;
        }
    }
    Ok(())
}

fn full(what: &str, which: &dyn std::fmt::Display) -> String {
    format!("no room for another {what} {which}; nothing was changed")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::dataplane::index::{Indices, Runs};
    use crate::dataplane::tables::EgressAddressEntry;

    #[test]
    fn addresses_that_do_not_fit_are_refused_and_take_nothing() {
        let index = EdgeIndex {
            nodes: Indices::new(0, 1, []),
            personas: Indices::new(0, 1, []),
            addresses: Default::default(),
            blocks: Default::default(),
            block_runs: Runs::default(),
        };
        for (count, fits) in [(8u8, true), (9, false)] {
            let entry = |at| EgressAddressEntry { address: Ipv4Addr::new(192, 0, 2, at), block_bits: 1 };
            let tables = EdgeTables { addresses: (0..count).map(entry).collect(), ..EdgeTables::default() };
            assert_eq!(check(&index, &tables).is_ok(), fits, "{count} addresses");
            assert_eq!(index.block_runs.clone().give(1, 1), Some(0));
        }
    }
}
