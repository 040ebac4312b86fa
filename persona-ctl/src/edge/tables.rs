//! From a desired state and what is observed to an edge's tables, or the reason why not.
//!
//! Pure: the same inputs give the same tables. A state is taken whole or refused whole.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use persona_common::police::CLASS_HANDLE;
use persona_common::{ENCAPSULATION_LENGTH_V4, ENCAPSULATION_LENGTH_V6};
use persona_core::ids::{EdgeName, EdgeNumber, GroupName, LeaseId};
use persona_core::ranges::merged;
use persona_core::units::Cidr;
use persona_core::wire::desired::{
    DesiredState, EdgeItem, Item, LeaseItem, LeaseRates, LeaseSpace, NodeItem, PoolItem, ProbeItem, WHOLE_ADDRESS_BITS,
};

use super::observe::Observed;
use super::ownership::{Peer, Situation};
use super::queues::{self, EdgeQueues};
use crate::dataplane::tables::{
    EdgeLeaseEntry, EdgeTables, EgressAddressEntry, NodeEntry, PeerEntry, PolicedSubject, Policing, WireTable,
};
use crate::slow_path::{Facts, LeaseFacts, wire_ifindex};
use crate::wire::encryption_to;

/// Why a desired state cannot be applied here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// A lease's address or prefix is in no pool.
    #[error("lease {lease} is of {space}, which is in no egress pool of the desired state")]
    UnknownSpace {
        /// Which lease.
        lease: LeaseId,
        /// What it consists of.
        space: LeaseSpace,
    },
    /// A lease's node is not in the state.
    #[error("lease {lease} is held by node {node}, which is not in the desired state")]
    UnknownNode {
        /// Which lease.
        lease: LeaseId,
        /// Its holder's node.
        node: IpAddr,
    },
    /// An address is in two pools that cut ports differently.
    #[error("egress address {0} is in two pools with blocks of different sizes")]
    TwoPools(Ipv4Addr),
    /// Inner packets would not fit on the inside.
    #[error(
        "MTU {mtu} of lease {lease} does not fit: device {device} carries {underlay} bytes and encapsulation takes {overhead}; lower the persona's mtu to {} or raise the device's",
        underlay.saturating_sub(*overhead)
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
        /// What encapsulation adds.
        overhead: u32,
    },
}

/// Everything that a desired state means on this edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EdgePlan {
    /// For the data plane.
    pub tables: EdgeTables,
    /// For the devices' queues.
    pub queues: EdgeQueues,
    /// For the slow path.
    pub facts: Facts,
    /// Peers to probe.
    pub peers: BTreeMap<EdgeNumber, EdgeItem>,
    /// How to probe them.
    pub probe: ProbeItem,
    /// For the guardian; liveness in it is left out of account.
    pub situation: Situation,
    /// Next hops towards the nodes.
    pub inside_next_hops: BTreeSet<IpAddr>,
    /// Whether the manager empties this edge.
    pub is_draining: bool,
}

/// What is done with a lease whose MTU does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MtuPolicy {
    /// A state that is not in force yet is refused.
    Refuse,
    /// The state in force goes on with smaller packets: the underlay has become narrower meanwhile.
    Lower,
}

/// Who this edge is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    /// Its name.
    pub name: EdgeName,
    /// Its group.
    pub group: GroupName,
    /// Where IPv4 packets to the outside go.
    pub outside_next_hop: Option<Ipv4Addr>,
    /// Where IPv6 packets to the outside go.
    pub outside_next_hop6: Option<Ipv6Addr>,
}

/// What `desired` means on the edge that `observed` describes. `slow_ifindex` is the slow path's device, while it has one.
pub(super) fn build(
    desired: &DesiredState,
    own: &Own,
    observed: &Observed,
    slow_ifindex: Option<u32>,
    policy: MtuPolicy,
) -> Result<EdgePlan, Refusal> {
    let items = Items::of(desired, &own.group);
    let addresses = items.addresses()?;
    let prefixes = items.prefixes();
    let nodes = items.nodes(observed);
    let queues = queues::plan(&items.leases, observed);
    let leases = items.leases(&addresses, &prefixes, observed, policy, &queues)?;
    let inside_next_hops = nodes.iter().map(|node| node.next_hop.address).collect();
    let (myself, peers) = items.split(&own.name);
    let peer_entry = |peer: &EdgeItem| PeerEntry {
        number: peer.number,
        address: peer.address,
        next_hop: observed.next_hop_to(peer.address),
    };
    let outside = |address: Option<IpAddr>| address.map(|address| observed.next_hop(observed.outside.index, address));
    let tables = EdgeTables {
        number: myself.map_or(EdgeNumber(0), |edge| edge.number),
        underlay_address: Some(observed.address),
        slow_ifindex,
        generation: desired.generation,
        addresses: addresses.iter().map(|(address, bits)| egress_address(*address, *bits)).collect(),
        prefixes: prefixes.into_iter().collect(),
        leases,
        nodes,
        peers: peers.values().map(peer_entry).collect(),
        outside: outside(own.outside_next_hop.map(IpAddr::V4)),
        outside6: outside(own.outside_next_hop6.map(IpAddr::V6)),
        wire: items.wire(observed),
    };
    let situation = Situation {
        own: myself.map(|edge| edge.number),
        in_service: myself.is_some_and(takes_addresses),
        peers: peers.iter().map(|(number, edge)| (*number, to_peer(edge))).collect(),
        addresses: items.answered_for(&addresses),
        ranges: items.ranges(),
        ..Default::default()
    };
    let is_draining = myself.is_some_and(|edge| edge.draining);
    let facts = facts(&tables);
    Ok(EdgePlan { tables, queues, facts, peers, probe: items.probe, situation, inside_next_hops, is_draining })
}

