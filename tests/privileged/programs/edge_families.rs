//! What an edge carries: both inner families over both underlays, at TC and at XDP.

use std::net::IpAddr;

use persona_common::flow::{entropy_port, flow_hash};
use persona_ctl::dataplane::tables::EdgeTables;

use super::edge_frames::{AUTHENTICATION, DESTINATION_OPTIONS, HOP_BY_HOP, Ip6, ROUTING, Tunnel};
use super::edge_world::*;
use super::frames::{Ip, ethernet};
use super::run::{Facts, run_tc};

const PAD: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// Packets of A's workload to the internet: before and after, for one inner time to live.
fn outward(ttl: u8) -> Vec<Vec<u8>> {
    let v4 = |source, protocol| Ip { ttl, tos: 2, ..Ip::new(source, SERVER, protocol) };
    let v6 = || Ip6 { hop_limit: ttl, class: 2, ..Ip6::new(EGRESS6, SERVER6) };
    vec![
        v4(EGRESS, 17).udp(PORT, 53, b"odd"),
        v4(EGRESS, 6).tcp(PORT, 443, 16, b"", b"data"),
        v4(EGRESS, 1).icmp(8, PORT),
        v4(WHOLE, 17).udp(80, 53, b"any port"),
        v4(WHOLE, 47).packet(&[7; 30]),
        v6().udp(1, 53, b"odd"),
        v6().tcp(80, 443, 16, b"data"),
        v6().echo(128, 9),
        v6().packet(47, &[7; 30]),
        v6().with(HOP_BY_HOP, &PAD).with(DESTINATION_OPTIONS, &PAD).udp(1, 53, b"x"),
        v6().with(AUTHENTICATION, &[1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1]).udp(1, 53, b"x"),
        v6().fragment(0, true, 77).packet(17, &v6().udp_datagram(1, 53, &[5; 16])),
        v6().fragment(24, false, 77).packet(17, &[5; 9]),
    ]
}

/// Packets of the internet to A's leases.
fn inward(ttl: u8) -> Vec<Vec<u8>> {
    let v4 = |destination, protocol| Ip { ttl, tos: 1, ..Ip::new(SERVER, destination, protocol) };
    let v6 = || Ip6 { hop_limit: ttl, class: 1, ..Ip6::new(SERVER6, EGRESS6) };
    vec![
        v4(EGRESS, 17).udp(53, PORT, b"odd"),
        v4(EGRESS, 6).tcp(443, PORT, 16, b"", b"data"),
        v4(EGRESS, 1).icmp(0, PORT),
        v4(WHOLE, 47).packet(&[7; 30]),
        v6().udp(53, 1, b"odd"),
        v6().tcp(443, 80, 18, b""),
        v6().echo(129, 9),
        v6().packet(47, &[7; 30]),
        v6().with(DESTINATION_OPTIONS, &PAD).tcp(443, 80, 16, b"x"),
        v6().fragment(24, true, 77).packet(17, &[5; 16]),
    ]
}

/// The port that a tunnel frame went out with, and the frame with port 0: which one is the edge's choice, but it is one.
fn without_port(frame: &[u8]) -> (u16, Vec<u8>) {
    let at = if frame[12] == 8 { 34 } else { 54 };
    let mut frame = frame.to_vec();
    let port = u16::from_be_bytes([frame[at], frame[at + 1]]);
    frame[at..at + 2].fill(0);
    if frame[12] != 8 {
        assert_eq!(frame[16..18], port.to_be_bytes(), "the flow label has it too");
        frame[16..18].fill(0);
    }
    (port, frame)
}

#[test]
fn packets_of_a_node_go_out_bare() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            for flavour in Flavour::BOTH {
                for (inner, expected) in outward(64).iter().zip(outward(63)) {
                    let frame = Tunnel { tos: 2, ..underlay.from_node() }.frame(inner);
                    flavour.sends(edge, "inside", &frame, ROUTER_MAC, &expected);
                }
            }
            let traffic = edge.counters().unwrap().personas[&persona_core::ids::Vni(VNI)];
            let bytes = outward(64).iter().map(Vec::len).sum::<usize>();
            assert_eq!((traffic.egress_packets, traffic.egress_bytes), (26, 2 * bytes as u64));
        });
    }
}

