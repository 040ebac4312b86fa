//! `from_workload`, `from_edge` and `guard` on built packets.

use std::net::Ipv4Addr;

use persona_common::addr::address_be;
use persona_common::flow::{entropy_port, flow_hash};
use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_core::ids::{EdgeNumber, Generation, LeaseId, SubjectNumber, Vni};
use persona_ctl::dataplane::tables::*;
use persona_ctl::dataplane::{DataplaneError, NodeDataplane, NodeOptions, PacketLogging};

use super::frames::{Ip, MAC_A, MAC_B, checksum, ethernet, geneve};
use super::namespace::Namespace;
use super::node6_world::told_at_a_bounded_rate;
use super::run::{Facts, Outcome, TC_DROP, TC_NEXT, TC_REDIRECT, new_drops, run_tc};
use super::world::{LOOPBACK, World, is_privileged};

pub(super) const WORKLOAD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const EDGE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
pub(super) const EGRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
pub(super) const VNI: u32 = 42;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// An inner port and the external one that it gets: block 5 with the same low bits.
const INNER_PORT: u16 = 40_000;
const OUTER_PORT: u16 = (5 << 10) + (40_000 & 1023);

fn ports(blocks: Vec<u16>) -> LeaseSpace {
    LeaseSpace::Ports { address: EGRESS, block_bits: 10, blocks }
}

pub(super) fn tables() -> NodeTables {
    let subject = SubjectNumber(7);
    let group = "frankfurt".parse::<persona_core::ids::GroupName>().unwrap();
    let egress = SubjectEgress {
        vni: Vni(VNI),
        mtu: 1400,
        allow: AllowedProtocols { tcp: true, udp: true, icmp: true, other: false },
        dscp: None,
        egress_class: 0,
        lease: Some(LeaseId(9)),
        lease6: None,
        filtering: Filtering::default(),
        bypass: vec![],
        normalise: Normalisation::default(),
        impair: Impairment::default(),
    };
    NodeTables {
        underlay_address: Some(NODE.into()),
        slow_ifindex: None,
        subjects: vec![SubjectEntry { number: subject, network: Some(egress), firewall: Vec::new() }],
        devices: vec![DeviceEntry {
            ifindex: LOOPBACK,
            subject: Some(subject),
            address: Some(WORKLOAD),
            prefix6: None,
            vlan: None,
        }],
        cgroups: vec![],
        sources: vec![],
        leases: vec![LeaseEntry {
            id: LeaseId(9),
            subject,
            vni: Vni(VNI),
            space: ports(vec![5]),
            configured: false,
            group: group.clone(),
            mtu: 1400,
            generation: Generation(3),
        }],
        edges: vec![EdgeEntry {
            number: EdgeNumber(1),
            address: EDGE.into(),
            ifindex: LOOPBACK,
            next_hop: EDGE.into(),
        }],
        groups: vec![GroupTable { group, rows: vec![(EdgeNumber(1), EdgeNumber(0)); 65_537] }],
        planned: vec![],
        bypass: vec![(Ipv4Addr::new(10, 1, 0, 0).into(), 24)],
        managed: vec![(Ipv4Addr::new(10, 1, 0, 0).into(), 24)],
        wire: Default::default(),
    }
}

/// Runs a test on a node in a namespace of its own.
fn with_node(test: impl FnOnce(&mut NodeDataplane) + Send) {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("packets");
    let world = World::new();
    namespace.enter(|| {
        test(&mut open_node(&world));
    });
}

/// A node with one workload, one lease and one living edge.
pub(super) fn open_node(world: &World) -> NodeDataplane {
    open_node_with(world, PacketLogging::Off)
}

/// As [`open_node`], with or without the programs' log.
pub(super) fn open_node_with(world: &World, logging: PacketLogging) -> NodeDataplane {
    let mut node = NodeDataplane::open(&NodeOptions { logging, ..world.node_options() }).unwrap();
    node.apply(&tables()).unwrap();
    node.set_edge_liveness(EdgeNumber(1), true, Generation(3)).unwrap();
    node
}

fn out(protocol: u8) -> Ip {
    Ip::new(WORKLOAD, SERVER, protocol)
}

/// The same packet one hop on, from the lease.
fn leased(protocol: u8) -> Ip {
    Ip { ttl: 63, ..Ip::new(EGRESS, SERVER, protocol) }
}

fn run(node: &NodeDataplane, packet: &[u8]) -> Outcome {
    run_tc(node.programs(), "from_workload", &ethernet(0x0800, packet), Facts::default())
}

