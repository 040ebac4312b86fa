//! Tables that contradict themselves are refused whole, with what is wrong and what would be valid.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use persona_common::maps::{
    BLOCKS_PER_LEASE_MAX, GROUP_COUNT_MAX, MAGLEV_ROW_COUNT, PREFIX_COUNT_MAX, SOURCE_COUNT_MAX,
};
use persona_core::ids::SubjectNumber;
use persona_core::wire::desired::WHOLE_ADDRESS_BITS;

use super::node_wire::number_by_wire;
use super::tables::{DeviceEntry, LeaseEntry, LeaseSpace, NodeTables, PlannedTable, SubjectEntry};

/// Ports below this one are never leased.
const FIRST_LEASED_PORT: u32 = 1024;
/// Smallest MTU of IPv4 (RFC 791 §3.1).
const MTU_MIN: u16 = 68;
/// Smallest MTU of IPv6 (RFC 8200 §5).
const MTU_MIN_V6: u16 = 1280;
/// Shortest prefix of a workload's own IPv6 addresses: a lease is a /64, and each translates into one.
const INNER_PREFIX_MIN: u8 = 64;

pub(super) fn validate(tables: &NodeTables) -> Result<(), String> {
    let subjects = unique(tables.subjects.iter().map(|subject| subject.number), "subject")?;
    unique(tables.leases.iter().map(|lease| lease.id), "lease")?;
    let groups = unique(tables.groups.iter().map(|group| group.group.clone()), "group")?;
    unique(tables.edges.iter().map(|edge| edge.number), "edge")?;
    let too_high = tables.edges.iter().find(|edge| number_by_wire(edge.number).is_none());
    if let Some(edge) = too_high.filter(|_| !tables.wire.encrypted.is_empty()) {
        return Err(format!("edge {}: beside encrypted leases edges have numbers from 1 to 32767", edge.number));
    }
    let table_count = tables.rows_by_name().len();
    if table_count > GROUP_COUNT_MAX as usize {
        return Err(format!(
            "{table_count} tables of edge groups, at most {GROUP_COUNT_MAX} fit; one with encrypted leases counts twice"
        ));
    }
    check_planned(tables)?;
    tables.subjects.iter().try_for_each(|subject| check_subject(subject, tables))?;
    check_places(tables, &subjects)?;
    for lease in &tables.leases {
        check_lease(lease)?;
        if !subjects.contains(&lease.subject) {
            return Err(format!("lease {}: its subject {} is not given", lease.id, lease.subject));
        }
        if !groups.contains(&lease.group) {
            return Err(format!("lease {}: its group {} has no table", lease.id, lease.group));
        }
    }
    check_blocks(&tables.leases)?;
    check_ways(tables)?;
    for (what, prefixes) in [("bypass", &tables.bypass), ("managed", &tables.managed)] {
        check_prefixes(what, prefixes)?;
    }
    Ok(())
}

fn check_subject(subject: &SubjectEntry, tables: &NodeTables) -> Result<(), String> {
    let Some(network) = &subject.network else { return Ok(()) };
    for (id, is_prefix) in [(network.lease, false), (network.lease6, true)] {
        let Some(id) = id else { continue };
        let refuse = |why: &str| Err(format!("subject {}: lease {id} {why}", subject.number));
        match tables.leases.iter().find(|lease| lease.id == id) {
            None => return refuse("is not given"),
            Some(lease) if lease.subject != subject.number => {
                return refuse(&format!("is subject {}'s", lease.subject));
            }
            Some(lease) if matches!(lease.space, LeaseSpace::Prefix { .. }) != is_prefix => {
                return refuse("is of the other family");
            }
            Some(_) => {}
        }
    }
    if network.dscp.is_some_and(|dscp| dscp > 63) {
        return Err(format!("subject {}: a DSCP is 0 to 63", subject.number));
    }
    check_prefixes(&format!("subject {}: bypass", subject.number), &network.bypass)
}