#[test]
fn packets_to_a_lease_go_to_its_node() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            for flavour in Flavour::BOTH {
                for (packet, inner) in inward(64).iter().zip(inward(63)) {
                    let kind = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
                    let (verdict, bytes) = flavour.run(edge, "outside", &ethernet(kind, packet));
                    assert_eq!(verdict, Verdict::Redirect, "{flavour:?} {:?}", edge.counters().unwrap().drops);
                    let (port, _) = without_port(&bytes);
                    assert!(port >= 49_152);
                    let tunnel = Tunnel { tos: 1, port, ..underlay.to_node() };
                    flavour.sends(edge, "outside", &ethernet(kind, packet), NODE_MAC, &tunnel.around(&inner));
                }
            }
        });
    }
}

#[test]
fn the_port_of_a_tunnel_follows_the_flow() {
    with_edge(Underlay::V4, |edge| {
        let address = |address: std::net::Ipv4Addr| persona_common::addr::address_be(address.octets());
        let packet = Ip::new(SERVER, EGRESS, 17).udp(53, PORT, b"x");
        let hash = flow_hash(address(EGRESS), address(SERVER), u32::from(PORT) << 16 | 53, 17);
        let (_, bytes) = Flavour::Tc.run(edge, "outside", &ethernet(0x0800, &packet));
        assert_eq!(without_port(&bytes).0, entropy_port(hash));
    });
}

#[test]
fn what_a_node_may_not_send_is_a_counted_drop() {
    let v4 = |protocol| Ip::new(EGRESS, SERVER, protocol);
    let v6 = || Ip6::new(EGRESS6, SERVER6);
    let routed = |kind| v6().with(ROUTING, &[2, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let many = (0..9).fold(v6(), |ip, _| ip.with(DESTINATION_OPTIONS, &PAD));
    let other = Ip6::new("2001:db8:7:1ff::1".parse().unwrap(), SERVER6);
    let foreign = Ip6::new("2001:db8:8:101::1".parse().unwrap(), SERVER6);
    let mut unsummed = v6().udp(1, 53, b"x");
    unsummed[46..48].fill(0);
    let mut source_routed = v4(17).udp(PORT, 53, &[0; 12]);
    source_routed[0] = 0x46;
    source_routed[20..24].copy_from_slice(&[131, 3, 4, 0]);
    let cases: [(&str, Vec<u8>); 14] = [
        ("unleased", v4(17).udp(9000, 53, b"")),
        ("unleased", Ip::new(SERVER, SERVER, 17).udp(PORT, 53, b"")),
        ("unknown-peer", v4(17).udp(PORT_OF_B, 53, b"")),
        ("protocol-without-port", v4(47).packet(&[0; 20])),
        ("icmp-type", v4(1).icmp(13, PORT)),
        ("ip-options", source_routed),
        ("unleased", other.udp(1, 53, b"")),
        ("unleased", foreign.udp(1, 53, b"")),
        ("unknown-peer", Ip6::new(EGRESS6_OF_B, SERVER6).udp(1, 53, b"")),
        ("icmp-type", v6().echo(133, 9)),
        ("extension-headers", routed(0).udp(1, 53, b"")),
        ("extension-headers", many.udp(1, 53, b"")),
        ("malformed", unsummed),
        ("malformed", v6().with(DESTINATION_OPTIONS, &[9, 0, 0, 0, 0, 0, 0]).udp(1, 53, b"")),
    ];
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            for flavour in Flavour::BOTH {
                for (reason, inner) in &cases {
                    flavour.drops(edge, "inside", &underlay.from_node().frame(inner), reason);
                }
                flavour.sends(edge, "inside", &underlay.from_node().frame(&routed(3).udp(1, 53, b"")), ROUTER_MAC, &{
                    let ip = routed(3);
                    Ip6 { hop_limit: 63, ..ip }.udp(1, 53, b"")
                });
                for inner in [v4(17).udp(PORT, 53, b"x"), v6().udp(1, 53, b"x")] {
                    let tunnel = |change: fn(&mut Tunnel, Underlay)| {
                        let mut tunnel = underlay.from_node();
                        change(&mut tunnel, underlay);
                        tunnel.frame(&inner)
                    };
                    flavour.drops(edge, "inside", &tunnel(|tunnel, with| tunnel.source = with.node_b), "unknown-peer");
                    flavour.drops(edge, "inside", &tunnel(|tunnel, _| tunnel.vni = 44), "vni-mismatch");
                    flavour.drops(edge, "inside", &tunnel(|tunnel, _| tunnel.tos = 3), "ecn");
                    flavour.drops(edge, "inside", &tunnel(|tunnel, _| tunnel.marker = 1), "unknown-peer");
                }
            }
        });
    }
}