fn mss(value: u16) -> [u8; 4] {
    [2, 4, (value >> 8) as u8, value as u8]
}

#[test]
fn packets_of_a_workload_leave_rewritten_in_a_tunnel() {
    with_node(|node| {
        let odd = |value| [&[1u8][..], &mss(value), &[1, 1, 1]].concat();
        let cases = [
            ("UDP", 17, INNER_PORT, out(17).udp(INNER_PORT, 53, b"odd"), leased(17).udp(OUTER_PORT, 53, b"odd"), 53),
            (
                "UDP without a checksum",
                17,
                INNER_PORT,
                out(17).udp_unsummed(INNER_PORT, 54, b"x"),
                leased(17).udp_unsummed(OUTER_PORT, 54, b"x"),
                54,
            ),
            (
                "SYN, MSS clamped",
                6,
                INNER_PORT,
                out(6).tcp(INNER_PORT, 443, SYN, &mss(1460), b""),
                leased(6).tcp(OUTER_PORT, 443, SYN, &mss(1360), b""),
                443,
            ),
            (
                "SYN, MSS at an odd offset",
                6,
                INNER_PORT,
                out(6).tcp(INNER_PORT, 444, SYN, &odd(1460), b""),
                leased(6).tcp(OUTER_PORT, 444, SYN, &odd(1360), b""),
                444,
            ),
            (
                "SYN, MSS low enough",
                6,
                INNER_PORT,
                out(6).tcp(INNER_PORT, 445, SYN, &mss(1000), b""),
                leased(6).tcp(OUTER_PORT, 445, SYN, &mss(1000), b""),
                445,
            ),
            (
                "mid-stream with a record",
                6,
                INNER_PORT,
                out(6).tcp(INNER_PORT, 443, ACK, b"", b"data"),
                leased(6).tcp(OUTER_PORT, 443, ACK, b"", b"data"),
                443,
            ),
            ("echo", 1, INNER_PORT, out(1).icmp(8, INNER_PORT), leased(1).icmp(8, OUTER_PORT), 0),
        ];
        for (what, protocol, _, packet, inner, remote_port) in cases {
            let outcome = run(node, &packet);
            let ports = u32::from(OUTER_PORT) << 16 | u32::from(remote_port as u16);
            let hash = flow_hash(address_be(EGRESS.octets()), address_be(SERVER.octets()), ports, protocol);
            let expected = ethernet(0x0800, &geneve(NODE, EDGE, entropy_port(hash), VNI, &inner));
            assert_eq!(outcome.verdict, TC_REDIRECT, "{what}: {:?}", node.counters().unwrap().drops);
            assert_eq!(outcome.bytes, expected, "{what}");
            assert_eq!(outcome.mark, PERSONA_MARK, "{what}");
        }
    });
}

#[test]
fn what_may_not_leave_is_a_counted_drop() {
    with_node(|node| {
        let with = |mut packet: Vec<u8>, at: usize, value: u8| {
            packet[at] = value;
            packet
        };
        let udp = out(17).udp(1, 2, b"payload");
        let syn = out(6).tcp(1, 2, SYN, &mss(1460), b"");
        for (reason, packet) in [
            ("source-address", Ip::new(Ipv4Addr::new(10, 1, 0, 3), SERVER, 17).udp(1, 2, b"")),
            ("mid-stream", out(6).tcp(5, 6, ACK, b"", b"")),
            ("malformed", with(udp.clone(), 0, 0x44)),
            ("malformed", with(udp.clone(), 0, 0x65)),
            ("malformed", with(udp.clone(), 6, 0x20)),
            ("no-slow-path", with(udp.clone(), 7, 1)),
            ("malformed", with(udp.clone(), 2, 0xff)),
            ("malformed", with(udp.clone(), 3, 19)),
            ("malformed", with(udp.clone(), 24, 0xff)),
            ("malformed", with(udp.clone(), 25, 7)),
            ("malformed", with(syn.clone(), 32, 0x40)),
            ("malformed", with(syn.clone(), 32, 0xf0)),
            ("protocol-without-port", out(47).packet(&[0; 16])),
            ("icmp-type", out(1).icmp(0, 7)),
            ("no-slow-path", Ip { dont_fragment: false, ..out(17) }.udp(1, 2, &[0; 1373])),
        ] {
            let before = node.counters().unwrap().drops;
            assert_eq!(run(node, &packet).verdict, TC_DROP, "{reason}");
            assert_eq!(new_drops(&before, &node.counters().unwrap().drops), [(reason.to_owned(), 1)]);
        }
        for (reason, kind) in [("source-address", 0x86dd), ("ether-type", 0x88cc)] {
            let before = node.counters().unwrap().drops;
            let frame = ethernet(kind, &[0x60; 60]);
            assert_eq!(run_tc(node.programs(), "from_workload", &frame, Facts::default()).verdict, TC_DROP);
            assert_eq!(new_drops(&before, &node.counters().unwrap().drops), [(reason.to_owned(), 1)]);
        }
    });
}