/// An edge that is being emptied leaves its addresses to others, as long as there are others.
fn takes_addresses(edge: &EdgeItem) -> bool {
    edge.in_service && !edge.draining
}

fn to_peer(edge: &EdgeItem) -> Peer {
    Peer { in_service: takes_addresses(edge), is_alive: false }
}

fn egress_address(address: Ipv4Addr, block_bits: u8) -> EgressAddressEntry {
    EgressAddressEntry { address, block_bits }
}

fn facts(tables: &EdgeTables) -> Facts {
    let mut facts = Facts::default();
    for lease in &tables.leases {
        if let LeaseSpace::Ports { address, block_bits, blocks } = &lease.space {
            let wire_ifindex = wire_ifindex(tables.wire.is_encrypted(&lease.space), tables.wire.ifindex);
            let lease_facts = LeaseFacts { mtu: lease.mtu, class: class_inward(lease), wire_ifindex };
            blocks.iter().for_each(|block| facts.insert(*address, *block_bits, *block, lease_facts));
        }
    }
    facts
}

/// The class of what the slow path cuts on the way to a node.
fn class_inward(lease: &EdgeLeaseEntry) -> u32 {
    match lease.policed {
        Some(PolicedSubject { policing: Policing::InClass(minor), ingress_bps: Some(_), .. }) => {
            CLASS_HANDLE | u32::from(minor + 1)
        }
        _ => 0,
    }
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
                Item::Tunnel(_) => {}
                // Subjects and shares are for nodes; other groups' edges and leases are not carried here.
                Item::Subject(_) | Item::Share(_) | Item::Edge(_) | Item::Lease(_) => {}
            }
        }
        items
    }

    /// This edge, once the manager has said so, and the others of its group.
    fn split(&self, own: &EdgeName) -> (Option<&'a EdgeItem>, BTreeMap<EdgeNumber, EdgeItem>) {
        let myself = self.edges.iter().find(|edge| edge.name == *own).copied();
        let peers = self.edges.iter().filter(|edge| edge.name != *own);
        (myself, peers.map(|edge| (edge.number, (*edge).clone())).collect())
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
        // An address that is leased whole is not cut; the manager never leases it both ways.
        for address in self.leases.iter().filter(|lease| lease.space.is_whole_address()) {
            let bits = address.space.address().and_then(|address| addresses.get_mut(&address));
            bits.into_iter().for_each(|bits| *bits = WHOLE_ADDRESS_BITS);
        }
        Ok(addresses)
    }

    fn prefixes(&self) -> BTreeSet<(Ipv6Addr, u8)> {
        let prefixes = self.pools.iter().flat_map(|pool| &pool.prefixes);
        let ipv6 = prefixes.filter_map(|prefix| match prefix.address() {
            IpAddr::V6(address) => Some((address, prefix.prefix_length())),
            IpAddr::V4(_) => None,
        });
        ipv6.collect()
    }

    /// What somebody on the outside segment asks for: IPv4 egress addresses, and the next hops of IPv6 pools.
    fn answered_for(&self, addresses: &BTreeMap<Ipv4Addr, u8>) -> BTreeSet<IpAddr> {
        let next_hops = self.pools.iter().filter_map(|pool| pool.next_hop6).map(IpAddr::V6);
        addresses.keys().copied().map(IpAddr::V4).chain(next_hops).collect()
    }

    /// What routes lead to: whole pools, for any edge of a group can carry any packet.
    fn ranges(&self) -> BTreeSet<Cidr> {
        let addresses = self.pools.iter().flat_map(|pool| &pool.addresses);
        let addresses = addresses.map(|address| Cidr::of((*address).into()));
        merged(addresses.chain(self.pools.iter().flat_map(|pool| pool.prefixes.iter().copied())))
    }

    /// What goes through the encrypted tunnel.
    fn wire(&self, observed: &Observed) -> WireTable {
        let encrypted = self.leases.iter().filter(|lease| lease.encrypted).map(|lease| lease.space.clone());
        WireTable { ifindex: observed.wire_ifindex, encrypted: encrypted.collect(), ..WireTable::default() }
    }

    fn nodes(&self, observed: &Observed) -> Vec<NodeEntry> {
        let addresses: BTreeSet<IpAddr> = self.nodes.iter().map(|node| node.address).collect();
        let entry = |address| NodeEntry { address, next_hop: observed.next_hop_to(address) };
        addresses.into_iter().map(entry).collect()
    }

    fn leases(
        &self,
        addresses: &BTreeMap<Ipv4Addr, u8>,
        prefixes: &BTreeSet<(Ipv6Addr, u8)>,
        observed: &Observed,
        policy: MtuPolicy,
        queues: &EdgeQueues,
    ) -> Result<Vec<EdgeLeaseEntry>, Refusal> {
        let nodes: BTreeSet<IpAddr> = self.nodes.iter().map(|node| node.address).collect();
        let entry = |lease: &&LeaseItem| {
            let (id, node) = (lease.id, lease.node_address);
            let is_known = match &lease.space {
                LeaseSpace::Ports { address, .. } => addresses.contains_key(address),
                LeaseSpace::Prefix { prefix } => prefixes.iter().any(|pool| contains(*pool, *prefix)),
            };
            if !is_known {
                return Err(Refusal::UnknownSpace { lease: id, space: lease.space.clone() });
            }
            if !nodes.contains(&node) {
                return Err(Refusal::UnknownNode { lease: id, node });
            }
            let (underlay, overhead) = (observed.mtu_to(node), overhead(node, lease.encrypted));
            let room = u16::try_from(underlay.saturating_sub(overhead)).unwrap_or(u16::MAX);
            // What is on its way out cannot be mended any more and does not hold up the rest.
            if policy == MtuPolicy::Refuse && !lease.retiring && room < lease.mtu {
                let device = observed.inside.name.clone();
                return Err(Refusal::Mtu { lease: id, mtu: lease.mtu, device, underlay, overhead });
            }
            let mtu = lease.mtu.min(room).min(self.narrowed(lease, observed));
            let policed = lease.rates.map(|rates| policed_subject(rates, queues));
            Ok(EdgeLeaseEntry { space: lease.space.clone(), node, vni: lease.vni, mtu, policed })
        };
        self.leases.iter().map(entry).collect()
    }

    /// The largest inner packet that routers let through to the lease's node, and to the peers by which a packet may go
    /// to it. Their word may be forged: it makes packets smaller, but is no reason against a state.
    fn narrowed(&self, lease: &LeaseItem, observed: &Observed) -> u16 {
        let peers = self.edges.iter().map(|edge| edge.address);
        let inner = peers.chain([lease.node_address]).filter_map(|far_end| {
            let underlay = observed.narrowed.get(&far_end)?;
            u16::try_from(underlay.saturating_sub(overhead(far_end, lease.encrypted))).ok()
        });
        inner.min().map_or(u16::MAX, |inner| inner.max(least(&lease.space)))
    }
}

