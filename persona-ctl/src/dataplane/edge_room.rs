//! Whether an edge's tables make sense and fit, found out before anything is written: what an apply will ask for is asked
//! for here in the same order, from copies.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use persona_core::wire::desired::LeaseSpace;

use super::edge_maps::EdgeIndex;
use super::edge_police::{policed, rates_of};
use super::edge_spaces::{plan, shapes};
use super::maps::address6;
use super::tables::{EdgeLeaseEntry, EdgeTables, NextHopEntry};

/// Refuses tables for which an apply would run out of indices or cells half-way.
pub(super) fn check(index: &EdgeIndex, tables: &EdgeTables) -> Result<(), String> {
    let (mut nodes, mut peers, mut personas) = (index.nodes.clone(), index.peers.clone(), index.personas.clone());
    let (mut policers, mut rates) = (index.policers.clone(), index.policed_rates.clone());
    for node in &tables.nodes {
        let key = address6(node.address);
        if nodes.get(&key).is_none() {
            nodes.give(key).ok_or_else(|| full("node", &node.address))?;
        }
    }
    for peer in &tables.peers {
        let key = peer.number.0.into();
        if peers.get(&key).is_none() {
            peers.give(key).ok_or_else(|| full("peer", &peer.number))?;
        }
    }
    for lease in &tables.leases {
        if personas.get(&lease.vni.0).is_none() {
            personas.give(lease.vni.0).ok_or_else(|| full("persona", &lease.vni))?;
        }
    }
    for (number, subject) in policed(tables)? {
        if policers.get(&number).is_none() {
            policers.give(number).ok_or_else(|| full("policed subject", &number))?;
        }
        if rates.get(&rates_of(&subject)).is_none() {
            rates.give(rates_of(&subject)).ok_or_else(|| full("rate to police, that of subject", &number))?;
        }
    }
    plan(&index.spaces, &mut index.block_runs.clone(), &shapes(tables))
        .map(|_| ())
        .map_err(|error| format!("{error}; nothing was changed"))
}

fn full(what: &str, which: &dyn std::fmt::Display) -> String {
    format!("no room for another {what} {which}; nothing was changed")
}

/// Refuses tables that contradict themselves.
pub(super) fn validate(tables: &EdgeTables) -> Result<(), String> {
    let mut bits = BTreeMap::new();
    for address in &tables.addresses {
        if !(1..=16).contains(&address.block_bits) {
            return Err(format!("address {}: block bits {} are not 1 to 16", address.address, address.block_bits));
        }
        if bits.insert(address.address, address.block_bits).is_some() {
            return Err(format!("address {} is given twice", address.address));
        }
    }
    for (prefix, length) in &tables.prefixes {
        let fits = (48..=64).contains(length) && prefix.to_bits().trailing_zeros() >= 128 - u32::from(*length);
        if !fits {
            return Err(format!(
                "pool {prefix}/{length}: a prefix of 48 to 64 bits, all other bits zero, would be valid"
            ));
        }
    }
    validate_hops(tables)?;
    policed(tables)?;
    let nodes = tables.nodes.iter().map(|node| node.address).collect::<BTreeSet<_>>();
    let mut held = BTreeSet::new();
    for lease in &tables.leases {
        let name = name(lease);
        if !nodes.contains(&lease.node) {
            return Err(format!("a lease of {name}: its node {} is not given", lease.node));
        }
        match &lease.space {
            LeaseSpace::Ports { address, block_bits, blocks } => {
                match bits.get(address) {
                    None => return Err(format!("a lease of {name}: the address is not given")),
                    Some(given) if given != block_bits => {
                        return Err(format!("a lease of {name}: blocks of {block_bits} bits, the address has {given}"));
                    }
                    Some(_) => {}
                }
                for block in blocks {
                    if u32::from(*block) << block_bits > 65_535 {
                        return Err(format!("a lease of {name}: block {block} is past the last port"));
                    }
                    if !held.insert((IpAddr::V4(*address), *block)) {
                        return Err(format!("block {block} of {name} is leased twice"));
                    }
                }
            }
            LeaseSpace::Prefix { prefix } => {
                let covers = |(pool, length): &(Ipv6Addr, u8)| {
                    pool.to_bits() >> (128 - u32::from(*length)) == prefix.to_bits() >> (128 - u32::from(*length))
                };
                if prefix.to_bits() as u64 != 0 || !tables.prefixes.iter().any(covers) {
                    return Err(format!("a lease of {name}: it is no /64 of a pool that is given"));
                }
                if !held.insert((IpAddr::V6(*prefix), 0)) {
                    return Err(format!("{name} is leased twice"));
                }
            }
        }
    }
    Ok(())
}