#[test]
fn options_of_geneve_are_stepped_over_unless_critical() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            for flavour in Flavour::BOTH {
                for (inner, expected) in outward(64).iter().zip(outward(63)) {
                    let tunnel = Tunnel { options: [1, 8, 5, 1, 1, 2, 3, 4].repeat(6), ..underlay.from_node() };
                    flavour.sends(edge, "inside", &tunnel.frame(inner), ROUTER_MAC, &expected);
                    let mut critical = tunnel.frame(inner);
                    let geneve_at = if underlay.edge.is_ipv4() { 42 } else { 62 };
                    critical[geneve_at + 1] = 0x40;
                    flavour.drops(edge, "inside", &critical, "geneve");
                    critical[geneve_at..geneve_at + 2].copy_from_slice(&[0x4c, 0]);
                    flavour.drops(edge, "inside", &critical, "geneve");
                }
            }
        });
    }
}

#[test]
fn congestion_marks_come_inside() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let v4 = |tos, ttl| Ip { tos, ttl, ..Ip::new(EGRESS, SERVER, 17) }.udp(PORT, 53, b"x");
            let v6 = |class, hop_limit| Ip6 { class, hop_limit, ..Ip6::new(EGRESS6, SERVER6) }.udp(1, 53, b"x");
            for flavour in Flavour::BOTH {
                for (inner, outer, after) in [(0xb9, 3, 0xbb), (0xba, 3, 0xbb), (0xba, 1, 0xb9), (0xb8, 1, 0xb8)] {
                    let tunnel = Tunnel { tos: 0xb8 | outer, ..underlay.from_node() };
                    flavour.sends(edge, "inside", &tunnel.frame(&v4(inner, 64)), ROUTER_MAC, &v4(after, 63));
                    flavour.sends(edge, "inside", &tunnel.frame(&v6(inner, 64)), ROUTER_MAC, &v6(after, 63));
                }
            }
        });
    }
}

#[test]
fn a_packet_to_another_workload_is_turned_around() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let v4 = |ttl| Ip { ttl, ..Ip::new(EGRESS, EGRESS, 17) }.udp(PORT, PORT_OF_B, b"hairpin");
            let v6 = |hop_limit| Ip6 { hop_limit, ..Ip6::new(EGRESS6, EGRESS6_OF_B) }.tcp(5, 80, 2, b"");
            for flavour in Flavour::BOTH {
                for (inner, expected) in [(v4(64), v4(63)), (v6(64), v6(63))] {
                    let tunnel = Tunnel { tos: 3, ..underlay.from_node() };
                    let (_, bytes) = flavour.run(edge, "inside", &tunnel.frame(&inner));
                    let port = without_port(&bytes).0;
                    let turned = Tunnel { port, tos: 3, ..Tunnel::new(underlay.edge, underlay.node_b, VNI_OF_B) };
                    flavour.sends(edge, "inside", &tunnel.frame(&inner), NODE_B_MAC, &turned.around(&expected));
                    let with_options = Tunnel { options: vec![1, 8, 5, 0], ..tunnel };
                    let turned = Tunnel { options: vec![1, 8, 5, 0], ..turned };
                    flavour.sends(edge, "inside", &with_options.frame(&inner), NODE_B_MAC, &turned.around(&expected));
                }
                let nobodys = Ip::new(EGRESS, EGRESS, 17).udp(PORT, 9000, b"");
                flavour.drops(edge, "inside", &underlay.from_node().frame(&nobodys), "unleased");
            }
        });
    }
}

