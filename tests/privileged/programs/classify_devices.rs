//! Who sent a packet: devices, shared devices, VLAN tags, configured leases.

use std::net::{IpAddr, Ipv4Addr};

use persona_common::addr::address_be;
use persona_common::flow::{entropy_port, flow_hash};
use persona_core::ids::{LeaseId, SubjectNumber};
use persona_ctl::dataplane::NodeDataplane;
use persona_ctl::dataplane::tables::*;

use super::frames::{Ip, MAC_A, MAC_B, ethernet};
use super::frames6::{Ip6, UDP, kind_of, tunnel};
use super::nat_frames::fragment;
use super::node6_world::*;
use super::run::{Facts, Outcome, TC_NEXT, TC_REDIRECT, run_tc};
use super::world::LOOPBACK;

const SYN: u8 = 2;
const ACK: u8 = 16;
const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const EGRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

/// A frame with a tag.
fn tagged(kind: u16, tag: u16, packet: &[u8]) -> Vec<u8> {
    [&MAC_B[..], &MAC_A, &kind.to_be_bytes(), &tag.to_be_bytes(), &kind_of(packet).to_be_bytes(), packet].concat()
}

fn run(node: &NodeDataplane, frame: &[u8]) -> Outcome {
    run_tc(node.programs(), "from_workload", frame, Facts::default())
}

#[test]
fn a_tag_must_be_the_one_that_the_device_names() {
    let packet = from_workload().udp(4000, 53, b"x");
    let inner = from_lease().udp(4000, 53, b"x");
    let expected = tunnelled(over4(), 4000, 53, UDP, &inner);
    with_node(&tables(over4()), |node| {
        refused(node, "vlan", || run(node, &tagged(0x8100, 5, &packet)));
        refused(node, "vlan", || run(node, &tagged(0x88a8, 5, &packet)));
        let priority = run(node, &tagged(0x8100, 0xe000, &packet));
        assert_eq!(priority.bytes, expected, "a priority is no VLAN: {:?}", node.counters().unwrap().drops);
    });
    let mut vlan = tables(over4());
    for (protocol, kind, other) in [(VlanProtocol::Service, 0x88a8, 0x8100), (VlanProtocol::Customer, 0x8100, 0x88a8)] {
        vlan.devices[0].vlan = Some(VlanTag { id: 5, protocol });
        with_node(&vlan, |node| {
            let outcome = run(node, &tagged(kind, 0x6005, &packet));
            assert_eq!(outcome.bytes, expected, "{:?}", node.counters().unwrap().drops);
            refused(node, "vlan", || run(node, &tagged(other, 5, &packet)));
        });
    }
    with_node(&vlan, |node| {
        refused(node, "vlan", || run(node, &ethernet(0x86dd, &packet)));
        refused(node, "vlan", || run(node, &tagged(0x8100, 6, &packet)));
        let twice = [&MAC_B[..], &MAC_A, &[0x88, 0xa8, 0, 5], &tagged(0x8100, 5, &packet)[12..]].concat();
        refused(node, "vlan", || run(node, &twice));
        // The test run shows a tag in the metadata as no bytes.
        let near = Ip6::new(workload6(), v6("fd00:1::1")).udp(1, 2, b"near");
        let outcome = run(node, &tagged(0x8100, 5, &near));
        assert_eq!((outcome.verdict, outcome.bytes), (TC_NEXT, ethernet(0x86dd, &near)));
    });
}

fn shared_tables() -> NodeTables {
    let mut tables = tables(over4());
    tables.devices[0] = DeviceEntry { ifindex: LOOPBACK, subject: None, address: None, prefix6: None, vlan: None };
    let other = SubjectNumber(8);
    let mut egress = network(&mut tables).clone();
    egress.lease6 = Some(LeaseId(10));
    tables.subjects.push(SubjectEntry { number: other, network: Some(egress), firewall: Vec::new() });
    let second = LeaseEntry { subject: other, ..lease(10, LeaseSpace::Prefix { prefix: v6("2001:db8:0:78::") }) };
    tables.leases.push(second);
    let source = |text: &str, length, subject| SourceEntry {
        prefix: (text.parse::<IpAddr>().unwrap(), length),
        subject,
        ifindex: LOOPBACK,
    };
    tables.sources = vec![source("fd00:1::", 64, SUBJECT), source("fd00:1::8000", 113, other)];
    tables
}

