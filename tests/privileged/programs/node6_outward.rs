//! IPv6 from a workload, over tunnels of either family.

use std::time::Duration;

use persona_common::{BYPASS_MARK, PERSONA_MARK};
use persona_ctl::dataplane::tables::LeaseSpace;

use super::frames::{MAC_A, MAC_B, ethernet};
use super::frames6::{Extensions, HOP_BY_HOP, ICMPV6, Ip6, OPTIONS, TCP, UDP};
use super::node6_world::*;
use super::run::{Facts, TC_DROP, TC_NEXT, TC_REDIRECT, run_tc};

const SYN: u8 = 2;
const ACK: u8 = 16;

fn mss(value: u16) -> [u8; 4] {
    [2, 4, (value >> 8) as u8, value as u8]
}

#[test]
fn packets_of_a_workload_leave_under_its_prefix() {
    let behind = |extensions: Extensions| {
        let packet = |ip: Ip6| ip.udp_behind(&extensions, 4000, 53, b"odd");
        (UDP, 53, packet(from_workload()), packet(from_lease()))
    };
    let cases = [
        ("UDP", (UDP, 53, from_workload().udp(4000, 53, b"odd"), from_lease().udp(4000, 53, b"odd"))),
        (
            "SYN, MSS clamped",
            (
                TCP,
                443,
                from_workload().tcp(4000, 443, SYN, &mss(1440), b""),
                from_lease().tcp(4000, 443, SYN, &mss(1340), b""),
            ),
        ),
        (
            "mid-stream without a record",
            (
                TCP,
                444,
                from_workload().tcp(4000, 444, ACK, b"", b"data"),
                from_lease().tcp(4000, 444, ACK, b"", b"data"),
            ),
        ),
        ("echo", (ICMPV6, 0, from_workload().echo(128, 4000), from_lease().echo(128, 4000))),
        ("hop-by-hop options", behind(Extensions::default().options(HOP_BY_HOP, 8))),
        ("options, routing, authentication", {
            let (_, port, packet, inner) =
                behind(Extensions::default().options(OPTIONS, 16).routing(2).authentication());
            (OPTIONS, port, packet, inner)
        }),
        ("as many headers as may be", {
            let eight = (0..8).fold(Extensions::default(), |headers, _| headers.options(OPTIONS, 32));
            let (_, port, packet, inner) = behind(eight);
            (OPTIONS, port, packet, inner)
        }),
        ("traffic class and ECN", {
            let (sent, leased) = (Ip6 { class: 0xba, ..from_workload() }, Ip6 { class: 0xba, ..from_lease() });
            (UDP, 54, sent.udp(4000, 54, b"x"), leased.udp(4000, 54, b"x"))
        }),
    ];
    for underlay in underlays() {
        with_node(&tables(underlay), |node| {
            for (what, (protocol, remote, packet, inner)) in &cases {
                // The hash takes the first header that the packet names.
                let named = if packet[6] == *protocol { *protocol } else { packet[6] };
                let outcome = out(node, packet);
                let drops = node.counters().unwrap().drops;
                assert_eq!(outcome.verdict, TC_REDIRECT, "{what} over {underlay:?}: {drops:?}");
                assert_eq!(outcome.bytes, tunnelled(underlay, 4000, *remote, named, inner), "{what} over {underlay:?}");
                assert_eq!(outcome.mark, PERSONA_MARK, "{what}");
            }
            assert_eq!(node.counters().unwrap().subjects[&SUBJECT].traffic.egress_packets, cases.len() as u64);
        });
    }
}

