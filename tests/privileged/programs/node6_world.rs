//! A node whose workload has both families, over an underlay of either.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use persona_common::addr::address6;
use persona_common::flow::{entropy_port, flow_hash};
use persona_core::ids::{EdgeNumber, Generation, GroupName, LeaseId, SubjectNumber, Vni};
use persona_ctl::dataplane::NodeDataplane;
use persona_ctl::dataplane::tables::*;

use super::clock::Clock;
use super::frames::ethernet;
use super::frames6::{Ip6, kind_of, tunnel};
use super::kept;
use super::run::{Facts, Outcome, TC_DROP, new_drops, run_tc};
use super::world::{LOOPBACK, is_privileged};

pub(super) const VNI: u32 = 42;
pub(super) const MTU: u16 = 1400;
pub(super) const SUBJECT: SubjectNumber = SubjectNumber(7);

pub(super) fn v6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub(super) fn workload6() -> Ipv6Addr {
    v6("fd00:1::2")
}

pub(super) fn server6() -> Ipv6Addr {
    v6("2001:db8:ffff::5")
}

/// The leased prefix.
pub(super) fn prefix6() -> Ipv6Addr {
    v6("2001:db8:0:77::")
}

/// What the workload's address becomes. The sums of the prefixes are 0xfd00 + 1 = 0xfd01 and 0x2001 + 0xdb8 + 0x77 =
/// 0x2e30; 0xfd01 - 0x2e30 = 0xced1 is added to the first word of the identifier.
pub(super) fn leased6() -> Ipv6Addr {
    v6("2001:db8:0:77:ced1::2")
}

/// The ends of the tunnel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Underlay {
    pub(super) node: IpAddr,
    pub(super) edge: IpAddr,
}

pub(super) fn underlays() -> [Underlay; 2] {
    let over4 = Underlay { node: Ipv4Addr::new(10, 0, 0, 1).into(), edge: Ipv4Addr::new(10, 0, 0, 2).into() };
    [over4, Underlay { node: v6("fd00:9::1").into(), edge: v6("fd00:9::2").into() }]
}

pub(super) fn over4() -> Underlay {
    underlays()[0]
}

pub(super) fn lease(id: u64, space: LeaseSpace) -> LeaseEntry {
    LeaseEntry {
        id: LeaseId(id),
        subject: SUBJECT,
        vni: Vni(VNI),
        space,
        group: group(),
        mtu: MTU,
        generation: Generation(3),
        configured: false,
    }
}

fn group() -> GroupName {
    "frankfurt".parse().unwrap()
}

pub(super) fn tables(underlay: Underlay) -> NodeTables {
    let egress = SubjectEgress {
        vni: Vni(VNI),
        mtu: MTU,
        allow: AllowedProtocols { tcp: true, udp: true, icmp: true, other: false },
        dscp: None,
        egress_class: 0,
        lease: None,
        lease6: Some(LeaseId(9)),
        filtering: Filtering::EndpointIndependent,
        bypass: vec![],
        normalise: Normalisation::default(),
        impair: Impairment::default(),
    };
    NodeTables {
        underlay_address: Some(underlay.node),
        slow_ifindex: None,
        subjects: vec![SubjectEntry { number: SUBJECT, network: Some(egress), firewall: Vec::new() }],
        devices: vec![DeviceEntry {
            ifindex: LOOPBACK,
            subject: Some(SUBJECT),
            address: Some(Ipv4Addr::new(10, 1, 0, 2)),
            prefix6: Some((workload6(), 128)),
            vlan: None,
        }],
        cgroups: vec![],
        sources: vec![],
        leases: vec![lease(9, LeaseSpace::Prefix { prefix: prefix6() })],
        edges: vec![EdgeEntry {
            number: EdgeNumber(1),
            address: underlay.edge,
            ifindex: LOOPBACK,
            next_hop: underlay.edge,
        }],
        groups: vec![GroupTable { group: group(), rows: vec![(EdgeNumber(1), EdgeNumber(0)); 65_537] }],
        planned: vec![],
        bypass: vec![(v6("fd00:1::").into(), 64)],
        managed: vec![],
        wire: Default::default(),
    }
}

/// The network section of the one subject.
pub(super) fn network(tables: &mut NodeTables) -> &mut SubjectEgress {
    tables.subjects[0].network.as_mut().unwrap()
}

/// Runs a test on a node in a namespace of its own.
pub(super) fn with_node(tables: &NodeTables, test: impl FnOnce(&mut NodeDataplane) + Send) {
    with_adopting_node(tables, Duration::ZERO, |node, _| test(node));
}

