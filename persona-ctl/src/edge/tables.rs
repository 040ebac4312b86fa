//! From a desired state and what is observed to an edge's tables, or the reason why not.
//!
//! Pure: the same inputs give the same tables. A state is taken whole or refused whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use persona_core::ids::{EdgeName, EdgeNumber, GroupName, LeaseId};
use persona_core::wire::desired::{DesiredState, EdgeItem, Item, LeaseItem, LeaseSpace, NodeItem, PoolItem, ProbeItem};

use super::ownership::{Peer, Situation};
use crate::dataplane::tables::{EdgeLeaseEntry, EdgeTables, EgressAddressEntry, NextHopEntry, NodeEntry};
use crate::netlink::{Link, Neighbours, Path};

/// What encapsulation adds to an inner packet.
const ENCAPSULATION_BYTES: u32 = 36;

/// Why a desired state cannot be applied here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// A lease's address is in no pool.
    #[error("lease {lease} is of address {address}, which is in no egress pool of the desired state")]
    UnknownAddress {
        /// Which lease.
        lease: LeaseId,
        /// Its address.
        address: Ipv4Addr,
    },
    /// A lease's node is not in the state.
    #[error("lease {lease} is held by node {node}, which is not in the desired state")]
    UnknownNode {
        /// Which lease.
        lease: LeaseId,
        /// Its holder's node.
        node: Ipv4Addr,
    },
    /// An address is in two pools that cut ports differently.
    #[error("egress address {0} is in two pools with blocks of different sizes")]
    TwoPools(Ipv4Addr),
    /// Inner packets would not fit on the inside.
    #[error(
        "MTU {mtu} of lease {lease} does not fit: device {device} carries {underlay} bytes and encapsulation takes {ENCAPSULATION_BYTES}; lower the persona's mtu to {} or raise the device's",
        underlay.saturating_sub(ENCAPSULATION_BYTES)
    )]
    Mtu {
        /// Which lease.
        lease: LeaseId,
        /// Its largest inner packet.
        mtu: u16,
        /// The inside device.
        device: String,
        /// What it carries.
        underlay: u32,
    },
}

/// What the kernel has now, as far as an edge's tables depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    /// The device towards the nodes.
    pub inside: Link,
    /// The device towards the outside.
    pub outside: Link,
    /// The edge's address on the underlay.
    pub address: Ipv4Addr,
    /// The outside device's own address, where it has one.
    pub outside_address: Option<Ipv4Addr>,
    /// Node → the way there.
    pub paths: BTreeMap<Ipv4Addr, Path>,
    /// Every link by index.
    pub links: BTreeMap<u32, Link>,
    /// Hardware addresses that are resolved.
    pub neighbours: Neighbours,
}

/// Everything that a desired state means on this edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EdgePlan {
    /// For the data plane.
    pub tables: EdgeTables,
    /// Peers to probe.
    pub peers: BTreeMap<EdgeNumber, EdgeItem>,
    /// How to probe them.
    pub probe: ProbeItem,
    /// For the guardian; liveness in it is left out of account.
    pub situation: Situation,
    /// Next hops towards the nodes.
    pub inside_next_hops: BTreeSet<Ipv4Addr>,
}

/// Who this edge is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// Its name.
    pub name: EdgeName,
    /// Its group.
    pub group: GroupName,
    /// Where packets to the outside go.
    pub outside_next_hop: Ipv4Addr,
}

/// What `desired` means on the edge that `observed` describes.
pub(super) fn build(desired: &DesiredState, own: &Own, observed: &Observed) -> Result<EdgePlan, Refusal> {
    let items = Items::of(desired, &own.group);
    let addresses = items.addresses()?;
    let nodes = items.nodes(observed);
    let leases = items.leases(&addresses, &nodes, observed)?;
    let inside_next_hops = nodes.iter().filter_map(|node| ipv4(node.next_hop.address)).collect();
    let entry =
        |(address, block_bits): (&Ipv4Addr, &u8)| EgressAddressEntry { address: *address, block_bits: *block_bits };
    let myself = items.edges.iter().find(|edge| edge.name == own.name);
    let tables = EdgeTables {
        number: myself.map_or(EdgeNumber(0), |edge| edge.number),
        underlay_address: Some(observed.address.into()),
        generation: desired.generation,
        addresses: addresses.iter().map(entry).collect(),
        leases,
        nodes,
        outside: Some(next_hop(observed, observed.outside.index, own.outside_next_hop)),
        ..EdgeTables::default()
    };
    let peers = items.edges.iter().filter(|edge| edge.name != own.name);
    let peers: BTreeMap<EdgeNumber, EdgeItem> = peers.map(|edge| (edge.number, (*edge).clone())).collect();
    let peer =
        |(number, edge): (&EdgeNumber, &EdgeItem)| (*number, Peer { in_service: edge.in_service, is_alive: false });
    let situation = Situation {
        own: myself.map(|edge| edge.number),
        in_service: myself.is_some_and(|edge| edge.in_service),
        peers: peers.iter().map(peer).collect(),
        addresses: addresses.keys().copied().collect(),
        ..Default::default()
    };
    Ok(EdgePlan { tables, peers, probe: items.probe, situation, inside_next_hops })
}