#[test]
fn near_destinations_pass_by_the_persona() {
    with_node(|node| {
        let near = Ipv4Addr::new(10, 1, 0, 77);
        let multicast = Ipv4Addr::new(224, 0, 0, 251);
        for packet in [
            Ip::new(WORKLOAD, near, 17).udp(1, 2, b""),
            Ip::new(WORKLOAD, near, 6).tcp(1, 2, ACK, b"", b""),
            Ip::new(WORKLOAD, multicast, 17).udp(5353, 5353, b""),
            Ip::new(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, 17).udp(68, 67, b""),
        ] {
            let outcome = run(node, &packet);
            assert_eq!((outcome.verdict, outcome.mark), (TC_NEXT, BYPASS_MARK));
            assert_eq!(outcome.bytes, ethernet(0x0800, &packet));
        }
    });
}

#[test]
fn too_big_is_told_to_the_workload() {
    with_node(|node| {
        let packet = out(17).udp(1, 2, &[7; 1373]);
        let outcome = run(node, &packet);
        let mut message = vec![3, 4, 0, 0, 0, 0, 0x05, 0x78];
        message.extend(&packet[..28]);
        let sum = checksum(&message, 0);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let answer = Ip { tos: 0xc0, dont_fragment: false, ..Ip::new(SERVER, WORKLOAD, 1) }.packet(&message);
        let frame = [&MAC_A[..], &MAC_B, &[8, 0], &answer].concat();
        assert_eq!(outcome.verdict, TC_REDIRECT);
        assert_eq!(outcome.bytes, frame);
        assert_eq!(node.counters().unwrap().drops["too-big"], 1);
        let fits = run(node, &out(17).udp(1, 2, &[7; 1372]));
        assert_eq!(fits.bytes.len(), 14 + 36 + 1400, "the largest that fits goes");
    });
}

#[test]
fn segments_are_counted_as_the_packets_they_become() {
    with_node(|node| {
        run(node, &out(6).tcp(INNER_PORT, 80, SYN, b"", b""));
        let packet = out(6).tcp(INNER_PORT, 80, ACK, b"", &[1; 2600]);
        let facts = Facts { gso_size: 1300, gso_segs: 2, ..Facts::default() };
        // A test run makes no GSO type, so the kernel refuses to encapsulate; by then the packet is counted.
        run_tc(node.programs(), "from_workload", &ethernet(0x0800, &packet), facts);
        let traffic = node.counters().unwrap().subjects[&SubjectNumber(7)].traffic;
        assert_eq!((traffic.egress_packets, traffic.egress_bytes), (3, 40 + 2 * 1340));
    });
}

#[test]
fn truncated_frames_never_get_through() {
    with_node(|node| {
        run(node, &out(6).tcp(INNER_PORT, 443, SYN, &mss(1460), b""));
        let whole = ethernet(0x0800, &out(6).tcp(INNER_PORT, 443, SYN, &mss(1460), b"data"));
        let reply = Ip::new(SERVER, EGRESS, 6).tcp(443, OUTER_PORT, SYN | ACK, &mss(1460), b"data");
        let tunnel = ethernet(0x0800, &geneve(EDGE, NODE, 50_000, VNI, &reply));
        for (program, frame) in [("from_workload", whole), ("from_edge", tunnel)] {
            assert_eq!(run_tc(node.programs(), program, &frame, Facts::default()).verdict, TC_REDIRECT);
            // The kernel's test run itself refuses less than an IPv4 header; the edge's XDP tests go lower.
            for length in 34..frame.len() {
                let outcome = run_tc(node.programs(), program, &frame[..length], Facts::default());
                let is_ours = program == "from_workload" || length >= 50;
                let verdict = if is_ours { TC_DROP } else { TC_NEXT };
                assert_eq!(outcome.verdict, verdict, "{program} with {length} bytes");
            }
        }
    });
}

