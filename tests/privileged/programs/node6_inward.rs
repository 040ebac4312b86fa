//! IPv6 from an edge, over tunnels of either family.

use persona_common::PERSONA_MARK;
use persona_ctl::dataplane::NodeDataplane;
use persona_ctl::dataplane::tables::{Filtering, LeaseSpace};

use super::frames::ethernet;
use super::frames6::{Ip6, kind_of, tunnel};
use super::node6_world::*;
use super::run::{Facts, TC_DROP, TC_NEXT, TC_REDIRECT, run_tc};

const SYN: u8 = 2;
const ACK: u8 = 16;

fn from_server() -> Ip6 {
    Ip6::new(server6(), leased6())
}

fn to_workload() -> Ip6 {
    Ip6 { hop_limit: 63, ..Ip6::new(server6(), workload6()) }
}

fn mss(value: u16) -> [u8; 4] {
    [2, 4, (value >> 8) as u8, value as u8]
}

/// Opens one flow of each kind.
fn open(node: &NodeDataplane) {
    for packet in [
        from_workload().udp(4000, 99, b""),
        from_workload().tcp(4000, 99, SYN, b"", b""),
        from_workload().echo(128, 4000),
    ] {
        assert_eq!(out(node, &packet).verdict, TC_REDIRECT, "{:?}", node.counters().unwrap().drops);
    }
}

#[test]
fn replies_reach_the_workload() {
    for underlay in underlays() {
        with_node(&tables(underlay), |node| {
            open(node);
            for (what, packet, expected) in [
                ("UDP", from_server().udp(99, 4000, b"odd"), to_workload().udp(99, 4000, b"odd")),
                (
                    "SYN-ACK, MSS clamped",
                    from_server().tcp(99, 4000, SYN | ACK, &mss(1440), b""),
                    to_workload().tcp(99, 4000, SYN | ACK, &mss(1340), b""),
                ),
                ("echo reply", from_server().echo(129, 4000), to_workload().echo(129, 4000)),
            ] {
                let outcome = back(node, underlay, &packet);
                let drops = node.counters().unwrap().drops;
                assert_eq!(outcome.verdict, TC_REDIRECT, "{what} over {underlay:?}: {drops:?}");
                assert_eq!(outcome.bytes, ethernet(0x86dd, &expected), "{what} over {underlay:?}");
                assert_eq!(outcome.mark, PERSONA_MARK);
            }
            assert_eq!(node.counters().unwrap().subjects[&SUBJECT].traffic.ingress_packets, 3);
        });
    }
}

#[test]
fn strangers_and_lies_are_counted_drops() {
    for underlay in underlays() {
        with_node(&tables(underlay), |node| {
            open(node);
            let reply = from_server().udp(99, 4000, b"reply");
            let run = |outer: Vec<u8>| {
                run_tc(node.programs(), "from_edge", &ethernet(kind_of(&outer), &outer), Facts::default())
            };
            let stranger = if underlay.node.is_ipv4() { "10.0.0.9" } else { "fd00:9::9" }.parse().unwrap();
            refused(node, "unknown-peer", || run(tunnel(stranger, underlay.node, 1, VNI, &reply)));
            refused(node, "vni-mismatch", || run(tunnel(underlay.edge, underlay.node, 1, VNI + 1, &reply)));
            for (reason, packet) in [
                ("no-mapping", from_server().udp(99, 4001, b"")),
                ("unsolicited", from_server().tcp(99, 4001, SYN, b"", b"")),
                ("no-mapping", from_server().tcp(99, 4001, ACK, b"", b"")),
                ("unleased", Ip6::new(server6(), v6("2001:db8:0:78::2")).udp(99, 4000, b"")),
                // An identifier that no address of the workload's translates into.
                ("no-mapping", Ip6::new(server6(), v6("2001:db8:0:77:1::2")).udp(99, 4000, b"")),
                ("icmp-type", from_server().echo(128, 4000)),
                ("ttl-expired", Ip6 { hop_limit: 1, ..from_server() }.udp(99, 4000, b"")),
            ] {
                refused(node, reason, || back(node, underlay, &packet));
            }
            let own = tunnel(underlay.edge, underlay.node, 1, VNI, &reply);
            assert_eq!(run(own).verdict, TC_REDIRECT);
        });
    }
}