#[test]
fn a_shared_device_is_told_apart_by_the_longest_source_prefix() {
    with_node(&shared_tables(), |node| {
        let prefix = |source: &str| {
            let outcome = run(node, &ethernet(0x86dd, &Ip6::new(v6(source), server6()).udp(1, 2, b"")));
            assert_eq!(outcome.verdict, TC_REDIRECT, "{source}: {:?}", node.counters().unwrap().drops);
            outcome.bytes[50 + 8..50 + 16].to_vec()
        };
        assert_eq!(prefix("fd00:1::2"), prefix6().octets()[..8]);
        assert_eq!(prefix("fd00:1::8001"), v6("2001:db8:0:78::").octets()[..8]);
        let stranger = Ip6::new(v6("fd00:2::1"), server6()).udp(1, 2, b"");
        refused(node, "source-address", || run(node, &ethernet(0x86dd, &stranger)));
        let counters = node.counters().unwrap().subjects;
        for subject in [SUBJECT, SubjectNumber(8)] {
            let total = counters[&subject];
            assert_eq!((total.traffic.egress_packets, total.opened_flow_count), (1, 1), "{subject:?}");
            assert_eq!(total.dropped_packet_count, 0, "nobody knows whose the stranger's was");
        }
    });
}

#[test]
fn a_configured_prefix_is_steered_and_checked_but_not_rewritten() {
    let mut tables = tables(over4());
    tables.leases[0].configured = true;
    with_node(&tables, |node| {
        let own = v6("2001:db8:0:77::1234");
        let packet = Ip6::new(own, server6()).udp(4000, 53, b"mine");
        let inner = Ip6 { hop_limit: 63, ..Ip6::new(own, server6()) }.udp(4000, 53, b"mine");
        let outcome = out(node, &packet);
        assert_eq!(outcome.bytes, tunnelled(over4(), 4000, 53, UDP, &inner), "{:?}", node.counters().unwrap().drops);
        let reply = Ip6::new(server6(), own).udp(53, 4000, b"yours");
        let seen = Ip6 { hop_limit: 63, ..Ip6::new(server6(), own) }.udp(53, 4000, b"yours");
        assert_eq!(back(node, over4(), &reply).bytes, ethernet(0x86dd, &seen));
        refused(node, "no-mapping", || back(node, over4(), &Ip6::new(server6(), own).udp(53, 4001, b"")));
        let foreign = Ip6::new(v6("2001:db8:0:78::1"), server6()).udp(1, 2, b"");
        refused(node, "source-address", || out(node, &foreign));
        refused(node, "source-address", || out(node, &from_workload().udp(1, 2, b"")));
        assert!(!node.drained(LeaseId(9)).unwrap(), "a record keeps the lease");
    });
}

pub(super) fn configured_tables() -> NodeTables {
    let mut tables = tables(over4());
    network(&mut tables).lease = Some(LeaseId(11));
    network(&mut tables).allow.other = true;
    let space = LeaseSpace::whole_address(EGRESS);
    tables.leases.push(LeaseEntry { configured: true, ..lease(11, space) });
    tables
}

fn tunnelled4(local: u16, remote: u16, protocol: u8, inner: &[u8]) -> Vec<u8> {
    let ports = u32::from(local) << 16 | u32::from(remote);
    let hash = flow_hash(address_be(EGRESS.octets()), address_be(SERVER.octets()), ports, protocol);
    let Underlay { node, edge } = over4();
    ethernet(0x0800, &tunnel(node, edge, entropy_port(hash), VNI, inner))
}

#[test]
fn a_configured_address_is_steered_and_checked_but_not_rewritten() {
    with_node(&configured_tables(), |node| {
        let from = |protocol| Ip::new(EGRESS, SERVER, protocol);
        let next = |protocol| Ip { ttl: 63, ..from(protocol) };
        for (what, local, remote, protocol, packet, inner) in [
            ("UDP", 4000, 53, 17, from(17).udp(4000, 53, b"x"), next(17).udp(4000, 53, b"x")),
            ("SYN", 80, 443, 6, from(6).tcp(80, 443, SYN, b"", b""), next(6).tcp(80, 443, SYN, b"", b"")),
            ("mid-stream", 80, 444, 6, from(6).tcp(80, 444, ACK, b"", b"x"), next(6).tcp(80, 444, ACK, b"", b"x")),
            ("echo", 9, 0, 1, from(1).icmp(8, 9), next(1).icmp(8, 9)),
            ("GRE", 0, 0, 47, from(47).packet(&[0; 16]), next(47).packet(&[0; 16])),
        ] {
            let outcome = out(node, &packet);
            let drops = node.counters().unwrap().drops;
            assert_eq!(outcome.bytes, tunnelled4(local, remote, protocol, &inner), "{what}: {drops:?}");
        }
        let to = |protocol| Ip::new(SERVER, EGRESS, protocol);
        let seen = |protocol| Ip { ttl: 63, ..to(protocol) };
        for (packet, expected) in [
            (to(17).udp(53, 4000, b"y"), seen(17).udp(53, 4000, b"y")),
            (to(47).packet(&[1; 16]), seen(47).packet(&[1; 16])),
        ] {
            let outcome = back(node, over4(), &packet);
            assert_eq!(outcome.bytes, ethernet(0x0800, &expected), "{:?}", node.counters().unwrap().drops);
        }
        refused(node, "no-mapping", || back(node, over4(), &to(17).udp(53, 4001, b"")));
        refused(node, "source-address", || {
            out(node, &Ip::new(Ipv4Addr::new(192, 0, 2, 101), SERVER, 17).udp(1, 2, b""))
        });
        assert!(!node.drained(LeaseId(11)).unwrap());
    });
}