#[test]
fn replies_reach_the_workload_and_strangers_do_not() {
    with_node(|node| {
        run(node, &out(17).udp(INNER_PORT, 99, b"x"));
        run(node, &out(6).tcp(INNER_PORT, 99, SYN, b"", b""));
        run(node, &out(1).icmp(8, INNER_PORT));
        let from = |protocol| Ip { tos: 3, ..Ip::new(SERVER, EGRESS, protocol) };
        let to = |protocol| Ip { ttl: 63, tos: 3, ..Ip::new(SERVER, WORKLOAD, protocol) };
        let udp = from(17).udp(99, OUTER_PORT, b"reply");
        for (inner, expected) in [
            (udp.clone(), to(17).udp(99, INNER_PORT, b"reply")),
            (from(17).udp_unsummed(99, OUTER_PORT, b"r"), to(17).udp_unsummed(99, INNER_PORT, b"r")),
            (
                from(6).tcp(99, OUTER_PORT, SYN | ACK, &mss(1460), b""),
                to(6).tcp(99, INNER_PORT, SYN | ACK, &mss(1360), b""),
            ),
            (from(1).icmp(0, OUTER_PORT), to(1).icmp(0, INNER_PORT)),
        ] {
            let frame = ethernet(0x0800, &geneve(EDGE, NODE, 50_000, VNI, &inner));
            let outcome = run_tc(node.programs(), "from_edge", &frame, Facts::default());
            assert_eq!(outcome.verdict, TC_REDIRECT, "{:?}", node.counters().unwrap().drops);
            assert_eq!(outcome.bytes, ethernet(0x0800, &expected));
        }
        let stranger = Ipv4Addr::new(10, 0, 0, 9);
        for (reason, source, vni, inner) in [
            ("unknown-peer", stranger, VNI, udp.clone()),
            ("vni-mismatch", EDGE, VNI + 1, udp.clone()),
            ("no-mapping", EDGE, VNI, from(17).udp(99, OUTER_PORT + 1, b"")),
            ("unleased", EDGE, VNI, from(17).udp(99, 9000, b"")),
            ("unleased", EDGE, VNI, Ip::new(SERVER, SERVER, 17).udp(99, OUTER_PORT, b"")),
        ] {
            let before = node.counters().unwrap().drops;
            let frame = ethernet(0x0800, &geneve(source, NODE, 50_000, vni, &inner));
            assert_eq!(run_tc(node.programs(), "from_edge", &frame, Facts::default()).verdict, TC_DROP, "{reason}");
            assert_eq!(new_drops(&before, &node.counters().unwrap().drops), [(reason.to_owned(), 1)]);
        }
    });
}

#[test]
fn the_guard_stops_what_nobody_marked() {
    with_node(|node| {
        let packet = ethernet(0x0800, &Ip::new(WORKLOAD, SERVER, 17).udp(1, 2, b""));
        let other = ethernet(0x0800, &Ip::new(SERVER, WORKLOAD, 17).udp(1, 2, b""));
        let forwarded = Facts { ingress_ifindex: 77, ..Facts::default() };
        let from_device = Facts { ingress_ifindex: LOOPBACK, ..Facts::default() };
        for (what, frame, facts, verdict) in [
            ("local", &packet, Facts::default(), TC_NEXT),
            ("managed range", &packet, forwarded, TC_DROP),
            ("other range", &other, forwarded, TC_NEXT),
            ("managed device", &other, from_device, TC_DROP),
            ("IPv6 of a managed device", &ethernet(0x86dd, &[0x60; 60]), from_device, TC_DROP),
            ("tunnel", &packet, Facts { mark: PERSONA_MARK, ..forwarded }, TC_NEXT),
            ("bypass", &packet, Facts { mark: BYPASS_MARK, ..forwarded }, TC_NEXT),
        ] {
            assert_eq!(run_tc(node.programs(), "guard", frame, facts).verdict, verdict, "{what}");
        }
    });
}

#[test]
fn the_guard_over_all_forwarded_stops_both_families() {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("guard");
    let world = World::new();
    namespace.enter(|| {
        let node = world.guarded_node();
        let ipv4 = ethernet(0x0800, &Ip::new(SERVER, WORKLOAD, 17).udp(1, 2, b""));
        let ipv6 = ethernet(0x86dd, &[0x60; 60]);
        let forwarded = Facts { ingress_ifindex: 77, ..Facts::default() };
        for (family, frame) in [("IPv4", &ipv4), ("IPv6", &ipv6)] {
            for (what, facts, verdict) in [
                ("forwarded", forwarded, TC_DROP),
                ("local", Facts::default(), TC_NEXT),
                ("tunnel", Facts { mark: PERSONA_MARK, ..forwarded }, TC_NEXT),
                ("bypass", Facts { mark: BYPASS_MARK, ..forwarded }, TC_NEXT),
            ] {
                assert_eq!(run_tc(node.programs(), "guard", frame, facts).verdict, verdict, "{family}, {what}");
            }
        }
        assert_eq!(node.counters().unwrap().drops["guarded"], 2);
    });
}