#[test]
fn what_may_not_leave_is_a_counted_drop() {
    with_node(&tables(over4()), |node| {
        let with = |mut packet: Vec<u8>, at: usize, value: u8| {
            packet[at] = value;
            packet
        };
        let udp = from_workload().udp(1, 2, b"payload");
        let syn = from_workload().tcp(1, 2, SYN, &mss(1460), b"");
        let nine = (0..9).fold(Extensions::default(), |headers, _| headers.options(OPTIONS, 8));
        let cases = [
            ("source-address", Ip6::new(v6("fd00:1::3"), server6()).udp(1, 2, b"")),
            ("source-address", Ip6::new(leased6(), server6()).udp(1, 2, b"")),
            ("malformed", with(udp.clone(), 0, 0x50)),
            ("malformed", with(udp.clone(), 5, 200)),
            ("malformed", with(udp.clone(), 45, 7)),
            ("malformed", with(udp.clone(), 44, 9)),
            ("malformed", with(with(udp.clone(), 46, 0), 47, 0)),
            ("malformed", with(syn.clone(), 52, 0x40)),
            ("malformed", with(syn, 52, 0xf0)),
            ("protocol-denied", from_workload().packet(47, &[0; 16])),
            ("protocol-denied", from_workload().packet(59, &[])),
            ("icmp-type", from_workload().echo(129, 7)),
            ("icmp-type", from_workload().icmp(139, 0, &[0; 12])),
            // Neighbour discovery with somebody who isn't near: a host would forward it.
            ("icmp-type", Ip6 { hop_limit: 255, ..from_workload() }.icmp(135, 0, &[0; 20])),
            ("extension-headers", from_workload().udp_behind(&nine, 1, 2, b"")),
            ("extension-headers", from_workload().udp_behind(&Extensions::default().options(OPTIONS, 264), 1, 2, b"")),
            ("extension-headers", from_workload().udp_behind(&Extensions::default().routing(0), 1, 2, b"")),
            ("malformed", from_workload().packet(OPTIONS, &[17, 7, 0, 0, 0, 0, 0, 0])),
        ];
        for (reason, packet) in &cases {
            refused(node, reason, || out(node, packet));
        }
        assert_eq!(node.counters().unwrap().subjects[&SUBJECT].dropped_packet_count, cases.len() as u64);
    });
}

#[test]
fn a_family_or_protocol_that_the_persona_lacks_is_denied() {
    let mut bare = tables(over4());
    network(&mut bare).lease6 = None;
    let mut quiet = tables(over4());
    network(&mut quiet).allow.udp = false;
    let mut naked = tables(over4());
    naked.subjects[0].network = None;
    for (reason, tables) in [("family-denied", bare), ("protocol-denied", quiet), ("no-persona", naked)] {
        with_node(&tables, |node| refused(node, reason, || out(node, &from_workload().udp(1, 2, b""))));
    }
    let mut open = tables(over4());
    network(&mut open).allow.other = true;
    with_node(&open, |node| {
        let inner = from_lease().packet(47, &[7; 16]);
        let outcome = out(node, &from_workload().packet(47, &[7; 16]));
        assert_eq!(outcome.bytes, tunnelled(over4(), 0, 0, 47, &inner), "a protocol without ports");
    });
}

#[test]
fn business_of_the_link_and_near_destinations_pass_by() {
    with_node(&tables(over4()), |node| {
        let link_local = v6("fe80::2");
        let gateway = Ip6::new(workload6(), v6("fd00:1::1"));
        for packet in [
            Ip6 { hop_limit: 255, ..Ip6::new(link_local, v6("ff02::2")) }.icmp(133, 0, &[0; 4]),
            Ip6 { hop_limit: 255, ..Ip6::new(link_local, v6("ff02::1:ff00:1")) }.icmp(135, 0, &[0; 20]),
            Ip6 { hop_limit: 255, ..gateway }.icmp(136, 0, &[0; 20]),
            Ip6::new(link_local, v6("ff02::16")).icmp(143, 0, &[0; 4]),
            Ip6::new(link_local, v6("ff02::1:2")).udp(546, 547, b"solicit"),
            Ip6::new(v6("::"), v6("ff02::1:ff00:2")).icmp(135, 0, &[0; 20]),
            gateway.udp(5, 53, b"near"),
            gateway.tcp(5, 80, ACK, b"", b"near"),
            gateway.echo(129, 4),
        ] {
            let outcome = out(node, &packet);
            let drops = node.counters().unwrap().drops;
            assert_eq!((outcome.verdict, outcome.mark), (TC_NEXT, BYPASS_MARK), "{drops:?}");
            assert_eq!(outcome.bytes, ethernet(0x86dd, &packet));
        }
    });
}