#[test]
fn a_node_that_is_not_heard_is_reached_through_a_peer() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let mut writer = edge.ownership_writer().unwrap();
            assert!(writer.set_node_heard(underlay.node, false).unwrap());
            assert!(!writer.set_node_heard(IpAddr::from([9, 9, 9, 9]), false).unwrap(), "no such node");
            for flavour in Flavour::BOTH {
                for (packet, inner) in inward(64).iter().zip(inward(63)) {
                    let kind = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
                    let frame = ethernet(kind, packet);
                    writer.set_peer_alive(PEER, false).unwrap();
                    let port = without_port(&flavour.run(edge, "outside", &frame).1).0;
                    let direct = Tunnel { tos: 1, port, ..underlay.to_node() };
                    flavour.sends(edge, "outside", &frame, NODE_MAC, &direct.around(&inner));
                    writer.set_peer_alive(PEER, true).unwrap();
                    let through = Tunnel { marker: 1, vni: 0, destination: underlay.peer, ..direct.clone() };
                    flavour.sends(edge, "outside", &frame, PEER_MAC, &through.around(packet));
                    // What a peer has passed on goes straight to the node.
                    let passed_on = Tunnel { source: underlay.peer, destination: underlay.edge, ..through };
                    flavour.sends(edge, "inside", &passed_on.frame(packet), NODE_MAC, &direct.around(&inner));
                }
            }
            writer.set_node_heard(underlay.node, true).unwrap();
            let packet = Ip::new(SERVER, EGRESS, 17).udp(53, PORT, b"x");
            let (_, bytes) = Flavour::Xdp.run(edge, "outside", &ethernet(0x0800, &packet));
            assert_eq!(bytes[..6], NODE_MAC);
        });
    }
}

#[test]
fn what_nobody_may_send_inward_is_a_counted_drop_or_passes() {
    with_edge(Underlay::V6, |edge| {
        let v4 = |protocol| Ip::new(SERVER, EGRESS, protocol);
        let to = |text: &str| Ip6::new(SERVER6, text.parse().unwrap());
        for flavour in Flavour::BOTH {
            for (reason, kind, packet) in [
                ("unleased", 0x0800, v4(17).udp(53, 9000, b"")),
                ("icmp-type", 0x0800, v4(1).icmp(8, PORT)),
                ("protocol-without-port", 0x0800, v4(47).packet(&[0; 8])),
                ("unleased", 0x86dd, to("2001:db8:7:1ff::1").udp(53, 1, b"")),
            ] {
                flavour.drops(edge, "outside", &ethernet(kind, &packet), reason);
            }
            let mut flooded = ethernet(0x86dd, &to("2001:db8:7:101::1").udp(53, 1, b"for another edge"));
            flooded[..6].copy_from_slice(&ROUTER_MAC);
            for frame in [
                ethernet(0x0800, &Ip::new(SERVER, ROUTER, 17).udp(53, PORT, b"")),
                ethernet(0x86dd, &to("2001:db8:7:200::1").udp(53, 1, b"")),
                ethernet(0x86dd, &to("2001:db8:8::1").udp(53, 1, b"")),
                flooded,
            ] {
                assert_eq!(flavour.run(edge, "outside", &frame), (Verdict::Pass, frame), "{flavour:?}");
            }
        }
    });
}

