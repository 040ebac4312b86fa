//! The node and the edge that random frames go through: a workload behind a device, and a process of the host's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use persona_core::ids::{EdgeNumber, Generation, GroupName, LeaseId, SubjectNumber, Vni};
use persona_ctl::dataplane::tables::*;
use persona_tests::model::generate::Places;

use super::world::LOOPBACK;

pub(super) const MAC_OUTSIDE: [u8; 6] = [2, 0, 0, 0, 0, 0xe];
pub(super) const MAC_PEER: [u8; 6] = [2, 0, 0, 0, 0, 0xf];
pub(super) const NODE4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const EDGE4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const WORKLOAD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// The host's own process.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const EGRESS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 100), Ipv4Addr::new(192, 0, 2, 101)];
/// The workload and the process.
const SUBJECTS: [SubjectNumber; 2] = [SubjectNumber(7), SubjectNumber(8)];
const VNIS: [Vni; 2] = [Vni(42), Vni(43)];
const MTU: u16 = 1_400;
const BLOCK_BITS: u8 = 6;

fn ipv6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// The underlay's addresses: node and edge.
pub(super) struct Underlay {
    pub(super) node: IpAddr,
    edge: IpAddr,
}

pub(super) fn underlays() -> [Underlay; 2] {
    [
        Underlay { node: NODE4.into(), edge: EDGE4.into() },
        Underlay { node: ipv6("fd00::1").into(), edge: ipv6("fd00::2").into() },
    ]
}

/// What the subject at this place leases: IPv4 and IPv6.
fn spaces(place: usize) -> [LeaseSpace; 2] {
    let prefix = [ipv6("2001:db8:1:5::"), ipv6("2001:db8:1:6::")][place];
    [
        LeaseSpace::Ports { address: EGRESS[place], block_bits: BLOCK_BITS, blocks: vec![80, 83] },
        LeaseSpace::Prefix { prefix },
    ]
}

fn lease_ids(place: usize) -> [LeaseId; 2] {
    [LeaseId(9 + 2 * place as u64), LeaseId(10 + 2 * place as u64)]
}

fn leases(place: usize) -> impl Iterator<Item = LeaseEntry> {
    lease_ids(place).into_iter().zip(spaces(place)).map(move |(id, space)| LeaseEntry {
        id,
        subject: SUBJECTS[place],
        vni: VNIS[place],
        space,
        group: group(),
        mtu: MTU,
        generation: Generation(3),
        configured: false,
    })
}

fn group() -> GroupName {
    "frankfurt".parse().unwrap()
}

/// The persona of the subject at this place; they differ in what can differ.
fn subject(place: usize) -> SubjectEntry {
    let [lease, lease6] = lease_ids(place);
    let egress = SubjectEgress {
        vni: VNIS[place],
        mtu: MTU,
        allow: AllowedProtocols { tcp: true, udp: true, icmp: true, other: true },
        dscp: [None, Some(10)][place],
        egress_class: 0,
        lease: Some(lease),
        lease6: Some(lease6),
        filtering: [Filtering::EndpointIndependent, Filtering::AddressAndPortDependent][place],
        bypass: vec![],
    };
    SubjectEntry { number: SUBJECTS[place], network: Some(egress) }
}

/// A node whose processes in the control group are a subject.
pub(super) fn node_tables(underlay: &Underlay, cgroup: u64) -> NodeTables {
    NodeTables {
        underlay_address: Some(underlay.node),
        subjects: vec![subject(0), subject(1)],
        devices: vec![DeviceEntry {
            ifindex: LOOPBACK,
            subject: Some(SUBJECTS[0]),
            address: Some(WORKLOAD),
            prefix6: Some((ipv6("fd01:0:0:1::"), 64)),
            vlan: None,
        }],
        cgroups: vec![CgroupEntry { id: cgroup, subject: SUBJECTS[1] }],
        leases: leases(0).chain(leases(1)).collect(),
        edges: vec![EdgeEntry {
            number: EdgeNumber(1),
            address: underlay.edge,
            ifindex: LOOPBACK,
            next_hop: underlay.edge,
        }],
        groups: vec![GroupTable { group: group(), rows: vec![(EdgeNumber(1), EdgeNumber(0)); 65_537] }],
        bypass: vec![(Ipv4Addr::new(10, 1, 0, 0).into(), 24), (ipv6("fd01:0:0:1::").into(), 64)],
        managed: vec![(Ipv4Addr::new(10, 1, 0, 0).into(), 24), (ipv6("fd01:0:0:1::").into(), 64)],
        ..NodeTables::default()
    }
}

pub(super) fn edge_tables(underlay: &Underlay) -> EdgeTables {
    let hop = |address: IpAddr| NextHopEntry {
        ifindex: LOOPBACK,
        address,
        source_mac: MAC_OUTSIDE,
        destination_mac: Some(MAC_PEER),
    };
    let leases = |place: usize| {
        let (node, vni) = (underlay.node, VNIS[place]);
        spaces(place).map(move |space| EdgeLeaseEntry { space, node, vni, mtu: MTU })
    };
    EdgeTables {
        number: EdgeNumber(1),
        underlay_address: Some(underlay.edge),
        generation: Generation(3),
        addresses: EGRESS.map(|address| EgressAddressEntry { address, block_bits: BLOCK_BITS }).to_vec(),
        prefixes: vec![(ipv6("2001:db8:1::"), 56)],
        leases: leases(0).into_iter().chain(leases(1)).collect(),
        nodes: vec![NodeEntry { address: underlay.node, next_hop: hop(underlay.node) }],
        outside: Some(hop(Ipv4Addr::new(198, 51, 100, 1).into())),
        outside6: Some(hop(ipv6("2001:db8:ffff::1").into())),
        ..EdgeTables::default()
    }
}

/// Whom the workload's frames are about.
pub(super) fn workload_places() -> Places {
    Places {
        sources: vec![
            WORKLOAD.into(),
            WORKLOAD.into(),
            WORKLOAD.into(),
            ipv6("fd01:0:0:1::2").into(),
            ipv6("fd01:0:0:1:ffff::3").into(),
            ipv6("fd01:0:0:2::3").into(),
            Ipv4Addr::new(10, 1, 0, 3).into(),
        ],
        destinations: destinations(),
        port_count: 200,
    }
}

/// Whom the host's frames are about.
pub(super) fn host_places() -> Places {
    let sources = vec![HOST.into(), HOST.into(), ipv6("fd09::1").into()];
    Places { sources, destinations: destinations(), port_count: 200 }
}

fn destinations() -> Vec<IpAddr> {
    vec![
        Ipv4Addr::new(203, 0, 113, 5).into(),
        Ipv4Addr::new(203, 0, 113, 6).into(),
        Ipv4Addr::new(203, 0, 113, 6).into(),
        Ipv4Addr::new(10, 1, 0, 9).into(),
        Ipv4Addr::new(224, 0, 0, 251).into(),
        ipv6("2001:db8:aaaa::5").into(),
        ipv6("2001:db8:aaaa::6").into(),
        ipv6("fd01:0:0:1::9").into(),
        ipv6("ff02::1").into(),
    ]
}