#[test]
fn a_persona_may_name_destinations_of_its_own() {
    let mut tables = tables(over4());
    network(&mut tables).bypass = vec![(v6("2001:db8:ffff::").into(), 48)];
    with_node(&tables, |node| {
        assert_eq!(out(node, &from_workload().udp(1, 2, b"")).verdict, TC_NEXT);
        let elsewhere = Ip6::new(workload6(), v6("2001:db8:fffe::1")).udp(1, 2, b"");
        assert_eq!(out(node, &elsewhere).verdict, TC_REDIRECT);
    });
}

/// A message of ours has no flow label.
fn unlabelled(mut packet: Vec<u8>) -> Vec<u8> {
    packet[1..4].fill(0);
    packet
}

#[test]
fn too_big_and_expired_are_told_to_the_workload() {
    for underlay in underlays() {
        with_node(&tables(underlay), |node| {
            let packet = from_workload().udp(1, 2, &[7; 1353]);
            let message = unlabelled(Ip6::new(server6(), workload6()).error(2, 1400, &packet[..96]));
            let outcome = out(node, &packet);
            assert_eq!(outcome.verdict, TC_REDIRECT, "{:?}", node.counters().unwrap().drops);
            assert_eq!(outcome.bytes, [&MAC_A[..], &MAC_B, &[0x86, 0xdd], &message].concat());
            let fits = out(node, &from_workload().udp(1, 2, &[7; 1352]));
            let outer_length = if underlay.node.is_ipv4() { 36 } else { 56 };
            assert_eq!(fits.bytes.len(), 14 + outer_length + 1400, "the largest that fits goes");

            let packet = Ip6 { hop_limit: 1, ..from_workload() }.udp(1, 2, b"");
            let source = match underlay.node {
                std::net::IpAddr::V6(own) => own,
                std::net::IpAddr::V4(_) => server6(),
            };
            let message = unlabelled(Ip6::new(source, workload6()).error(3, 0, &packet[..48]));
            let outcome = out(node, &packet);
            assert_eq!(outcome.bytes, [&MAC_A[..], &MAC_B, &[0x86, 0xdd], &message].concat());
            let drops = node.counters().unwrap().drops;
            assert_eq!((drops["too-big"], drops["ttl-expired"]), (1, 1));
        });
    }
}

#[test]
fn senders_are_told_at_a_bounded_rate() {
    with_node(&tables(over4()), |node| {
        let packet = Ip6 { hop_limit: 1, ..from_workload() }.udp(1, 2, b"");
        told_at_a_bounded_rate(node, || out(node, &packet));
    });
    with_node(&tables(over4()), |node| {
        let packet = from_workload().udp(1, 2, &[7; 1353]);
        told_at_a_bounded_rate(node, || out(node, &packet));
    });
}

#[test]
fn an_identifier_of_all_zeros_goes_nowhere() {
    let mut tables = tables(over4());
    tables.devices[0].prefix6 = Some((v6("fd00:1::"), 64));
    with_node(&tables, |node| {
        // 0x312e + 0xced1 = 0xffff, which is zero: its answers would be for the identifier of all zeros.
        for source in ["fd00:1::", "fd00:1:0:0:312e::"] {
            refused(node, "source-address", || out(node, &Ip6::new(v6(source), server6()).udp(1, 2, b"")));
        }
        let sent = out(node, &Ip6::new(v6("fd00:1:0:0:312e::1"), server6()).udp(1, 2, b""));
        assert_eq!(sent.verdict, TC_REDIRECT, "{:?}", node.counters().unwrap().drops);
        refused(node, "no-mapping", || back(node, over4(), &Ip6::new(server6(), prefix6()).udp(2, 1, b"")));
    });
}

