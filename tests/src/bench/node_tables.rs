//! Tables of a node whose subjects hold as many ports as wanted, and flows of theirs.

use std::net::Ipv4Addr;

use anyhow::Result;
use persona_core::ids::{EdgeNumber, Generation, GroupName, LeaseId, SubjectNumber, Vni};
use persona_ctl::dataplane::tables::*;

use super::packets::{Datagram, Tunnel};

/// The node's address on the underlay.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The only edge, on-link.
pub const EDGE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Its hardware address.
pub const EDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// log2 of the ports in a block.
const BLOCK_BITS: u8 = 10;
/// Blocks of a subject's lease: half of the ports of an address.
const BLOCKS_PER_LEASE: u16 = 32;
/// Ports of a lease.
const PORTS_PER_LEASE: u32 = (BLOCKS_PER_LEASE as u32) << BLOCK_BITS;
/// The edge's lease table, as far as the leases want it.
const GENERATION: Generation = Generation(3);

/// A subject, by number: behind a device of its own, under a persona of its own.
#[derive(Debug, Clone, Copy)]
pub struct Worker(pub u32);

impl Worker {
    /// Its address.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 9, 0, 1).to_bits() + self.0)
    }

    /// Its egress address.
    pub fn egress(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(Ipv4Addr::new(100, 64, 0, 1).to_bits() + self.0)
    }

    /// The tunnel that its packets leave in.
    pub fn tunnel(self) -> Tunnel {
        Tunnel { source: NODE, destination: EDGE, vni: self.vni() }
    }

    fn vni(self) -> u32 {
        1 + self.0
    }

    /// Its number as a subject.
    pub fn subject(self) -> SubjectNumber {
        SubjectNumber(7 + self.0)
    }

    fn lease(self) -> LeaseId {
        LeaseId(9 + u64::from(self.0))
    }
}

/// Everything for workers behind these devices, each with so many blocks.
pub fn tables(devices: &[u32], blocks_per_lease: u16, uplink: u32) -> Result<NodeTables> {
    let group: GroupName = "frankfurt".parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let workers = || (0..devices.len() as u32).map(Worker);
    let subject = |worker: Worker| SubjectEntry {
        number: worker.subject(),
        network: Some(SubjectEgress {
            vni: Vni(worker.vni()),
            mtu: 1400,
            allow: AllowedProtocols { tcp: true, udp: true, icmp: true, other: false },
            dscp: None,
            egress_class: 0,
            lease: Some(worker.lease()),
            lease6: None,
            filtering: Filtering::default(),
            bypass: vec![],
            normalise: Normalisation::default(),
            impair: Impairment::default(),
        }),
        firewall: Vec::new(),
    };
    let lease = |worker: Worker| LeaseEntry {
        id: worker.lease(),
        subject: worker.subject(),
        vni: Vni(worker.vni()),
        space: LeaseSpace::Ports {
            address: worker.egress(),
            block_bits: BLOCK_BITS,
            blocks: (1..=blocks_per_lease).collect(),
        },
        group: group.clone(),
        mtu: 1400,
        generation: GENERATION,
        configured: false,
    };
    let device = |(worker, ifindex): (Worker, &u32)| DeviceEntry {
        ifindex: *ifindex,
        subject: Some(worker.subject()),
        address: Some(worker.address()),
        prefix6: None,
        vlan: None,
    };
    Ok(NodeTables {
        underlay_address: Some(NODE.into()),
        subjects: workers().map(subject).collect(),
        devices: workers().zip(devices).map(device).collect(),
        leases: workers().map(lease).collect(),
        edges: vec![EdgeEntry { number: EdgeNumber(1), address: EDGE.into(), ifindex: uplink, next_hop: EDGE.into() }],
        groups: vec![GroupTable { group: group.clone(), rows: vec![(EdgeNumber(1), EdgeNumber(0)); 65_537] }],
        bypass: vec![(Ipv4Addr::new(10, 0, 0, 0).into(), 8)],
        ..NodeTables::default()
    })
}

/// Blocks of a lease that is as large as the benchmark wants it.
pub const WHOLE_LEASE: u16 = BLOCKS_PER_LEASE;

/// What says that the edge is there.
pub const LIVENESS: (EdgeNumber, Generation) = (EdgeNumber(1), GENERATION);

/// A flow of a worker: from every port of its lease in turn, then from every port again to another remote.
pub fn flow(worker: Worker, number: u32) -> Datagram {
    let port = (1024 + number % PORTS_PER_LEASE) as u16;
    let remote = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + number / PORTS_PER_LEASE);
    Datagram { source: (worker.address(), port), destination: (remote, 443) }
}
