//! `edge_inside` and `edge_outside` on built packets, at TC and at XDP: the same packets, the same answers.

use std::net::{IpAddr, Ipv4Addr};

use persona_common::addr::address_be;
use persona_common::flow::{entropy_port, flow_hash};
use persona_common::probe::{Reply, decode_reply, encode_request};
use persona_core::ids::{EdgeNumber, Generation, Vni};
use persona_ctl::dataplane::EdgeDataplane;
use persona_ctl::dataplane::tables::*;

use super::frames::{Ip, MAC_A, MAC_B, checksum, ethernet, geneve};
use super::namespace::Namespace;
use super::run::{
    Facts, Outcome, TC_DROP, TC_NEXT, TC_REDIRECT, XDP_DROP, XDP_PASS, XDP_REDIRECT, new_drops, run_tc, run_xdp,
};
use super::world::{LOOPBACK, World, is_privileged};

const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const EDGE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const EGRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const VNI: u32 = 42;
const PORT: u16 = (5 << 10) + 64;
const OWN_MAC: [u8; 6] = MAC_B;
const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 1, 3];

/// Where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    Tc,
    Xdp,
}

/// What became of a frame, alike for both flavours.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Drop,
    Redirect,
}

impl Flavour {
    const BOTH: [Self; 2] = [Self::Tc, Self::Xdp];

    fn run(self, edge: &EdgeDataplane, side: &str, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let outcome: Outcome = match self {
            Self::Tc => run_tc(edge.programs(), &format!("edge_{side}"), frame, Facts::default()),
            Self::Xdp => run_xdp(edge.programs(), &format!("xdp_{side}"), frame),
        };
        let verdict = match (self, outcome.verdict) {
            (Self::Tc, TC_NEXT) | (Self::Xdp, XDP_PASS) => Verdict::Pass,
            (Self::Tc, TC_DROP) | (Self::Xdp, XDP_DROP) => Verdict::Drop,
            (Self::Tc, TC_REDIRECT) | (Self::Xdp, XDP_REDIRECT) => Verdict::Redirect,
            (_, other) => panic!("{self:?} gave {other}"),
        };
        (verdict, outcome.bytes)
    }

    /// The frame as it leaves: at TC the kernel writes the hardware addresses later.
    fn sent(self, destination: [u8; 6], packet: &[u8]) -> Vec<u8> {
        match self {
            Self::Tc => ethernet(0x0800, packet),
            Self::Xdp => [&destination[..], &OWN_MAC, &[8, 0], packet].concat(),
        }
    }
}

fn ports(blocks: &[u16]) -> LeaseSpace {
    LeaseSpace::Ports { address: EGRESS, block_bits: 10, blocks: blocks.to_vec() }
}

fn tables() -> EdgeTables {
    let hop = |address, mac| NextHopEntry {
        ifindex: LOOPBACK,
        address: IpAddr::V4(address),
        source_mac: OWN_MAC,
        destination_mac: Some(mac),
    };
    EdgeTables {
        number: EdgeNumber(1),
        underlay_address: Some(EDGE.into()),
        generation: Generation(11),
        addresses: vec![EgressAddressEntry { address: EGRESS, block_bits: 10 }],
        leases: vec![EdgeLeaseEntry { space: ports(&[5]), node: NODE.into(), vni: Vni(VNI), mtu: 1400 }],
        nodes: vec![NodeEntry { address: NODE.into(), next_hop: hop(NODE, NODE_MAC) }],
        outside: Some(hop(ROUTER, ROUTER_MAC)),
        ..EdgeTables::default()
    }
}

fn with_edge(test: impl FnOnce(&mut EdgeDataplane) + Send) {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("packets");
    let world = World::new();
    namespace.enter(|| {
        let mut edge = world.edge();
        edge.apply(&tables()).unwrap();
        edge.set_outside_alive(true).unwrap();
        test(&mut edge);
    });
}

fn tunnel(source: Ipv4Addr, vni: u32, inner: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &geneve(source, EDGE, 50_000, vni, inner))
}

#[test]
fn packets_of_a_node_go_out_bare() {
    with_edge(|edge| {
        let from = |protocol| Ip { tos: 2, ..Ip::new(EGRESS, SERVER, protocol) };
        let next = |protocol| Ip { ttl: 63, ..from(protocol) };
        for flavour in Flavour::BOTH {
            for (inner, expected) in [
                (from(17).udp(PORT, 53, b"odd"), next(17).udp(PORT, 53, b"odd")),
                (from(6).tcp(PORT, 443, 16, b"", b"data"), next(6).tcp(PORT, 443, 16, b"", b"data")),
                (from(1).icmp(8, PORT), next(1).icmp(8, PORT)),
            ] {
                let (verdict, bytes) = flavour.run(edge, "inside", &tunnel(NODE, VNI, &inner));
                assert_eq!(verdict, Verdict::Redirect, "{flavour:?} {:?}", edge.counters().unwrap().drops);
                assert_eq!(bytes, flavour.sent(ROUTER_MAC, &expected), "{flavour:?}");
            }
        }
        assert_eq!(edge.counters().unwrap().personas[&Vni(VNI)].egress_packets, 6);
    });
}