#[test]
fn filtering_is_by_the_local_side_or_by_the_remote_too() {
    let other = v6("2001:db8:ffff::6");
    let from_other = Ip6::new(other, leased6()).udp(1, 4000, b"");
    let opened = Ip6::new(other, leased6()).tcp(1, 4000, SYN, b"", b"");
    with_node(&tables(over4()), |node| {
        open(node);
        assert_eq!(back(node, over4(), &from_other).verdict, TC_REDIRECT, "a mapping in force lets anybody in");
        assert_eq!(back(node, over4(), &opened).verdict, TC_REDIRECT, "and opens connections (RFC 5382 REQ-3)");
    });
    let mut strict = tables(over4());
    network(&mut strict).filtering = Filtering::AddressAndPortDependent;
    with_node(&strict, |node| {
        open(node);
        refused(node, "no-mapping", || back(node, over4(), &from_other));
        refused(node, "unsolicited", || back(node, over4(), &opened));
        refused(node, "no-mapping", || back(node, over4(), &from_server().udp(98, 4000, b"")));
        assert_eq!(back(node, over4(), &from_server().udp(99, 4000, b"")).verdict, TC_REDIRECT);
    });
}

#[test]
fn an_answer_leaves_under_the_lease_that_a_stranger_has_addressed() {
    with_node(&tables(over4()), |node| {
        open(node);
        let mut switched = tables(over4());
        switched.leases.push(lease(10, LeaseSpace::Prefix { prefix: v6("2001:db8:0:78::") }));
        network(&mut switched).lease6 = Some(persona_core::ids::LeaseId(10));
        node.apply(&switched).unwrap();
        let other = v6("2001:db8:ffff::6");
        assert_eq!(back(node, over4(), &Ip6::new(other, leased6()).udp(1, 4000, b"")).verdict, TC_REDIRECT);
        let answer = out(node, &Ip6::new(workload6(), other).udp(4000, 1, b""));
        assert_eq!(answer.bytes[50 + 8..50 + 24], leased6().octets());
    });
}

#[test]
fn errors_belong_to_the_packet_that_they_embed() {
    let router = v6("2001:db8:eeee::1");
    for underlay in underlays() {
        with_node(&tables(underlay), |node| {
            open(node);
            let sent = from_lease().udp(4000, 99, b"what was sent");
            let seen = Ip6 { hop_limit: 63, ..from_workload() }.udp(4000, 99, b"what was sent");
            let echo = (from_lease().echo(128, 4000), Ip6 { hop_limit: 63, ..from_workload() }.echo(128, 4000));
            for (kind, (sent, seen)) in [
                (1, (&sent, &seen)),
                (2, (&sent, &seen)),
                (3, (&sent, &seen)),
                (4, (&sent, &seen)),
                (3, (&echo.0, &echo.1)),
            ] {
                let outcome = back(node, underlay, &Ip6::new(router, leased6()).error(kind, 1280, sent));
                let expected = Ip6 { hop_limit: 63, ..Ip6::new(router, workload6()) }.error(kind, 1280, seen);
                assert_eq!(outcome.verdict, TC_REDIRECT, "{kind}: {:?}", node.counters().unwrap().drops);
                assert_eq!(outcome.bytes, ethernet(0x86dd, &expected), "{kind}");
            }
            let about = |packet: &[u8]| Ip6::new(router, leased6()).error(1, 0, packet);
            for (reason, packet) in [
                ("no-mapping", about(&from_lease().udp(4000, 98, b"another flow"))),
                ("no-mapping", about(&Ip6::new(server6(), leased6()).udp(99, 4000, b"the wrong way"))),
                ("malformed", about(&sent[..47])),
                ("icmp-type", Ip6::new(router, leased6()).icmp(137, 0, &sent)),
            ] {
                refused(node, reason, || back(node, underlay, &packet));
            }
            // Out: the workload refuses what it got.
            let got = to_workload().udp(99, 4000, b"not wanted");
            let error = Ip6::new(workload6(), server6()).error(1, 0, &got);
            let leased = Ip6 { hop_limit: 63, ..Ip6::new(leased6(), server6()) };
            let told = leased.error(1, 0, &Ip6 { hop_limit: 63, ..from_server() }.udp(99, 4000, b"not wanted"));
            assert_eq!(out(node, &error).bytes, tunnelled_error(underlay, &told));
            let unknown = to_workload().udp(97, 4000, b"never came");
            refused(node, "no-mapping", || out(node, &Ip6::new(workload6(), server6()).error(1, 0, &unknown)));
        });
    }
}