fn policed_subject(rates: LeaseRates, queues: &EdgeQueues) -> PolicedSubject {
    PolicedSubject {
        number: rates.subject_number,
        egress_bps: rates.egress_bps,
        ingress_bps: rates.ingress_bps,
        burst_bytes: rates.burst_bytes.unwrap_or(0),
        policing: queues.held.get(&rates.subject_number).copied().unwrap_or(Policing::BehindNode),
    }
}

/// Smaller than this no router's word makes packets: every host takes them (RFC 791 §3.1, RFC 8200 §5).
fn least(space: &LeaseSpace) -> u16 {
    match space {
        LeaseSpace::Ports { .. } => 576,
        LeaseSpace::Prefix { .. } => 1_280,
    }
}

/// What encapsulation, and encryption, add to an inner packet on its way to `node`, bytes.
pub(super) fn overhead(node: IpAddr, is_encrypted: bool) -> u32 {
    let length = match node {
        IpAddr::V4(_) => ENCAPSULATION_LENGTH_V4,
        IpAddr::V6(_) => ENCAPSULATION_LENGTH_V6,
    };
    length as u32 + if is_encrypted { encryption_to(node) } else { 0 }
}

fn contains((network, length): (Ipv6Addr, u8), address: Ipv6Addr) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    network.to_bits() & mask == address.to_bits() & mask
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
