//! Whether tables fit, found out before anything is written: every index and run that an apply will ask for is asked for
//! here in the same order, from copies.

use std::net::Ipv4Addr;

use persona_common::maps::{ADDRESS_COUNT_MAX, BLOCK_COUNT_MAX};

use super::maps::{address_be, address_from};
use super::node_maps::{NodeIndex, slots_per_block};
use super::node_rows::name_hash;
use super::tables::{LeaseEntry, LeaseSpace, NodeTables};

/// Refuses tables for which an apply would run out of indices or cells half-way.
pub(super) fn check(index: &NodeIndex, tables: &NodeTables, slot_count: u32) -> Result<(), String> {
    let mut trial = index.clone();
    for name in tables.rows_by_name().into_keys() {
        let key = name_hash(&name);
        if trial.groups.get(&key).is_none() {
            trial.groups.give(key).ok_or_else(|| full("edge group", &name))?;
        }
    }
    for subject in &tables.subjects {
        if trial.subjects.get(&subject.number.0).is_none() {
            trial.subjects.give(subject.number.0).ok_or_else(|| full("subject", &subject.number))?;
        }
    }
    tables.leases.iter().try_for_each(|lease| check_lease(&mut trial, lease, slot_count))
}

fn check_lease(trial: &mut NodeIndex, lease: &LeaseEntry, slot_count: u32) -> Result<(), String> {
    if trial.leases.get(&lease.id.0).is_none() {
        trial.leases.give(lease.id.0).ok_or_else(|| full("lease", &lease.id))?;
    }
    if trial.personas.get(&lease.vni.0).is_none() {
        trial.personas.give(lease.vni.0).ok_or_else(|| full("persona", &lease.vni))?;
    }
    let LeaseSpace::Ports { address, block_bits, blocks } = &lease.space else { return Ok(()) };
    check_address(trial, lease, *address, (*block_bits).into())?;
    if lease.configured {
        return Ok(());
    }
    let known = trial.lease_cells.get(&lease.id.0).copied().unwrap_or_default();
    let held = &known.blocks[..known.block_count as usize];
    let bits = u32::from(*block_bits);
    let wanted = blocks.iter().map(|block| u32::from(*block) << bits).collect::<Vec<_>>();
    for first_port in &wanted {
        if !held.iter().any(|block| block.first_port == *first_port) {
            let given = trial.slot_runs.give(slots_per_block(bits), slot_count);
            given.ok_or_else(|| full("port block: the slots of this node are in use; lease", &lease.id))?;
        }
    }
    for block in held.iter().filter(|block| !wanted.contains(&block.first_port)) {
        trial.slot_runs.take_back(block.slot_base);
    }
    Ok(())
}

fn check_address(trial: &mut NodeIndex, lease: &LeaseEntry, leased: Ipv4Addr, block_bits: u32) -> Result<(), String> {
    let key = address_be(leased);
    if let Some(address) = trial.addresses.get(&key) {
        if address.block_bits == block_bits {
            return Ok(());
        }
        return Err(format!(
            "lease {}: {} still has blocks of 2^{} ports here; 2^{block_bits} are possible once its leases have gone",
            lease.id,
            address_from(key),
            address.block_bits
        ));
    }
    if trial.addresses.len() >= ADDRESS_COUNT_MAX as usize {
        return Err(full("egress address", &leased));
    }
    let given = trial.block_runs.give(65_536 >> block_bits, BLOCK_COUNT_MAX);
    let block_base = given.ok_or_else(|| full("egress address", &leased))?;
    trial.addresses.insert(key, persona_common::node::EgressAddress { block_base, block_bits });
    Ok(())
}

fn full(what: &str, which: &dyn std::fmt::Display) -> String {
    format!("no room for another {what} {which}; nothing was changed")
}

#[cfg(test)]
mod tests {
    use persona_core::ids::{Generation, LeaseId, SubjectNumber, Vni};

    use super::*;
    use crate::dataplane::index::{Indices, Runs};

    fn index(lease_count: u32, persona_count: u32) -> NodeIndex {
        NodeIndex {
            subjects: Indices::new(0, 8, []),
            leases: Indices::new(0, lease_count, []),
            lease_cells: Default::default(),
            groups: Indices::new(0, 1, []),
            group_rows: Default::default(),
            spare_rows: Default::default(),
            personas: Indices::new(0, persona_count, []),
            firewalls: Indices::new(0, 4, []),
            addresses: Default::default(),
            block_runs: Runs::default(),
            slot_runs: Runs::default(),
        }
    }

    fn lease(id: u64, last_octet: u8, block_bits: u8, blocks: &[u16]) -> LeaseEntry {
        LeaseEntry {
            id: LeaseId(id),
            subject: SubjectNumber(1),
            vni: Vni(id as u32),
            space: LeaseSpace::Ports {
                address: Ipv4Addr::new(192, 0, 2, last_octet),
                block_bits,
                blocks: blocks.to_vec(),
            },
            configured: false,
            group: "frankfurt".parse().unwrap(),
            mtu: 1400,
            generation: Generation(1),
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let many_small = (0..9).map(|at| lease(at + 1, at as u8, 1, &[4000])).collect::<Vec<_>>();
        for (what, index, leases, refusal) in [
            ("fits", index(2, 2), vec![lease(1, 1, 10, &[1]), lease(2, 1, 10, &[2])], None),
            ("leases", index(1, 2), vec![lease(1, 1, 10, &[1]), lease(2, 1, 10, &[2])], Some("lease 2")),
            ("personas", index(2, 1), vec![lease(1, 1, 10, &[1]), lease(2, 1, 10, &[2])], Some("persona")),
            ("slots", index(2, 2), vec![lease(1, 1, 10, &[1, 2, 3])], Some("slots")),
            ("blocks", index(9, 9), many_small, Some("egress address 192.0.2.8")),
        ] {
            let tables = NodeTables { leases, ..NodeTables::default() };
            let before = format!("{:?} {:?}", index.block_runs, index.slot_runs);
            let outcome = check(&index, &tables, 2 * 3 * 1024);
            match refusal {
                None => assert_eq!(outcome, Ok(()), "{what}"),
                Some(refusal) => assert!(outcome.clone().unwrap_err().contains(refusal), "{what}: {outcome:?}"),
            }
            assert_eq!(format!("{:?} {:?}", index.block_runs, index.slot_runs), before, "{what}");
        }
    }

    #[test]
    fn fragments_that_a_block_does_not_fit_into_are_no_room() {
        let mut index = index(2, 2);
        index.slot_runs.reserve(1024, 3 * 1024);
        let tables = NodeTables { leases: vec![lease(1, 1, 10, &[1])], ..NodeTables::default() };
        assert!(check(&index, &tables, 2 * 3 * 1024).unwrap_err().contains("slots"));
        assert_eq!(check(&index, &tables, 3 * 3 * 1024), Ok(()));
    }
}