/// The same on one that adopts connections from before for a time; the test may let time pass for the programs.
pub(super) fn with_adopting_node(
    tables: &NodeTables,
    adopt: Duration,
    test: impl FnOnce(&mut NodeDataplane, &dyn Fn(u32)) + Send,
) {
    if !is_privileged() {
        return;
    }
    kept::with_node(adopt, |mut node, world| {
        node.apply(tables).unwrap();
        node.set_edge_liveness(EdgeNumber(1), true, Generation(3)).unwrap();
        let clock = Clock::new(&world.bpffs());
        test(&mut node, &|secs| clock.advance(secs));
        node
    });
}

/// From the workload.
pub(super) fn out(node: &NodeDataplane, packet: &[u8]) -> Outcome {
    run_tc(node.programs(), "from_workload", &ethernet(kind_of(packet), packet), Facts::default())
}

/// From the edge, in a tunnel.
pub(super) fn back(node: &NodeDataplane, underlay: Underlay, packet: &[u8]) -> Outcome {
    let outer = tunnel(underlay.edge, underlay.node, 50_000, VNI, packet);
    run_tc(node.programs(), "from_edge", &ethernet(kind_of(&outer), &outer), Facts::default())
}

pub(super) fn from_workload() -> Ip6 {
    Ip6::new(workload6(), server6())
}

/// The same one hop on, from the lease.
pub(super) fn from_lease() -> Ip6 {
    Ip6 { hop_limit: 63, ..Ip6::new(leased6(), server6()) }
}

/// Hash of the tunnel of an IPv6 packet.
pub(super) fn hash6(source: Ipv6Addr, destination: Ipv6Addr, ports: u32, protocol: u8) -> u32 {
    let fold = |address: Ipv6Addr| {
        let words = address6(address.octets());
        words[0] ^ words[1].rotate_left(7) ^ words[2].rotate_left(13) ^ words[3]
    };
    flow_hash(fold(source), fold(destination), ports, protocol)
}

/// A tunnel frame to the edge around a packet of a flow.
pub(super) fn tunnelled(underlay: Underlay, local: u16, remote: u16, protocol: u8, inner: &[u8]) -> Vec<u8> {
    let ports = u32::from(local) << 16 | u32::from(remote);
    let source = Ipv6Addr::from(<[u8; 16]>::try_from(&inner[8..24]).unwrap());
    let destination = Ipv6Addr::from(<[u8; 16]>::try_from(&inner[24..40]).unwrap());
    tunnelled_by(underlay, hash6(source, destination, ports, protocol), inner)
}

/// A tunnel frame to the edge by its hash.
pub(super) fn tunnelled_by(underlay: Underlay, hash: u32, inner: &[u8]) -> Vec<u8> {
    let outer = tunnel(underlay.node, underlay.edge, entropy_port(hash), VNI, inner);
    ethernet(kind_of(&outer), &outer)
}

/// Runs a packet of the workload that must be dropped for a reason, and for no other.
pub(super) fn refused(node: &NodeDataplane, reason: &str, run: impl FnOnce() -> Outcome) {
    let before = node.counters().unwrap().drops;
    assert_eq!(run().verdict, TC_DROP, "{reason}");
    assert_eq!(new_drops(&before, &node.counters().unwrap().drops), [(reason.to_owned(), 1)], "{reason}");
}

/// Plays a packet whose sender is told until it is told no more, and checks how often it was.
pub(super) fn told_at_a_bounded_rate(node: &NodeDataplane, run: impl Fn() -> Outcome) {
    told_until_dropped(|| node.counters().unwrap().drops, || run().verdict == TC_DROP);
}

/// The same, whoever tells.
pub(super) fn told_until_dropped(drops: impl Fn() -> BTreeMap<String, u64>, is_dropped: impl Fn() -> bool) {
    const TRY_COUNT_MAX: u32 = 100_000;
    // Whoever was told before: the bucket is full again after a token per millisecond.
    std::thread::sleep(Duration::from_millis(200));
    let (before, started) = (drops(), Instant::now());
    let (mut told, mut refused) = (0u128, 0u64);
    for _ in 0..TRY_COUNT_MAX {
        match is_dropped() {
            true => refused += 1,
            false => told += 1,
        }
        if refused == 50 {
            break;
        }
    }
    // A burst and a token per millisecond, on each CPU that the test may have run on; the coarse clock may be a tick late.
    let cpu_count = std::thread::available_parallelism().unwrap().get() as u128;
    let limit = cpu_count * (100 + started.elapsed().as_millis() + 10);
    assert!(told >= 100 && told <= limit, "{told} told, {refused} not, of at most {limit}");
    let drops = new_drops(&before, &drops());
    assert!(drops.contains(&("icmp-rate".to_owned(), 50)), "{drops:?}");
}
