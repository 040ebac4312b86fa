//! What an edge answers: packets that are too big or have counted their last hop, errors about what it carries, and
//! questions who has an address.

use persona_ctl::dataplane::tables::EdgeTables;

use super::edge_frames::{Ip6, Tunnel};
use super::edge_world::*;
use super::frames::{Ip, MAC_A, checksum, ethernet};
use super::node6_world::told_until_dropped;

/// An ICMP error from `ip` that quotes `about`.
fn error(ip: Ip, kind: u8, code: u8, parameter: u32, about: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(parameter.to_be_bytes());
    message.extend(about);
    let sum = checksum(&message, 0);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Ip { tos: 0xc0, dont_fragment: false, ..ip }.packet(&message)
}

fn error6(ip: &Ip6, kind: u8, parameter: u32, about: &[u8]) -> Vec<u8> {
    ip.icmp(kind, 0, &[&parameter.to_be_bytes()[..], about].concat())
}

#[test]
fn too_big_is_told_to_the_sender_from_the_egress_address() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let packet = Ip::new(SERVER, EGRESS, 17).udp(53, PORT, &[7; 1373]);
            let message = error(Ip::new(EGRESS, SERVER, 1), 3, 4, MTU.into(), &packet[..28]);
            let mut with_options = Ip::new(SERVER, EGRESS, 17).udp(53, PORT, &[7; 1420]);
            with_options[0] = 0x47;
            with_options[20..28].copy_from_slice(&[1, 1, 1, 1, 68, 4, 5, 0]);
            with_options[28..36].copy_from_slice(&[0, 53, 0x14, 0x40, 0x05, 0x94, 0, 0]);
            with_options[34..36].fill(0);
            with_options[32..34].copy_from_slice(&(1448u16 - 28).to_be_bytes());
            with_options[10..12].fill(0);
            let sum = checksum(&with_options[..28], 0);
            with_options[10..12].copy_from_slice(&sum.to_be_bytes());
            let about_options = error(Ip::new(EGRESS, SERVER, 1), 3, 4, MTU.into(), &with_options[..36]);
            let packet6 = Ip6::new(SERVER6, EGRESS6).udp(53, 1, &[7; 1360]);
            let message6 = error6(&Ip6::new(EGRESS6, SERVER6), 2, MTU.into(), &packet6[..96]);
            for flavour in Flavour::BOTH {
                flavour.answers(edge, "outside", &ethernet(0x0800, &packet), "too-big", &message);
                flavour.answers(edge, "outside", &ethernet(0x0800, &with_options), "too-big", &about_options);
                flavour.answers(edge, "outside", &ethernet(0x86dd, &packet6), "too-big", &message6);
            }
        });
    }
}

#[test]
fn what_may_be_cut_goes_to_the_slow_path_as_a_finished_tunnel_packet() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let packet =
                |ttl| Ip { ttl, dont_fragment: false, ..Ip::new(SERVER, EGRESS, 17) }.udp(53, PORT, &[7; 1373]);
            let frame = ethernet(0x0800, &packet(64));
            for flavour in Flavour::BOTH {
                edge.apply(&underlay.tables()).unwrap();
                let (_, bytes) = flavour.run(edge, "outside", &frame);
                let at = if underlay.edge.is_ipv4() { 34 } else { 54 };
                let port = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                let tunnel = Tunnel { port, ..underlay.to_node() };
                flavour.hands_over(edge, "outside", &frame, &tunnel.around(&packet(63)));
                edge.apply(&EdgeTables { slow_ifindex: None, ..underlay.tables() }).unwrap();
                flavour.drops(edge, "outside", &frame, "no-slow-path");
            }
        });
    }
}

#[test]
fn the_last_hop_is_told_to_the_sender() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let inward = Ip { ttl: 1, ..Ip::new(SERVER, EGRESS, 17) }.udp(53, PORT, b"x");
            let inward6 = Ip6 { hop_limit: 1, ..Ip6::new(SERVER6, EGRESS6) }.udp(53, 1, b"x");
            let outward = Ip { ttl: 1, ..Ip::new(EGRESS, SERVER, 17) }.udp(PORT, 33_434, b"traceroute");
            let outward6 = Ip6 { hop_limit: 1, ..Ip6::new(EGRESS6, SERVER6) }.echo(128, 7);
            let from = |packet: &[u8]| Tunnel { tos: 0xb8, ..underlay.from_node() }.frame(packet);
            let to = |packet: &[u8]| Tunnel { tos: 0xc0, ..underlay.to_node() }.around(packet);
            for flavour in Flavour::BOTH {
                let about = error(Ip::new(EGRESS, SERVER, 1), 11, 0, 0, &inward[..28]);
                flavour.answers(edge, "outside", &ethernet(0x0800, &inward), "ttl-expired", &about);
                let about = error6(&Ip6::new(EGRESS6, SERVER6), 3, 0, &inward6[..48]);
                flavour.answers(edge, "outside", &ethernet(0x86dd, &inward6), "ttl-expired", &about);
                let about = error(Ip::new(SERVER, EGRESS, 1), 11, 0, 0, &outward[..28]);
                flavour.answers(edge, "inside", &from(&outward), "ttl-expired", &to(&about));
                let about = error6(&Ip6::new(SERVER6, EGRESS6), 3, 0, &outward6[..52]);
                flavour.answers(edge, "inside", &from(&outward6), "ttl-expired", &to(&about));
                // Passed on by a peer: the answer goes out.
                let relayed = Tunnel { marker: 1, vni: 0, ..Tunnel::new(underlay.peer, underlay.edge, 0) };
                let (verdict, bytes) = flavour.run(edge, "inside", &relayed.frame(&inward));
                let about = error(Ip::new(EGRESS, SERVER, 1), 11, 0, 0, &inward[..28]);
                assert_eq!((verdict, hex(&bytes[14..])), (Verdict::Redirect, hex(&about)), "{flavour:?}");
            }
        });
    }
}