/// Devices, control groups and sources: where subjects are.
fn check_places(tables: &NodeTables, subjects: &BTreeSet<SubjectNumber>) -> Result<(), String> {
    unique(tables.devices.iter().map(|device| device.ifindex), "device")?;
    let mut placed = unique(tables.devices.iter().filter_map(|device| device.subject), "device of subject")?;
    unique(tables.cgroups.iter().map(|cgroup| cgroup.id), "control group")?;
    for device in &tables.devices {
        check_device(device, subjects)?;
    }
    for cgroup in &tables.cgroups {
        if !subjects.contains(&cgroup.subject) {
            return Err(format!("control group {}: its subject {} is not given", cgroup.id, cgroup.subject));
        }
        if placed.contains(&cgroup.subject) {
            return Err(format!("control group {}: subject {} has a device already", cgroup.id, cgroup.subject));
        }
    }
    placed.extend(tables.cgroups.iter().map(|cgroup| cgroup.subject));
    check_sources(tables, subjects, &placed)
}

fn check_device(device: &DeviceEntry, subjects: &BTreeSet<SubjectNumber>) -> Result<(), String> {
    let refuse = |why: String| Err(format!("device {}: {why}", device.ifindex));
    match device.subject {
        Some(subject) if !subjects.contains(&subject) => return refuse(format!("its subject {subject} is not given")),
        None if device.address.is_some() || device.prefix6.is_some() => {
            return refuse("a shared device has no address of its own; its sources do".to_owned());
        }
        _ => {}
    }
    if let Some((prefix, length)) = device.prefix6.filter(|(_, length)| !(INNER_PREFIX_MIN..=128).contains(length)) {
        return refuse(format!("prefix {prefix}/{length}: a length is {INNER_PREFIX_MIN} to 128"));
    }
    match device.vlan {
        Some(tag) if !(1..=4094).contains(&tag.id) => refuse(format!("VLAN {} is not 1 to 4094", tag.id)),
        _ => Ok(()),
    }
}

fn check_sources(
    tables: &NodeTables,
    subjects: &BTreeSet<SubjectNumber>,
    placed: &BTreeSet<SubjectNumber>,
) -> Result<(), String> {
    if tables.sources.len() > SOURCE_COUNT_MAX as usize {
        return Err(format!("{} sources, at most {SOURCE_COUNT_MAX} fit", tables.sources.len()));
    }
    let mut places = BTreeMap::new();
    for source in &tables.sources {
        let (address, length) = source.prefix;
        let refuse = |why: String| Err(format!("source {address}/{length}: {why}"));
        if !subjects.contains(&source.subject) {
            return refuse(format!("its subject {} is not given", source.subject));
        }
        if placed.contains(&source.subject) {
            return refuse(format!("subject {} has a place of its own already", source.subject));
        }
        let device = tables.devices.iter().find(|device| device.ifindex == source.ifindex);
        if device.is_none_or(|device| device.subject.is_some()) {
            return refuse(format!("device {} is not given as shared", source.ifindex));
        }
        let (lowest, highest) = if address.is_ipv4() { (0, 32) } else { (INNER_PREFIX_MIN, 128) };
        if !(lowest..=highest).contains(&length) {
            return refuse(format!("a length is {lowest} to {highest}"));
        }
        let inner = match address {
            IpAddr::V6(address) => Some(address.to_bits() >> 64),
            IpAddr::V4(_) => None,
        };
        let (ifindex, known) = places.entry(source.subject).or_insert((source.ifindex, inner));
        if *ifindex != source.ifindex {
            return refuse(format!("subject {} is behind device {ifindex} already", source.subject));
        }
        if known.is_some() && inner.is_some() && *known != inner {
            return refuse(format!("subject {} is in another /64 already; one can be translated", source.subject));
        }
        *known = known.or(inner);
    }
    Ok(())
}

/// Tables that go before a group's own.
fn check_planned(tables: &NodeTables) -> Result<(), String> {
    let members =
        |table: &PlannedTable| table.subjects.iter().map(|it| format!("{it} of group {}", table.group)).collect();
    let members: Vec<Vec<String>> = tables.planned.iter().map(members).collect();
    unique(members.into_iter().flatten(), "planned subject")?;
    unique(tables.named_rows().map(|(name, _)| name), "table of edges")?;
    match tables.planned.iter().find(|table| tables.groups.iter().all(|own| own.group != table.group)) {
        Some(table) => Err(format!("planned edges of group {}, which has no table of its own", table.group)),
        None => Ok(()),
    }
}