#[test]
fn tagged_packets_of_ours_are_a_counted_drop_others_pass() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let tagged = |frame: &[u8], kind: [u8; 2]| [&frame[..12], &kind, &[0, 7], &frame[12..]].concat();
            let inward = ethernet(0x0800, &Ip::new(SERVER, EGRESS, 17).udp(53, PORT, b"x"));
            let inward6 = ethernet(0x86dd, &Ip6::new(SERVER6, EGRESS6).udp(53, 1, b"x"));
            let outward = underlay.from_node().frame(&Ip::new(EGRESS, SERVER, 17).udp(PORT, 53, b"x"));
            let other = ethernet(0x0800, &Ip::new(SERVER, ROUTER, 17).udp(53, PORT, b"x"));
            for kind in [[0x81, 0], [0x88, 0xa8]] {
                for (side, frame) in [("outside", &inward), ("outside", &inward6), ("inside", &outward)] {
                    Flavour::Xdp.drops(edge, side, &tagged(frame, kind), "vlan");
                }
                for side in ["outside", "inside"] {
                    let frame = tagged(&other, kind);
                    assert_eq!(Flavour::Xdp.run(edge, side, &frame), (Verdict::Pass, frame));
                }
            }
        });
    }
}

#[test]
fn truncated_frames_never_get_through() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let outward = outward(64).into_iter().map(|inner| ("inside", underlay.from_node().frame(&inner)));
            let inward = inward(64)
                .into_iter()
                .map(|packet| ("outside", ethernet(if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }, &packet)));
            for (side, frame) in outward.chain(inward) {
                for flavour in Flavour::BOTH {
                    // The kernel's test run of a TC program refuses less than an IP header.
                    let start = if flavour == Flavour::Xdp { 14 } else { if frame[12] == 8 { 34 } else { 54 } };
                    for length in start..frame.len() {
                        let (verdict, _) = flavour.run(edge, side, &frame[..length]);
                        assert_ne!(verdict, Verdict::Redirect, "{flavour:?} {side} with {length} bytes");
                    }
                }
            }
        });
    }
}

#[test]
fn segments_are_judged_and_counted_as_the_packets_they_become() {
    with_edge(Underlay::V6, |edge| {
        let packet = Ip6::new(SERVER6, EGRESS6).tcp(443, 80, 16, &[0; 2000]);
        let facts = Facts { gso_segs: 4, gso_size: 500, ..Facts::default() };
        // The kernel's test run says how large segments are, but not of which kind: nothing can be put in front of them,
        // and the counters are what is left to look at.
        run_tc(edge.programs(), "edge_outside", &ethernet(0x86dd, &packet), facts);
        let traffic = edge.counters().unwrap().personas[&persona_core::ids::Vni(VNI)];
        assert_eq!((traffic.ingress_packets, traffic.ingress_bytes), (4, 4 * 560));
    });
}

#[test]
fn without_a_next_hop_nothing_is_sent() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let outward = underlay.from_node().frame(&Ip::new(EGRESS, SERVER, 17).udp(PORT, 53, b"x"));
            let inward = ethernet(0x0800, &Ip::new(SERVER, EGRESS, 17).udp(53, PORT, b"x"));
            // XDP writes hardware addresses itself; at TC the kernel asks for them.
            let mut unresolved = underlay.tables();
            unresolved.outside.as_mut().unwrap().destination_mac = None;
            unresolved.nodes[0].next_hop.destination_mac = None;
            edge.apply(&unresolved).unwrap();
            Flavour::Xdp.drops(edge, "inside", &outward, "next-hop-unresolved");
            Flavour::Xdp.drops(edge, "outside", &inward, "next-hop-unresolved");
            assert_eq!(Flavour::Tc.run(edge, "inside", &outward).0, Verdict::Redirect);
            assert_eq!(Flavour::Tc.run(edge, "outside", &inward).0, Verdict::Redirect);
            edge.apply(&EdgeTables { outside: None, ..underlay.tables() }).unwrap();
            for flavour in Flavour::BOTH {
                flavour.drops(edge, "inside", &outward, "next-hop-unresolved");
            }
        });
    }
}