#[derive(Default)]
struct Items<'a> {
    edges: Vec<&'a EdgeItem>,
    pools: Vec<&'a PoolItem>,
    leases: Vec<&'a LeaseItem>,
    nodes: Vec<&'a NodeItem>,
    probe: ProbeItem,
}

impl<'a> Items<'a> {
    fn of(desired: &'a DesiredState, group: &GroupName) -> Self {
        let mut items = Self::default();
        for item in desired.items.values() {
            match item {
                Item::Edge(edge) if edge.group == *group => items.edges.push(edge),
                Item::Pool(pool) => items.pools.push(pool),
                Item::Lease(lease) if lease.group == *group => items.leases.push(lease),
                Item::Node(node) => items.nodes.push(node),
                Item::Probe(probe) => items.probe = *probe,
                // Subjects are for nodes; other groups' edges and leases are not carried here.
                Item::Subject(_) | Item::Edge(_) | Item::Lease(_) => {}
            }
        }
        items
    }

    fn addresses(&self) -> Result<BTreeMap<Ipv4Addr, u8>, Refusal> {
        let mut addresses = BTreeMap::new();
        for pool in &self.pools {
            for address in &pool.addresses {
                let before = addresses.insert(*address, pool.block_bits);
                if before.is_some_and(|before| before != pool.block_bits) {
                    return Err(Refusal::TwoPools(*address));
                }
            }
        }
        Ok(addresses)
    }

    fn nodes(&self, observed: &Observed) -> Vec<NodeEntry> {
        let addresses: BTreeSet<Ipv4Addr> = self.nodes.iter().filter_map(|node| ipv4(node.address)).collect();
        let entry = |address: Ipv4Addr| {
            // A node without a way is tried on the inside itself: one missing route must not hold up all others.
            let way = observed.paths.get(&address).and_then(|path| match path.next_hop {
                IpAddr::V4(next_hop) => Some((path.ifindex, next_hop)),
                IpAddr::V6(_) => None,
            });
            let (ifindex, via) = way.unwrap_or((observed.inside.index, address));
            NodeEntry { address: address.into(), next_hop: next_hop(observed, ifindex, via) }
        };
        addresses.into_iter().map(entry).collect()
    }

    fn leases(
        &self,
        addresses: &BTreeMap<Ipv4Addr, u8>,
        nodes: &[NodeEntry],
        observed: &Observed,
    ) -> Result<Vec<EdgeLeaseEntry>, Refusal> {
        let known: BTreeSet<IpAddr> = nodes.iter().map(|node| node.address).collect();
        let entry = |lease: &LeaseItem, address: Ipv4Addr, node: Ipv4Addr| {
            let id = lease.id;
            if !addresses.contains_key(&address) {
                return Err(Refusal::UnknownAddress { lease: id, address });
            }
            if !known.contains(&node.into()) {
                return Err(Refusal::UnknownNode { lease: id, node });
            }
            let underlay = observed.inside.mtu;
            // What is on its way out cannot be mended any more and does not hold up the rest.
            if !lease.retiring && underlay < u32::from(lease.mtu) + ENCAPSULATION_BYTES {
                let device = observed.inside.name.clone();
                return Err(Refusal::Mtu { lease: id, mtu: lease.mtu, device, underlay });
            }
            Ok(EdgeLeaseEntry { space: lease.space.clone(), node: node.into(), vni: lease.vni, mtu: lease.mtu })
        };
        // IPv4 leases over an IPv4 underlay are carried; others have no row here.
        let carried = self.leases.iter().filter_map(|lease| match &lease.space {
            LeaseSpace::Ports { address, .. } => Some((lease, *address, ipv4(lease.node_address)?)),
            LeaseSpace::Prefix { .. } => None,
        });
        carried.map(|(lease, address, node)| entry(lease, address, node)).collect()
    }
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn next_hop(observed: &Observed, ifindex: u32, address: Ipv4Addr) -> NextHopEntry {
    let source_mac = observed.links.get(&ifindex).and_then(|link| link.mac).unwrap_or_default();
    NextHopEntry {
        ifindex,
        address: address.into(),
        source_mac,
        destination_mac: observed.neighbours.get(&(ifindex, address.into())).copied(),
    }
}

#[cfg(test)]
mod tests {
    use persona_core::ids::{Generation, Vni};