fn tunnelled_error(underlay: Underlay, error: &[u8]) -> Vec<u8> {
    let hash = hash6(leased6(), server6(), 4000 << 16 | 99, super::frames6::ICMPV6);
    tunnelled_by(underlay, hash, error)
}

#[test]
fn fragments_follow_their_first() {
    for underlay in underlays() {
        with_node(&tables(underlay), |node| {
            open(node);
            let whole = from_server().udp(99, 4000, &[5; 80]);
            let seen = to_workload().udp(99, 4000, &[5; 80]);
            let sent = from_server().fragments(&whole, 48, 77);
            let expected = to_workload().fragments(&seen, 48, 77);
            refused(node, "no-slow-path", || back(node, underlay, &sent[1]));
            for (sent, expected) in sent.iter().zip(&expected) {
                let outcome = back(node, underlay, sent);
                assert_eq!(outcome.verdict, TC_REDIRECT, "{:?}", node.counters().unwrap().drops);
                assert_eq!(outcome.bytes, ethernet(0x86dd, expected));
            }
            let stranger = Ip6::new(v6("2001:db8:ffff::9"), leased6()).fragments(&whole, 48, 77);
            refused(node, "no-slow-path", || back(node, underlay, &stranger[1]));
        });
    }
}

#[test]
fn congestion_marks_cross_as_rfc_6040_says() {
    for underlay in underlays() {
        with_node(&tables(underlay), |node| {
            open(node);
            let run = |inner_class: u8, outer_ecn: u8| {
                let inner = Ip6 { class: inner_class, ..from_server() }.udp(99, 4000, b"x");
                let mut outer = tunnel(underlay.edge, underlay.node, 1, VNI, &inner);
                mark(&mut outer, outer_ecn);
                run_tc(node.programs(), "from_edge", &ethernet(kind_of(&outer), &outer), Facts::default())
            };
            for (inner, outer, seen) in [(0xb8, 0, 0xb8), (0xba, 3, 0xbb), (0xb9, 3, 0xbb), (0xbb, 2, 0xbb)] {
                let expected = Ip6 { class: seen, ..to_workload() }.udp(99, 4000, b"x");
                assert_eq!(run(inner, outer).bytes, ethernet(0x86dd, &expected), "{inner:x} in {outer}");
            }
            refused(node, "ecn", || run(0xb8, 3));
        });
    }
}

/// Sets the ECN field of an outer header; over IPv4 its checksum is nobody's business here but made right.
fn mark(outer: &mut [u8], ecn: u8) {
    if outer[0] >> 4 == 4 {
        outer[1] = outer[1] & !3 | ecn;
        outer[10..12].fill(0);
        let sum = super::frames::checksum(&outer[..20], 0);
        outer[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        outer[1] = outer[1] & !0x30 | ecn << 4;
    }
}

#[test]
fn truncated_tunnel_frames_never_get_through() {
    for underlay in underlays() {
        with_node(&tables(underlay), |node| {
            open(node);
            let outer = tunnel(underlay.edge, underlay.node, 1, VNI, &from_server().udp(99, 4000, b"data"));
            let frame = ethernet(kind_of(&outer), &outer);
            assert_eq!(run_tc(node.programs(), "from_edge", &frame, Facts::default()).verdict, TC_REDIRECT);
            let (start, ours) = if underlay.node.is_ipv4() { (34, 14 + 36) } else { (54, 14 + 56) };
            for length in start..frame.len() {
                let outcome = run_tc(node.programs(), "from_edge", &frame[..length], Facts::default());
                let verdict = if length >= ours { TC_DROP } else { TC_NEXT };
                assert_eq!(outcome.verdict, verdict, "{length} bytes over {underlay:?}");
            }
        });
    }
}