#[test]
fn a_packet_to_another_workload_that_is_too_big_is_told_to_its_sender() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            let packet = Ip::new(EGRESS, EGRESS, 17).udp(PORT, PORT_OF_B, &[7; 1373]);
            let packet6 = Ip6::new(EGRESS6, EGRESS6_OF_B).udp(1, 2, &[7; 1360]);
            let to = |packet: &[u8]| Tunnel { tos: 0xc0, ..underlay.to_node() }.around(packet);
            for flavour in Flavour::BOTH {
                let about = error(Ip::new(EGRESS, EGRESS, 1), 3, 4, MTU.into(), &packet[..28]);
                flavour.answers(edge, "inside", &underlay.from_node().frame(&packet), "too-big", &to(&about));
                let about = error6(&Ip6::new(EGRESS6_OF_B, EGRESS6), 2, MTU.into(), &packet6[..96]);
                flavour.answers(edge, "inside", &underlay.from_node().frame(&packet6), "too-big", &to(&about));
            }
        });
    }
}

#[test]
fn nobody_is_told_about_errors_later_fragments_or_from_nowhere() {
    with_edge(Underlay::V6, |edge| {
        let sent = Ip::new(EGRESS, SERVER, 17).udp(PORT, 53, &[0; 1400]);
        let sent6 = Ip6::new(EGRESS6, SERVER6).udp(1, 53, b"x");
        let about = error(Ip { ttl: 1, ..Ip::new(SERVER, EGRESS, 1) }, 3, 1, 0, &sent[..28]);
        let about6 = error6(&Ip6 { hop_limit: 1, ..Ip6::new(SERVER6, EGRESS6) }, 1, 0, &sent6);
        let later6 = Ip6 { hop_limit: 1, ..Ip6::new(SERVER6, EGRESS6) }.fragment(80, false, 7).packet(17, &[1; 20]);
        let nowhere = Ip { ttl: 1, ..Ip::new([0, 0, 0, 0].into(), EGRESS, 17) }.udp(53, PORT, b"x");
        let many = Ip { ttl: 1, ..Ip::new([224, 0, 0, 1].into(), EGRESS, 17) }.udp(53, PORT, b"x");
        let nowhere6 = Ip6 { hop_limit: 1, ..Ip6::new("::".parse().unwrap(), EGRESS6) }.udp(53, 1, b"x");
        for flavour in Flavour::BOTH {
            for (kind, packet) in [
                (0x0800, &about),
                (0x86dd, &about6),
                (0x86dd, &later6),
                (0x0800, &nowhere),
                (0x0800, &many),
                (0x86dd, &nowhere6),
            ] {
                flavour.drops(edge, "outside", &ethernet(kind, packet), "ttl-expired");
            }
        }
    });
}