/// Edges, groups and the node's own address: the ways out.
fn check_ways(tables: &NodeTables) -> Result<(), String> {
    for (name, rows) in tables.named_rows() {
        if rows.len() != MAGLEV_ROW_COUNT as usize {
            return Err(format!("group {name}: {} rows, {MAGLEV_ROW_COUNT} are needed", rows.len()));
        }
    }
    for edge in &tables.edges {
        if edge.number.0 == 0 {
            return Err(format!("edge at {}: 0 is no edge's number", edge.address));
        }
        if tables.underlay_address.is_some_and(|own| own.is_ipv4() != edge.address.is_ipv4()) {
            return Err(format!(
                "edge {}: {} and the node's own address are of two families",
                edge.number, edge.address
            ));
        }
    }
    if (!tables.edges.is_empty() || !tables.leases.is_empty()) && tables.underlay_address.is_none() {
        return Err("edges or leases without the node's own underlay address".to_owned());
    }
    Ok(())
}

fn check_prefixes(what: &str, prefixes: &[(IpAddr, u8)]) -> Result<(), String> {
    if prefixes.len() > PREFIX_COUNT_MAX as usize {
        return Err(format!("{} {what} prefixes, at most {PREFIX_COUNT_MAX} fit", prefixes.len()));
    }
    for (address, length) in prefixes {
        let highest = if address.is_ipv4() { 32 } else { 128 };
        if *length > highest {
            return Err(format!("{what} prefix {address}/{length}: a length is 0 to {highest}"));
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
    match &lease.space {
        LeaseSpace::Prefix { prefix } if prefix.to_bits() as u64 != 0 => refuse(format!("{prefix} is not a /64")),
        LeaseSpace::Prefix { .. } if lease.mtu < MTU_MIN_V6 => {
            refuse(format!("MTU {} is below {MTU_MIN_V6}", lease.mtu))
        }
        LeaseSpace::Ports { .. } if lease.mtu < MTU_MIN => refuse(format!("MTU {} is below {MTU_MIN}", lease.mtu)),
        LeaseSpace::Ports { block_bits, blocks, .. } if lease.configured => {
            let is_whole = *block_bits == WHOLE_ADDRESS_BITS && blocks == &[0];
            if is_whole {
                Ok(())
            } else {
                refuse("only a whole address can be configured, not blocks of it".to_owned())
            }
        }
        LeaseSpace::Ports { block_bits: WHOLE_ADDRESS_BITS, blocks, .. } if blocks == &[0] => Ok(()),
        LeaseSpace::Ports { block_bits, blocks, .. } => check_ports(*block_bits, blocks).or_else(refuse),
        LeaseSpace::Prefix { .. } => Ok(()),
    }
}

fn check_ports(block_bits: u8, blocks: &[u16]) -> Result<(), String> {
    if !(1..=15).contains(&block_bits) {
        return Err(format!("block bits {block_bits} are not 1 to 15, or 16 with block 0 alone"));
    }
    if blocks.is_empty() || blocks.len() > BLOCKS_PER_LEASE_MAX {
        return Err(format!("{} blocks, 1 to {BLOCKS_PER_LEASE_MAX} are possible", blocks.len()));
    }
    for block in blocks {
        let first_port = u32::from(*block) << block_bits;
        if !(FIRST_LEASED_PORT..65_536).contains(&first_port) {
            return Err(format!("block {block} starts at port {first_port}, 1024 to 65535 are possible"));
        }
    }
    Ok(())
}

fn check_blocks(leases: &[LeaseEntry]) -> Result<(), String> {
    let mut bits = BTreeMap::new();
    let mut holders = BTreeMap::new();
    let mut prefixes = BTreeMap::new();
    for lease in leases {
        match &lease.space {
            LeaseSpace::Prefix { prefix } => {
                if let Some(other) = prefixes.insert(*prefix, lease.id) {
                    return Err(format!("prefix {prefix}/64 is in leases {other} and {}", lease.id));
                }
            }
            LeaseSpace::Ports { address, block_bits, blocks } => {
                if *bits.entry(*address).or_insert(*block_bits) != *block_bits {
                    return Err(format!("lease {}: blocks of {address} have two sizes", lease.id));
                }
                for block in blocks {
                    if let Some(other) = holders.insert((*address, *block), lease.id) {
                        return Err(format!("block {block} of {address} is in leases {other} and {}", lease.id));
                    }
                }
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