/// Tunnels need both ends in one family; a next hop may be of either.
fn validate_hops(tables: &EdgeTables) -> Result<(), String> {
    let Some(own) = tables.underlay_address else { return Ok(()) };
    let nodes = tables.nodes.iter().map(|node| ("node", node.address));
    let peers = tables.peers.iter().map(|peer| ("peer", peer.address));
    for (what, address) in nodes.chain(peers) {
        if address.is_ipv4() != own.is_ipv4() {
            return Err(format!("{what} {address} is of another family than the edge's own address {own}"));
        }
    }
    let is_v4 = |hop: &NextHopEntry| hop.address.is_ipv4();
    if tables.outside6.as_ref().is_some_and(is_v4) {
        return Err("the outside's IPv6 next hop has an IPv4 address".to_owned());
    }
    let numbers = tables.peers.iter().map(|peer| peer.number).collect::<BTreeSet<_>>();
    if numbers.len() != tables.peers.len() || numbers.contains(&tables.number) {
        return Err("two edges have the same number".to_owned());
    }
    Ok(())
}

fn name(lease: &EdgeLeaseEntry) -> String {
    match &lease.space {
        LeaseSpace::Ports { address, .. } => address.to_string(),
        LeaseSpace::Prefix { prefix } => format!("{prefix}/64"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use persona_core::ids::{SubjectNumber, Vni};

    use super::*;
    use crate::dataplane::index::{Indices, Runs};
    use crate::dataplane::tables::{EgressAddressEntry, NodeEntry, PolicedSubject, Policing};

    fn index(node_count: u32) -> EdgeIndex {
        EdgeIndex {
            nodes: Indices::new(0, node_count, []),
            peers: Indices::new(0, 1, []),
            personas: Indices::new(0, 1, []),
            policers: Indices::new(1, 2, []),
            policed_rates: Indices::new(1, 2, []),
            spaces: Default::default(),
            hints: BTreeMap::new(),
            blocks: Default::default(),
            block_runs: Runs::default(),
        }
    }

    fn node(last: u8) -> NodeEntry {
        let address = Ipv4Addr::new(10, 0, 0, last).into();
        NodeEntry { address, next_hop: NextHopEntry { ifindex: 1, address, source_mac: [2; 6], destination_mac: None } }
    }

    fn lease(space: LeaseSpace, policed: Option<PolicedSubject>) -> EdgeLeaseEntry {
        EdgeLeaseEntry { space, node: node(1).address, vni: Vni(7), mtu: 1400, policed }
    }

    /// Leases of subjects with these numbers and upward rates.
    fn policed_by(subjects: &[(u32, u64)]) -> EdgeTables {
        let address = Ipv4Addr::new(192, 0, 2, 1);
        let of = |(block, (number, rate_bps)): (u16, &(u32, u64))| {
            let (number, egress_bps) = (SubjectNumber(*number), Some(*rate_bps));
            let subject = PolicedSubject {
                number,
                egress_bps,
                ingress_bps: None,
                burst_bytes: 0,
                policing: Policing::BehindNode,
            };
            lease(LeaseSpace::Ports { address, block_bits: 10, blocks: vec![block] }, Some(subject))
        };
        EdgeTables {
            addresses: vec![EgressAddressEntry { address, block_bits: 10 }],
            nodes: vec![node(1)],
            leases: (1..).zip(subjects).map(of).collect(),
            ..EdgeTables::default()
        }
    }

    #[test]
    fn a_subject_is_policed_once_whatever_it_leases() {
        let index = index(1);
        assert_eq!(check(&index, &policed_by(&[(5, 8_000), (5, 8_000)])), Ok(()));
        let refusal = check(&index, &policed_by(&[(5, 8_000), (6, 8_000)])).unwrap_err();
        assert!(refusal.contains("policed subject 6"), "{refusal}");
        let refusal = validate(&policed_by(&[(5, 8_000), (5, 9_000)])).unwrap_err();
        assert!(refusal.contains("subject 5 has other rates"), "{refusal}");
    }

    #[test]
    fn rates_that_are_alike_take_one_cell() {
        let index = EdgeIndex { policers: Indices::new(1, 3, []), ..index(1) };
        assert_eq!(check(&index, &policed_by(&[(5, 8_000), (6, 8_000)])), Ok(()));
        let refusal = check(&index, &policed_by(&[(5, 8_000), (6, 9_000)])).unwrap_err();
        assert!(refusal.contains("another rate to police, that of subject 6"), "{refusal}");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let index = index(1);
        for (count, fits) in [(1u8, true), (2, false)] {
            let tables = EdgeTables { nodes: (0..count).map(node).collect(), ..EdgeTables::default() };
            assert_eq!(check(&index, &tables).is_ok(), fits, "{count} nodes");
            assert_eq!(index.nodes.iter().count(), 0);
        }
    }

    #[test]
    fn contradictions_are_refused_with_the_reason() {
        let egress = Ipv4Addr::new(192, 0, 2, 1);
        let ports =
            |block_bits, blocks: &[u16]| LeaseSpace::Ports { address: egress, block_bits, blocks: blocks.to_vec() };
        let prefix = |text: &str| LeaseSpace::Prefix { prefix: text.parse().unwrap() };
        let of = |spaces: &[LeaseSpace]| EdgeTables {
            underlay_address: Some(Ipv4Addr::new(10, 0, 0, 9).into()),
            addresses: vec![EgressAddressEntry { address: egress, block_bits: 10 }],
            prefixes: vec![("2001:db8:7:100::".parse().unwrap(), 56)],
            nodes: vec![node(1)],
            leases: spaces.iter().map(|space| lease(space.clone(), None)).collect(),
            ..EdgeTables::default()
        };
        let fine = of(&[ports(10, &[1, 2]), prefix("2001:db8:7:1ff::"), prefix("2001:db8:7:100::")]);
        assert_eq!(validate(&fine), Ok(()));
        let cases = [
            (of(&[ports(11, &[1])]), "the address has 10"),
            (of(&[ports(10, &[64])]), "past the last port"),
            (of(&[ports(10, &[1]), ports(10, &[1])]), "leased twice"),
            (of(&[prefix("2001:db8:7:200::")]), "no /64 of a pool"),
            (of(&[prefix("2001:db8:7:100::1")]), "no /64 of a pool"),
            (of(&[prefix("2001:db8:7:101::"), prefix("2001:db8:7:101::")]), "leased twice"),
            (EdgeTables { nodes: vec![], ..of(&[ports(10, &[1])]) }, "node 10.0.0.1 is not given"),
            (EdgeTables { prefixes: vec![("2001:db8:7:1::".parse().unwrap(), 56)], ..of(&[]) }, "48 to 64 bits"),
            (EdgeTables { underlay_address: Some("fd00::1".parse().unwrap()), ..of(&[]) }, "another family"),
        ];
        for (tables, reason) in cases {
            let refusal = validate(&tables).unwrap_err();
            assert!(refusal.contains(reason), "{refusal} instead of {reason}");
        }
    }
}