#[test]
fn an_edge_that_lags_or_is_dead_gets_nothing() {
    with_node(|node| {
        let packet = out(17).udp(1, 2, b"");
        let mut liveness = node.liveness_writer().unwrap();
        for (alive, generation, verdict) in [(true, 2, TC_DROP), (false, 3, TC_DROP), (true, 4, TC_REDIRECT)] {
            liveness.set(EdgeNumber(1), alive, Generation(generation)).unwrap();
            // What probes said outlives an apply.
            node.apply(&tables()).unwrap();
            assert_eq!(node.edge_liveness(EdgeNumber(1)).unwrap(), Some((alive, Generation(generation))));
            assert_eq!(run(node, &packet).verdict, verdict, "alive {alive}, generation {generation}");
        }
        assert_eq!(node.counters().unwrap().drops["no-edge"], 2);
    });
}

#[test]
fn ports_run_out_without_stealing_and_old_flows_keep_their_lease() {
    with_node(|node| {
        for port in 0..1024u16 {
            assert_eq!(run(node, &out(17).udp(2000 + port * 2, 9, b"")).verdict, TC_REDIRECT, "flow {port}");
        }
        assert_eq!(run(node, &out(17).udp(60_001, 9, b"")).verdict, TC_DROP);
        assert_eq!(node.counters().unwrap().drops["ports-exhausted"], 1);
        let mut switched = tables();
        let second = LeaseEntry { id: LeaseId(10), space: ports(vec![9]), vni: Vni(43), ..switched.leases[0].clone() };
        switched.leases.push(second);
        switched.subjects[0].network.as_mut().unwrap().lease = Some(LeaseId(10));
        node.apply(&switched).unwrap();
        let vni = |outcome: &Outcome| u32::from_be_bytes([0, outcome.bytes[46], outcome.bytes[47], outcome.bytes[48]]);
        assert_eq!(vni(&run(node, &out(17).udp(2000, 9, b""))), 42, "an old flow");
        assert_eq!(vni(&run(node, &out(17).udp(60_001, 9, b""))), 43, "a new flow");
        assert!(!node.drained(LeaseId(9)).unwrap());
        assert_eq!(node.sweep().unwrap().live_flow_count, 1025);
        switched.leases.remove(0);
        node.apply(&switched).unwrap();
        assert!(node.drained(LeaseId(9)).unwrap(), "a lease that is gone is drained");
        assert_eq!(vni(&run(node, &out(17).udp(2000, 9, b""))), 43, "its flows resolve anew");
    });
}

#[test]
fn a_subject_without_a_persona_or_protocol_has_no_way_out() {
    with_node(|node| {
        let packet = out(17).udp(INNER_PORT, 53, b"");
        assert_eq!(run(node, &packet).verdict, TC_REDIRECT);
        let mut denied = tables();
        denied.subjects[0].network.as_mut().unwrap().allow.udp = false;
        let mut bare = tables();
        bare.subjects[0].network = None;
        for (reason, tables, packet) in [
            ("protocol-denied", denied, out(17).udp(9, 53, b"")),
            ("no-persona", bare.clone(), packet),
            ("no-persona", bare, out(17).udp(9, 53, b"")),
        ] {
            node.apply(&tables).unwrap();
            let before = node.counters().unwrap().drops;
            assert_eq!(run(node, &packet).verdict, TC_DROP, "{reason}");
            assert_eq!(new_drops(&before, &node.counters().unwrap().drops), [(reason.to_owned(), 1)]);
        }
    });
}

#[test]
fn tables_that_contradict_themselves_change_nothing() {
    with_node(|node| {
        let mut twice = tables();
        twice.leases.push(LeaseEntry { id: LeaseId(10), ..twice.leases[0].clone() });
        let mut unknown = tables();
        unknown.subjects[0].network.as_mut().unwrap().lease = Some(LeaseId(77));
        let mut low = tables();
        low.leases[0].space = ports(vec![0]);
        for tables in [twice, unknown, low] {
            assert!(matches!(node.apply(&tables), Err(DataplaneError::Invalid(_))));
        }
        assert_eq!(run(node, &out(17).udp(1, 2, b"")).verdict, TC_REDIRECT);
    });
}

#[test]
fn senders_are_told_at_a_bounded_rate() {
    with_node(|node| {
        let expired = Ip { ttl: 1, ..out(17) }.udp(40_000, 53, b"x");
        told_at_a_bounded_rate(node, || run(node, &expired));
    });
}