#[test]
fn what_a_node_may_not_send_is_a_counted_drop() {
    with_edge(|edge| {
        let udp = Ip::new(EGRESS, SERVER, 17).udp(PORT, 53, b"x");
        let with = |mut frame: Vec<u8>, at: usize, value: u8| {
            frame[at] = value;
            frame
        };
        let cases = [
            ("unknown-peer", tunnel(Ipv4Addr::new(10, 0, 0, 9), VNI, &udp)),
            ("unleased", tunnel(NODE, VNI, &Ip::new(EGRESS, SERVER, 17).udp(9000, 53, b""))),
            ("unleased", tunnel(NODE, VNI, &Ip::new(SERVER, SERVER, 17).udp(PORT, 53, b""))),
            ("vni-mismatch", tunnel(NODE, VNI + 1, &udp)),
            ("ttl-expired", tunnel(NODE, VNI, &Ip { ttl: 1, ..Ip::new(EGRESS, SERVER, 17) }.udp(PORT, 53, b""))),
            ("geneve", with(tunnel(NODE, VNI, &udp), 42, 0x40)),
            ("geneve", with(tunnel(NODE, VNI, &udp), 43, 0x40)),
            ("geneve", with(tunnel(NODE, VNI, &udp), 44, 0x65)),
            ("malformed", with(tunnel(NODE, VNI, &udp), 39, 9)),
            ("malformed", with(tunnel(NODE, VNI, &udp), 52, 0xff)),
            ("malformed", with(tunnel(NODE, VNI, &udp), 53, 10)),
        ];
        for flavour in Flavour::BOTH {
            for (reason, frame) in &cases {
                let before = edge.counters().unwrap().drops;
                assert_eq!(flavour.run(edge, "inside", frame).0, Verdict::Drop, "{flavour:?} {reason}");
                let drops = new_drops(&before, &edge.counters().unwrap().drops);
                assert_eq!(drops, [((*reason).to_owned(), 1)], "{flavour:?}");
            }
        }
    });
}

#[test]
fn probes_are_reflected_while_the_outside_answers() {
    with_edge(|edge| {
        let request = ethernet(0x0800, &Ip::new(NODE, EDGE, 17).udp_unsummed(40_000, 6081, &encode_request(7, 99)));
        for flavour in Flavour::BOTH {
            edge.set_outside_alive(true).unwrap();
            let (verdict, bytes) = flavour.run(edge, "inside", &request);
            assert_eq!(verdict, Verdict::Redirect, "{flavour:?}");
            let mut payload = encode_request(7, 99);
            payload[13] = 2;
            payload[39] = 11;
            assert_eq!(decode_reply(&payload), Some(Reply { sequence: 7, sent_ns: 99, generation: 11 }));
            let reply = Ip::new(EDGE, NODE, 17).udp_unsummed(6081, 40_000, &payload);
            assert_eq!(bytes, [&MAC_A[..], &MAC_B, &[8, 0], &reply].concat(), "{flavour:?}");
            edge.set_outside_alive(false).unwrap();
            assert_eq!(flavour.run(edge, "inside", &request).0, Verdict::Drop, "{flavour:?}");
        }
        assert_eq!(edge.counters().unwrap().drops["probe-silenced"], 2);
    });
}

#[test]
fn packets_to_a_lease_go_to_its_node() {
    with_edge(|edge| {
        let to = |protocol| Ip { tos: 1, ..Ip::new(SERVER, EGRESS, protocol) };
        let next = |protocol| Ip { ttl: 63, ..to(protocol) };
        for flavour in Flavour::BOTH {
            for (protocol, remote_port, packet, inner) in [
                (17, 53, to(17).udp(53, PORT, b"odd"), next(17).udp(53, PORT, b"odd")),
                (6, 443, to(6).tcp(443, PORT, 16, b"", b""), next(6).tcp(443, PORT, 16, b"", b"")),
                (1, 0, to(1).icmp(0, PORT), next(1).icmp(0, PORT)),
            ] {
                let ports = u32::from(PORT) << 16 | remote_port;
                let hash = flow_hash(address_be(EGRESS.octets()), address_be(SERVER.octets()), ports, protocol);
                let expected = geneve(EDGE, NODE, entropy_port(hash), VNI, &inner);
                let (verdict, bytes) = flavour.run(edge, "outside", &ethernet(0x0800, &packet));
                assert_eq!(verdict, Verdict::Redirect, "{flavour:?}");
                assert_eq!(bytes, flavour.sent(NODE_MAC, &expected), "{flavour:?}");
            }
            for (reason, packet) in [
                ("unleased", to(17).udp(53, 9000, b"")),
                ("too-big-fragmentable", Ip { dont_fragment: false, ..to(17) }.udp(53, PORT, &[0; 1373])),
                ("icmp-type", to(1).icmp(8, PORT)),
                ("protocol-without-port", to(47).packet(&[0; 8])),
            ] {
                let before = edge.counters().unwrap().drops;
                assert_eq!(flavour.run(edge, "outside", &ethernet(0x0800, &packet)).0, Verdict::Drop, "{reason}");
                assert_eq!(new_drops(&before, &edge.counters().unwrap().drops), [(reason.to_owned(), 1)]);
            }
            let other = ethernet(0x0800, &Ip::new(SERVER, ROUTER, 17).udp(53, PORT, b""));
            assert_eq!(flavour.run(edge, "outside", &other), (Verdict::Pass, other));
            let mut flooded = ethernet(0x0800, &to(17).udp(53, PORT, b"for another edge"));
            flooded[..6].copy_from_slice(&ROUTER_MAC);
            assert_eq!(flavour.run(edge, "outside", &flooded), (Verdict::Pass, flooded), "{flavour:?}");
        }
    });
}

