//! Tables that contradict themselves are refused whole, with what is wrong and what would be valid.

use std::collections::{BTreeMap, BTreeSet};

use persona_common::maps::{BLOCKS_PER_LEASE_MAX, GROUP_COUNT_MAX, MAGLEV_ROW_COUNT, PREFIX_COUNT_MAX};

use super::tables::{LeaseEntry, NodeTables};

/// Ports below this one are never leased.
const FIRST_LEASED_PORT: u32 = 1024;
/// Smallest MTU of IPv4 (RFC 791 §3.1).
const MTU_MIN: u16 = 68;

pub(super) fn validate(tables: &NodeTables) -> Result<(), String> {
    let subjects = unique(tables.subjects.iter().map(|subject| subject.number), "subject")?;
    let leases = unique(tables.leases.iter().map(|lease| lease.id), "lease")?;
    let groups = unique(tables.groups.iter().map(|group| group.group.clone()), "group")?;
    unique(tables.edges.iter().map(|edge| edge.number), "edge")?;
    unique(tables.devices.iter().map(|device| device.ifindex), "device")?;
    unique(tables.devices.iter().map(|device| device.subject), "device of subject")?;
    if groups.len() > GROUP_COUNT_MAX as usize {
        return Err(format!("{} edge groups, at most {GROUP_COUNT_MAX} fit", groups.len()));
    }
    for subject in &tables.subjects {
        if let Some(network) = &subject.network {
            let lease = tables.leases.iter().find(|lease| lease.id == network.lease);
            match lease {
                None => return Err(format!("subject {}: its lease {} is not given", subject.number, network.lease)),
                Some(lease) if lease.subject != subject.number => {
                    return Err(format!(
                        "subject {}: lease {} is subject {}'s",
                        subject.number, lease.id, lease.subject
                    ));
                }
                Some(_) => {}
            }
            if network.dscp.is_some_and(|dscp| dscp > 63) {
                return Err(format!("subject {}: a DSCP is 0 to 63", subject.number));
            }
        }
    }
    for device in &tables.devices {
        if !subjects.contains(&device.subject) {
            return Err(format!("device {}: its subject {} is not given", device.ifindex, device.subject));
        }
    }
    for lease in &tables.leases {
        check_lease(lease)?;
        if !subjects.contains(&lease.subject) {
            return Err(format!("lease {}: its subject {} is not given", lease.id, lease.subject));
        }
        if !groups.contains(&lease.group) {
            return Err(format!("lease {}: its group {} has no table", lease.id, lease.group));
        }
    }
    debug_assert_eq!(leases.len(), tables.leases.len());
    check_blocks(&tables.leases)?;
    for group in &tables.groups {
        if group.rows.len() != MAGLEV_ROW_COUNT as usize {
            return Err(format!("group {}: {} rows, {MAGLEV_ROW_COUNT} are needed", group.group, group.rows.len()));
        }
    }
    for edge in &tables.edges {
        if edge.number.0 == 0 {
            return Err(format!("edge at {}: 0 is no edge's number", edge.address));
        }
    }
    if (!tables.edges.is_empty() || !tables.leases.is_empty()) && tables.underlay_address.is_none() {
        return Err("edges or leases without the node's own underlay address".to_owned());
    }
    for (what, prefixes) in [("bypass", &tables.bypass), ("managed", &tables.managed)] {
        if prefixes.len() > PREFIX_COUNT_MAX as usize {
            return Err(format!("{} {what} prefixes, at most {PREFIX_COUNT_MAX} fit", prefixes.len()));
        }
        if let Some((address, length)) = prefixes.iter().find(|(_, length)| *length > 32) {
            return Err(format!("{what} prefix {address}/{length}: a length is 0 to 32"));
        }
    }
    Ok(())
}

fn check_lease(lease: &LeaseEntry) -> Result<(), String> {
    let refuse = |why: String| Err(format!("lease {}: {why}", lease.id));
    if lease.id.0 == 0 {
        return refuse("0 is no lease's id".to_owned());
    }
    if !(1..1 << 24).contains(&lease.vni.0) {
        return refuse(format!("VNI {} is not 1 to 2^24 - 1", lease.vni));
    }
    if !(1..=15).contains(&lease.block_bits) {
        return refuse(format!("block bits {} are not 1 to 15", lease.block_bits));
    }
    if lease.blocks.is_empty() || lease.blocks.len() > BLOCKS_PER_LEASE_MAX {
        return refuse(format!("{} blocks, 1 to {BLOCKS_PER_LEASE_MAX} are possible", lease.blocks.len()));
    }
    if lease.mtu < MTU_MIN {
        return refuse(format!("MTU {} is below {MTU_MIN}", lease.mtu));
    }
    for block in &lease.blocks {
        let first_port = u32::from(*block) << lease.block_bits;
        if !(FIRST_LEASED_PORT..65_536).contains(&first_port) {
            return refuse(format!("block {block} starts at port {first_port}, 1024 to 65535 are possible"));
        }
    }
    Ok(())
}

fn check_blocks(leases: &[LeaseEntry]) -> Result<(), String> {
    let mut bits = BTreeMap::new();
    let mut holders = BTreeMap::new();
    for lease in leases {
        if *bits.entry(lease.address).or_insert(lease.block_bits) != lease.block_bits {
            return Err(format!("lease {}: blocks of {} have two sizes", lease.id, lease.address));
        }
        for block in &lease.blocks {
            if let Some(other) = holders.insert((lease.address, *block), lease.id) {
                return Err(format!("block {block} of {} is in leases {other} and {}", lease.address, lease.id));
            }
        }
    }
    Ok(())
}

fn unique<K: Ord + std::fmt::Display + Clone>(
    keys: impl Iterator<Item = K>,
    what: &str,
) -> Result<BTreeSet<K>, String> {
    let mut seen = BTreeSet::new();
    for key in keys {
        if !seen.insert(key.clone()) {
            return Err(format!("{what} {key} is given twice"));
        }
    }
    Ok(seen)
}