#[test]
fn fragments_follow_their_first_under_one_hash() {
    for underlay in underlays() {
        with_node(&tables(underlay), |node| {
            let whole = from_workload().udp(4000, 53, &[9; 100]);
            let leased = from_lease().udp(4000, 53, &[9; 100]);
            let sent = from_workload().fragments(&whole, 56, 0xabcd_1234);
            let expected = from_lease().fragments(&leased, 56, 0xabcd_1234);
            refused(node, "no-slow-path", || out(node, &sent[1]));
            let hash = hash6(leased6(), server6(), 0xabcd_1234, UDP);
            for (sent, expected) in sent.iter().zip(&expected) {
                let outcome = out(node, sent);
                assert_eq!(outcome.verdict, TC_REDIRECT, "{:?}", node.counters().unwrap().drops);
                assert_eq!(outcome.bytes, tunnelled_by(underlay, hash, expected));
            }
            let other = from_workload().fragments(&whole, 56, 5);
            refused(node, "no-slow-path", || out(node, &other[1]));
            for (what, packet) in [
                ("fragment", from_workload().fragments(&whole, 0, 1)[0].clone()),
                ("malformed", from_workload().fragments(&whole, 57, 1)[0].clone()),
            ] {
                let reason = if what == "fragment" { "malformed" } else { what };
                refused(node, reason, || out(node, &packet));
            }
            let tiny = from_workload().tcp(1, 2, SYN, &mss(1440), b"");
            refused(node, "fragment", || out(node, &from_workload().fragments(&tiny, 8, 1)[0]));
        });
    }
}

#[test]
fn old_flows_keep_their_prefix_across_a_switch() {
    with_node(&tables(over4()), |node| {
        let packet = |port| from_workload().udp(port, 53, b"");
        out(node, &packet(1));
        let mut switched = tables(over4());
        switched.leases.push(lease(10, LeaseSpace::Prefix { prefix: v6("2001:db8:0:78::") }));
        network(&mut switched).lease6 = Some(persona_core::ids::LeaseId(10));
        node.apply(&switched).unwrap();
        let prefix = |bytes: &[u8]| bytes[50 + 8..50 + 16].to_vec();
        assert_eq!(prefix(&out(node, &packet(1)).bytes), prefix6().octets()[..8], "an old flow");
        assert_eq!(prefix(&out(node, &packet(2)).bytes), v6("2001:db8:0:78::").octets()[..8], "a new flow");
        assert!(!node.drained(persona_core::ids::LeaseId(9)).unwrap());
        switched.leases.remove(0);
        node.apply(&switched).unwrap();
        assert!(node.drained(persona_core::ids::LeaseId(9)).unwrap(), "a lease that is gone is drained");
        assert_eq!(prefix(&out(node, &packet(1)).bytes), v6("2001:db8:0:78::").octets()[..8], "resolved anew");
    });
}

#[test]
fn truncated_frames_never_get_through() {
    for underlay in underlays() {
        with_node(&tables(underlay), |node| {
            let headers = Extensions::default().options(HOP_BY_HOP, 8).options(OPTIONS, 24);
            let whole = ethernet(0x86dd, &from_workload().udp_behind(&headers, 4000, 53, b"data"));
            assert_eq!(run_tc(node.programs(), "from_workload", &whole, Facts::default()).verdict, TC_REDIRECT);
            // The kernel's test run itself refuses less than an IPv6 header.
            for length in 54..whole.len() {
                let outcome = run_tc(node.programs(), "from_workload", &whole[..length], Facts::default());
                assert_eq!(outcome.verdict, TC_DROP, "with {length} bytes");
            }
        });
    }
}

#[test]
fn connections_from_before_pass_as_they_are_while_they_are_adopted() {
    let adopt = Duration::from_secs(60);
    with_adopting_node(&tables(over4()), adopt, |node, clock| {
        let packet = |port, flags| from_workload().tcp(port, 443, flags, b"", b"data");
        let passes = |port| {
            let outcome = out(node, &packet(port, ACK));
            outcome.verdict == TC_NEXT && outcome.mark == BYPASS_MARK && outcome.bytes[14..] == packet(port, ACK)
        };
        assert!(passes(4000), "untouched");
        assert_eq!(out(node, &packet(4001, SYN)).verdict, TC_REDIRECT, "a new one is the persona's");
        assert_eq!(out(node, &packet(4001, ACK)).verdict, TC_REDIRECT, "and stays so");
        clock(60);
        assert_eq!(out(node, &packet(4000, ACK)).verdict, TC_REDIRECT, "the time is over: it gets a record");
    });
}