#[test]
fn too_big_is_told_to_the_sender_from_the_egress_address() {
    with_edge(|edge| {
        let packet = Ip::new(SERVER, EGRESS, 17).udp(53, PORT, &[7; 1373]);
        let mut message = vec![3, 4, 0, 0, 0, 0, 0x05, 0x78];
        message.extend(&packet[..28]);
        let sum = checksum(&message, 0);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let answer = Ip { tos: 0xc0, dont_fragment: false, ..Ip::new(EGRESS, SERVER, 1) }.packet(&message);
        let expected = [&MAC_A[..], &MAC_B, &[8, 0], &answer].concat();
        for flavour in Flavour::BOTH {
            let outcome = flavour.run(edge, "outside", &ethernet(0x0800, &packet));
            assert_eq!(outcome, (Verdict::Redirect, expected.clone()), "{flavour:?}");
        }
        assert_eq!(edge.counters().unwrap().drops["too-big"], 2);
    });
}

#[test]
fn arp_is_answered_for_owned_addresses_only() {
    with_edge(|edge| {
        let head = [0, 1, 8, 0, 6, 4, 0];
        let request = [&head[..], &[1], &MAC_A, &SERVER.octets(), &[0; 6], &EGRESS.octets()].concat();
        let request = ethernet(0x0806, &request);
        let reply = [&head[..], &[2], &OWN_MAC, &EGRESS.octets(), &MAC_A, &SERVER.octets()].concat();
        let reply = [&MAC_A[..], &OWN_MAC, &[8, 6], &reply].concat();
        for flavour in Flavour::BOTH {
            edge.set_owned(EGRESS.into(), false).unwrap();
            assert_eq!(flavour.run(edge, "outside", &request), (Verdict::Pass, request.clone()), "{flavour:?}");
            edge.set_owned(EGRESS.into(), true).unwrap();
            assert_eq!(flavour.run(edge, "outside", &request), (Verdict::Redirect, reply.clone()), "{flavour:?}");
        }
    });
}

#[test]
fn truncated_frames_never_get_through() {
    with_edge(|edge| {
        let inner = Ip::new(EGRESS, SERVER, 6).tcp(PORT, 443, 16, b"", b"data");
        let inward = ethernet(0x0800, &Ip::new(SERVER, EGRESS, 6).tcp(443, PORT, 16, b"", b"data"));
        for (side, frame) in [("inside", tunnel(NODE, VNI, &inner)), ("outside", inward)] {
            for flavour in Flavour::BOTH {
                assert_eq!(flavour.run(edge, side, &frame).0, Verdict::Redirect);
                // The kernel's test run of a TC program refuses less than an IPv4 header.
                let start = if flavour == Flavour::Tc { 34 } else { 14 };
                for length in start..frame.len() {
                    let (verdict, _) = flavour.run(edge, side, &frame[..length]);
                    assert_ne!(verdict, Verdict::Redirect, "{flavour:?} {side} with {length} bytes");
                }
            }
        }
    });
}

#[test]
fn an_edge_without_the_lease_any_more_drops() {
    with_edge(|edge| {
        let outward = tunnel(NODE, VNI, &Ip::new(EGRESS, SERVER, 17).udp(PORT, 53, b"x"));
        let emptied = EdgeTables { leases: vec![], generation: Generation(12), ..tables() };
        edge.apply(&emptied).unwrap();
        assert_eq!(Flavour::Tc.run(edge, "inside", &outward).0, Verdict::Drop);
        edge.apply(&tables()).unwrap();
        assert_eq!(Flavour::Tc.run(edge, "inside", &outward).0, Verdict::Redirect);
    });
}