#[test]
fn errors_go_by_the_port_or_prefix_of_what_they_quote() {
    for underlay in Underlay::BOTH {
        with_edge(underlay, |edge| {
            // A router on the way tells A's workload about a packet of its own.
            let router: std::net::Ipv4Addr = [198, 51, 100, 9].into();
            let sent = Ip::new(EGRESS, SERVER, 6).tcp(PORT, 443, 16, b"", b"data");
            let plain = |ip: Ip, about: &[u8]| {
                let mut packet = error(ip, 3, 4, 1300, about);
                packet[1] = 0;
                packet[10..12].fill(0);
                let sum = checksum(&packet[..20], 0);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                packet
            };
            let inward = |ttl| plain(Ip { ttl, ..Ip::new(router, EGRESS, 1) }, &sent[..28]);
            let sent6 = Ip6::new(EGRESS6, SERVER6).udp(1, 53, b"x");
            let inward6 = |hop_limit| error6(&Ip6 { hop_limit, ..Ip6::new(ROUTER6, EGRESS6) }, 2, 1300, &sent6);
            // A's workload tells a server that a port is closed.
            let received = Ip::new(SERVER, EGRESS, 17).udp(53, PORT, b"x");
            let outward = |ttl| plain(Ip { ttl, ..Ip::new(EGRESS, SERVER, 1) }, &received[..28]);
            let not_ours = plain(Ip::new(router, EGRESS, 1), &Ip::new(EGRESS, SERVER, 17).udp(9000, 53, b"x")[..28]);
            let another = plain(Ip::new(router, EGRESS, 1), &Ip::new(WHOLE, SERVER, 17).udp(PORT, 53, b"x")[..28]);
            for flavour in Flavour::BOTH {
                for (kind, packet, inner) in [(0x0800, inward(64), inward(63)), (0x86dd, inward6(64), inward6(63))] {
                    let (_, bytes) = flavour.run(edge, "outside", &ethernet(kind, &packet));
                    let at = if underlay.edge.is_ipv4() { 34 } else { 54 };
                    let port = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                    let tunnel = Tunnel { port, ..underlay.to_node() };
                    flavour.sends(edge, "outside", &ethernet(kind, &packet), NODE_MAC, &tunnel.around(&inner));
                }
                flavour.sends(edge, "inside", &underlay.from_node().frame(&outward(64)), ROUTER_MAC, &outward(63));
                flavour.drops(edge, "outside", &ethernet(0x0800, &not_ours), "unleased");
                flavour.drops(edge, "outside", &ethernet(0x0800, &another), "no-mapping");
            }
        });
    }
}

#[test]
fn solicitations_are_answered_for_owned_next_hops_only() {
    with_edge(Underlay::V4, |edge| {
        let asker: std::net::Ipv6Addr = "fe80::9".parse().unwrap();
        let multicast: std::net::Ipv6Addr = "ff02::1:ff00:7".parse().unwrap();
        let ask = |source, target: std::net::Ipv6Addr, option: &[u8]| {
            let ip = Ip6 { hop_limit: 255, ..Ip6::new(source, multicast) };
            ethernet(0x86dd, &ip.icmp(135, 0, &[&[0; 4], &target.octets()[..], option].concat()))
        };
        let tell = |destination, to: [u8; 6], flags: u8| {
            let ip = Ip6 { hop_limit: 255, ..Ip6::new(GROUP6, destination) };
            let body = [&[flags, 0, 0, 0], &GROUP6.octets()[..], &[2, 1], &OWN_MAC].concat();
            [&to[..], &OWN_MAC, &[0x86, 0xdd], &ip.icmp(136, 0, &body)].concat()
        };
        let source_option = [&[1, 1][..], &MAC_A].concat();
        let request = ask(asker, GROUP6, &source_option);
        let anonymous = ask("::".parse().unwrap(), GROUP6, &[]);
        for flavour in Flavour::BOTH {
            edge.set_owned(GROUP6.into(), false).unwrap();
            assert_eq!(flavour.run(edge, "outside", &request), (Verdict::Pass, request.clone()), "{flavour:?}");
            edge.set_owned(GROUP6.into(), true).unwrap();
            for (question, answer) in [
                (&request, tell(asker, MAC_A, 0x60)),
                (&ask(asker, GROUP6, &[]), tell(asker, MAC_A, 0x60)),
                (&anonymous, tell("ff02::1".parse().unwrap(), [0x33, 0x33, 0, 0, 0, 1], 0x20)),
            ] {
                let (verdict, bytes) = flavour.run(edge, "outside", question);
                assert_eq!((verdict, hex(&bytes)), (Verdict::Redirect, hex(&answer)), "{flavour:?}");
            }
            let mut routed = request.clone();
            routed[21] = 64;
            let other = ask(asker, asker, &source_option);
            for frame in [routed, other] {
                assert_eq!(flavour.run(edge, "outside", &frame), (Verdict::Pass, frame), "{flavour:?}");
            }
        }
    });
}

#[test]
fn senders_are_told_at_a_bounded_rate() {
    for flavour in Flavour::BOTH {
        with_edge(Underlay::V4, |edge| {
            let outside = ethernet(0x0800, &Ip::new(SERVER, EGRESS, 17).udp(53, PORT, &[7; 1373]));
            told_until_dropped(
                || edge.counters().unwrap().drops,
                || flavour.run(edge, "outside", &outside).0 == Verdict::Drop,
            );
        });
        with_edge(Underlay::V6, |edge| {
            let inward = Ip6 { hop_limit: 1, ..Ip6::new(EGRESS6, SERVER6) }.echo(128, 7);
            let inside = Underlay::V6.from_node().frame(&inward);
            told_until_dropped(
                || edge.counters().unwrap().drops,
                || flavour.run(edge, "inside", &inside).0 == Verdict::Drop,
            );
        });
    }
}
