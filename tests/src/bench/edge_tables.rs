//! Tables of an edge with as many leases as wanted, and flows over them.

use std::net::{Ipv4Addr, Ipv6Addr};

use persona_core::ids::{EdgeNumber, Generation, SubjectNumber, Vni};
use persona_core::wire::desired::LeaseSpace;
use persona_ctl::dataplane::tables::{
    EdgeLeaseEntry, EdgeTables, EgressAddressEntry, NextHopEntry, NodeEntry, PolicedSubject, Policing,
};

use super::packets::{Datagram, Tunnel};
use super::place::LOOPBACK;

/// The edge's address on the underlay.
pub const EDGE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The edge's next hop outside.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Hardware addresses.
pub const OWN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Of the next hop outside.
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
/// Of the way to every node.
pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 4];

/// log2 of the ports in a block.
const BLOCK_BITS: u8 = 10;
/// Blocks of an address that are leased: all but the first, whose ports never are.
const BLOCKS_PER_ADDRESS: u32 = 63;
/// Nodes and personas that leases are spread over.
const NODE_COUNT_MAX: u32 = 1_000;
const PERSONA_COUNT_MAX: u32 = 10_000;
/// Beyond the rate of any packets that are made here, bits per second: policed, none is dropped.
const POLICED_BPS: u64 = 10_000_000_000_000;
/// Largest inner packet.
const MTU: u16 = 1400;

/// A lease of one block, by number.
#[derive(Debug, Clone, Copy)]
pub struct Leased {
    number: u32,
}

impl Leased {
    fn address(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(Ipv4Addr::new(100, 64, 0, 1).to_bits() + self.number / BLOCKS_PER_ADDRESS)
    }

    fn block(self) -> u16 {
        1 + (self.number % BLOCKS_PER_ADDRESS) as u16
    }

    fn node(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 0, 1).to_bits() + self.number % NODE_COUNT_MAX)
    }

    fn vni(self) -> u32 {
        1 + self.number % PERSONA_COUNT_MAX
    }

    /// The tunnel that its packets come in to the edge.
    pub fn tunnel_out(self) -> Tunnel {
        Tunnel { source: self.node(), destination: EDGE, vni: self.vni() }
    }

    /// The tunnel that packets to it leave in.
    pub fn tunnel_in(self) -> Tunnel {
        Tunnel { source: EDGE, destination: self.node(), vni: self.vni() }
    }
}

/// Everything for so many leases.
pub fn tables(lease_count: u32, ifindex: u32) -> EdgeTables {
    let hop = |address: Ipv4Addr, destination_mac| NextHopEntry {
        ifindex,
        address: address.into(),
        source_mac: OWN_MAC,
        destination_mac: Some(destination_mac),
    };
    let leases = (0..lease_count).map(|number| Leased { number });
    let nodes = leases.clone().take(NODE_COUNT_MAX as usize);
    let nodes = nodes.map(|lease| NodeEntry { address: lease.node().into(), next_hop: hop(lease.node(), NODE_MAC) });
    let addresses = leases.clone().step_by(BLOCKS_PER_ADDRESS as usize);
    let addresses =
        addresses.map(|lease| EgressAddressEntry { address: lease.address(), block_bits: BLOCK_BITS }).collect();
    let leases = leases.map(|lease| EdgeLeaseEntry {
        space: LeaseSpace::Ports { address: lease.address(), block_bits: BLOCK_BITS, blocks: vec![lease.block()] },
        node: lease.node().into(),
        vni: Vni(lease.vni()),
        mtu: MTU,
        policed: None,
    });
    EdgeTables {
        number: EdgeNumber(1),
        underlay_address: Some(EDGE.into()),
        slow_ifindex: Some(LOOPBACK),
        generation: Generation(1),
        addresses,
        prefixes: vec![(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 0), 56)],
        leases: leases.collect(),
        nodes: nodes.collect(),
        outside: Some(hop(ROUTER, ROUTER_MAC)),
        ..EdgeTables::default()
    }
}

/// The same, with each lease held by a subject of its own that is policed both ways.
pub fn policed(mut tables: EdgeTables) -> EdgeTables {
    for (number, lease) in (1..).zip(&mut tables.leases) {
        lease.policed = Some(PolicedSubject {
            number: SubjectNumber(number),
            egress_bps: Some(POLICED_BPS),
            ingress_bps: Some(POLICED_BPS),
            burst_bytes: 0,
            policing: Policing::BehindNode,
        });
    }
    tables
}

/// The lease of a flow and its packet out; flows follow one another over all leases in no order.
pub fn flow(number: u32, lease_count: u32) -> (Leased, Datagram) {
    let mixed = number.wrapping_mul(0x9e37_79b1) ^ (number >> 15);
    let lease = Leased { number: ((u64::from(mixed) * u64::from(lease_count)) >> 32) as u32 };
    let port = (lease.block() << BLOCK_BITS) | (number as u16 & 0x3ff);
    let remote = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + (number >> 10));
    (lease, Datagram { source: (lease.address(), port), destination: (remote, 443) })
}

/// The answer to a datagram.
pub fn answer(datagram: &Datagram) -> Datagram {
    Datagram { source: datagram.destination, destination: datagram.source }
}