#[test]
fn answers_of_connections_towards_the_workload_pass_by_and_openings_do_not() {
    with_node(&tables(over4()), |node| {
        let towards = |packet: &[u8]| {
            let frame = ethernet(kind_of(packet), packet);
            let outcome = run_tc(node.programs(), "to_workload", &frame, Facts::default());
            assert_eq!((outcome.verdict, outcome.bytes), (TC_NEXT, frame));
        };
        let visitor = v6("2001:db8:aaaa::1");
        let to = Ip6::new(visitor, workload6());
        let from = Ip6::new(workload6(), visitor);
        towards(&to.tcp(1000, 80, SYN, b"", b""));
        towards(&to.udp(1000, 53, b"question"));
        for (what, packet) in [
            ("SYN-ACK", from.tcp(80, 1000, SYN | ACK, b"", b"")),
            ("data", from.tcp(80, 1000, ACK, b"", b"data")),
            ("UDP", from.udp(53, 1000, b"answer")),
        ] {
            assert_eq!(out(node, &packet).verdict, TC_NEXT, "{what}: {:?}", node.counters().unwrap().drops);
        }
        for (what, packet) in [
            ("SYN of its own", from.tcp(80, 1000, SYN, b"", b"")),
            ("another port", from.udp(54, 1000, b"")),
            ("another remote", Ip6::new(workload6(), server6()).udp(53, 1000, b"")),
        ] {
            assert_eq!(out(node, &packet).verdict, TC_REDIRECT, "{what}");
        }
        // A flow of the persona's cannot be made to leave bare by whoever sends first.
        out(node, &from.udp(60, 1000, b"mine"));
        towards(&to.udp(1000, 60, b"bait"));
        assert_eq!(out(node, &from.udp(60, 1000, b"still mine")).verdict, TC_REDIRECT);
        // What the persona let in is not noted.
        let marked = Facts { mark: persona_common::PERSONA_MARK, ..Facts::default() };
        let inward = ethernet(0x86dd, &to.udp(1000, 70, b"through the tunnel"));
        run_tc(node.programs(), "to_workload", &inward, marked);
        assert_eq!(out(node, &from.udp(70, 1000, b"")).verdict, TC_REDIRECT);
    });
}

#[test]
fn ipv4_answers_of_connections_towards_the_workload_pass_by() {
    let mut tables = tables(over4());
    network(&mut tables).lease = Some(LeaseId(12));
    let space = LeaseSpace::Ports { address: EGRESS, block_bits: 10, blocks: vec![5] };
    tables.leases.push(lease(12, space));
    with_node(&tables, |node| {
        let workload = Ipv4Addr::new(10, 1, 0, 2);
        let frame = ethernet(0x0800, &Ip::new(SERVER, workload, 6).tcp(1000, 80, SYN, b"", b""));
        assert_eq!(run_tc(node.programs(), "to_workload", &frame, Facts::default()).verdict, TC_NEXT);
        let from = Ip::new(workload, SERVER, 6);
        assert_eq!(out(node, &from.tcp(80, 1000, SYN | ACK, b"", b"")).verdict, TC_NEXT);
        refused(node, "mid-stream", || out(node, &from.tcp(80, 1001, SYN | ACK, b"", b"")));
        assert_eq!(out(node, &from.tcp(80, 1000, SYN, b"", b"")).verdict, TC_REDIRECT);
    });
}

#[test]
fn all_fragments_from_a_configured_address_to_a_bypassed_destination_pass_by() {
    let mut tables = configured_tables();
    network(&mut tables).bypass = vec![(SERVER.into(), 32)];
    with_node(&tables, |node| {
        let whole = Ip::new(EGRESS, SERVER, 17).udp(4000, 53, &[7; 40]);
        for (what, from, to) in [("first", 0, 24), ("later", 24, 48)] {
            let packet = fragment(&whole, 9, from, to);
            let outcome = out(node, &packet);
            assert_eq!(outcome.verdict, TC_NEXT, "{what}: {:?}", node.counters().unwrap().drops);
            assert_eq!(outcome.mark, persona_common::BYPASS_MARK, "{what}");
        }
    });
}