    use super::*;

    fn link(index: u32, mtu: u32) -> Link {
        Link { index, name: format!("dev{index}"), mtu, mac: Some([index as u8; 6]), is_up: true, ..Default::default() }
    }

    fn observed() -> Observed {
        let node = Ipv4Addr::new(10, 0, 0, 1);
        Observed {
            inside: link(1, 1_500),
            outside: link(2, 1_500),
            address: Ipv4Addr::new(10, 0, 0, 11),
            outside_address: None,
            paths: [(node, Path { ifindex: 1, next_hop: node.into(), source: None, mtu: None })].into(),
            links: [(1, link(1, 1_500)), (2, link(2, 1_500))].into(),
            neighbours: [((1, node.into()), [9; 6])].into(),
        }
    }

    fn own() -> Own {
        let outside_next_hop = Ipv4Addr::new(198, 51, 100, 1);
        Own { name: "e1".parse().unwrap(), group: "frankfurt".parse().unwrap(), outside_next_hop }
    }

    fn edge(name: &str, number: u16, group: &str) -> Item {
        Item::Edge(EdgeItem {
            name: name.parse().unwrap(),
            number: EdgeNumber(number),
            group: group.parse().unwrap(),
            address: [10, 0, 0, 10 + number as u8].into(),
            weight: 1,
            in_service: true,
            draining: false,
        })
    }

    fn lease(address: [u8; 4], node: [u8; 4], mtu: u16) -> Item {
        Item::Lease(LeaseItem {
            id: LeaseId(5),
            subject: "workload/n1/w1".parse().unwrap(),
            node: "n1".parse().unwrap(),
            node_address: node.into(),
            vni: Vni(7),
            group: "frankfurt".parse().unwrap(),
            pool: "pool".parse().unwrap(),
            space: LeaseSpace::Ports { address: address.into(), block_bits: 10, blocks: vec![1, 2] },
            configured: false,
            mtu,
            generation: Generation::new(1, 1),
            retiring: false,
        })
    }

    fn pool(name: &str, block_bits: u8) -> Item {
        let addresses = vec![Ipv4Addr::new(203, 0, 113, 1)];
        Item::Pool(PoolItem {
            name: name.parse().unwrap(),
            addresses,
            block_bits,
            prefixes: Vec::new(),
            next_hop6: None,
        })
    }

    fn node(last: u8) -> Item {
        Item::Node(NodeItem { name: format!("n{last}").parse().unwrap(), address: [10, 0, 0, last].into() })
    }

    fn build_of(items: Vec<Item>) -> Result<EdgePlan, Refusal> {
        let mut state = DesiredState { generation: Generation::new(1, 2), ..Default::default() };
        items.into_iter().for_each(|item| state.insert(item));
        build(&state, &own(), &observed())
    }

    #[test]
    fn a_state_becomes_tables() {
        let egress = [203, 0, 113, 1];
        let items = vec![
            edge("e1", 1, "frankfurt"),
            edge("e2", 2, "frankfurt"),
            edge("e3", 3, "tokyo"),
            pool("pool", 10),
            node(1),
            node(2),
            lease(egress, [10, 0, 0, 1], 1_400),
        ];
        let plan = build_of(items).unwrap();
        assert_eq!(plan.situation.own, Some(EdgeNumber(1)));
        assert_eq!(plan.peers.keys().copied().collect::<Vec<_>>(), [EdgeNumber(2)]);
        assert_eq!(plan.tables.leases.len(), 1);
        assert_eq!(plan.tables.nodes[0].next_hop.destination_mac, Some([9; 6]));
        assert_eq!(plan.tables.nodes[1].next_hop.ifindex, 1, "no way yet: tried on the inside");
        assert_eq!(plan.tables.outside.unwrap().source_mac, [2; 6]);
    }

    #[test]
    fn what_cannot_be_applied_is_refused_with_the_reason() {
        let (egress, holder) = ([203, 0, 113, 1], [10, 0, 0, 1]);
        let cases = [
            (vec![node(1), lease(egress, holder, 1_400)], "in no egress pool"),
            (vec![pool("pool", 10), lease(egress, holder, 1_400)], "node 10.0.0.1, which is not"),
            (vec![pool("a", 10), pool("b", 9)], "blocks of different sizes"),
            (vec![pool("pool", 10), node(1), lease(egress, holder, 1_465)], "lower the persona's mtu to 1464"),
        ];
        for (items, reason) in cases {
            let refusal = build_of(items).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{refusal}");
        }
    }
}
