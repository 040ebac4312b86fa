//! What a persona hides of its wearers' hosts (`spec.network.privacy.normalise`): hops, ids, flow labels, timestamps, the order
//! of options.

use persona_common::normalise::{HOPS_OUTSIDE, HOPS_TO_EDGE};
use persona_ctl::dataplane::tables::{Filtering, Normalisation};

use super::frames::{Ip, checksum};
use super::frames6::Ip6;
use super::nat_frames::{assert_sums, fragment, icmp_error, with_id, with_options};
use super::nat_world::*;
use super::node6_world::{self, back, from_lease, out, over4, server6, tables, tunnelled, with_node, workload6};
use super::run::TC_REDIRECT;

/// Timestamps as a host offers them, and what is left of them.
const OFFERED: [u8; 10] = [8, 10, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0];
const NOTHING: [u8; 10] = [1; 10];

fn hiding(normalise: Normalisation) -> Wish {
    let mut wish = Wish::default();
    wish.egress.normalise = normalise;
    wish
}

fn hops() -> Normalisation {
    Normalisation { hops: true, ..Normalisation::default() }
}

fn id() -> Normalisation {
    Normalisation { id: true, ..Normalisation::default() }
}

fn timestamps() -> Normalisation {
    Normalisation { timestamps: true, ..Normalisation::default() }
}

/// A SYN's options: behind `before`, timestamps or what is left of them, then a window scale.
fn options(before: &[u8], timestamps: &[u8; 10]) -> Vec<u8> {
    let mut options = [before, timestamps, &[3, 3, 7]].concat();
    options.resize(options.len().next_multiple_of(4), 0);
    options
}

#[test]
fn packets_leave_with_the_hops_of_the_persona() {
    assert_eq!(HOPS_TO_EDGE, HOPS_OUTSIDE + 1, "an edge counts one");
    with_nat(&hiding(hops()), |nat| {
        for ttl in [2, 3, 63, 64, 65, 127, 128, 255] {
            let sent = Ip { ttl, ..from_workload(17) }.udp(INNER_PORT, 9, b"x");
            let expected = Ip { ttl: HOPS_TO_EDGE, ..leased(17) }.udp(OUTER_PORT, 9, b"x");
            assert_eq!(nat.out(&sent), Ok(expected), "{ttl}");
        }
        let about = delivered(17).udp(9, INNER_PORT, b"x");
        let error = icmp_error(Ip { ttl: 9, ..from_workload(1) }, 3, 3, 0, &about);
        let left = nat.out(&error).unwrap();
        assert_eq!(left[8], HOPS_TO_EDGE, "an error's own");
        assert_sums(&left, "an error");
        let came = Ip { ttl: 9, ..from_server(17) }.udp(9, OUTER_PORT, b"x");
        assert_eq!(nat.inward(&came).unwrap()[8], 8, "inwards they are counted");
        // Still a hop of its own: a traceroute's first question is answered.
        let before = nat.drops();
        let outcome = nat.run_out(&Ip { ttl: 1, ..from_workload(17) }.udp(INNER_PORT, 9, b"x"));
        assert_eq!((outcome.verdict, outcome.bytes[34]), (TC_REDIRECT, 11), "time exceeded");
        assert_eq!(super::run::new_drops(&before, &nat.drops()), [("ttl-expired".to_owned(), 1)]);
    });
}

#[test]
fn fragments_leave_with_the_hops_of_the_persona_and_ids_of_their_block() {
    with_nat(&hiding(Normalisation { id: true, ..hops() }), |nat| {
        let packet = from_workload(17).udp(INNER_PORT, 9, &[7; 64]);
        let first = nat.out(&fragment(&packet, 5, 0, 32)).unwrap();
        let later = nat.out(&fragment(&packet, 5, 32, 72)).unwrap();
        for part in [&first, &later] {
            assert_eq!((part[8], u16::from_be_bytes([part[4], part[5]]) >> 10), (HOPS_TO_EDGE, 5));
            assert_eq!(part[4..6], first[4..6], "all under one");
        }
    });
}

#[test]
fn ids_of_the_host_do_not_leave() {
    with_nat(&hiding(id()), |nat| {
        let mut before = None;
        for own in [0, 1, 7_777, 7_778, 0xffff] {
            let sent = with_id(from_workload(17).udp(INNER_PORT, 9, b"x"), own);
            assert_eq!(nat.out(&sent), Ok(leased(17).udp(OUTER_PORT, 9, b"x")), "not to be cut: no id");
            let may_be_cut = |ip: Ip| Ip { dont_fragment: false, ..ip };
            let sent = with_id(may_be_cut(from_workload(17)).udp(INNER_PORT, 9, b"x"), own);
            let left = nat.out(&sent).unwrap();
            let id = u16::from_be_bytes([left[4], left[5]]);
            assert_eq!(id >> 10, 5, "of the lease's block");
            assert_ne!(before.replace(id), Some(id), "another one each time");
            assert_eq!(left, with_id(may_be_cut(leased(17)).udp(OUTER_PORT, 9, b"x"), id));
        }
    });
    with_nat(&Wish::default(), |nat| {
        let sent = with_id(from_workload(17).udp(INNER_PORT, 9, b"x"), 7_777);
        assert_eq!(nat.out(&sent), Ok(with_id(leased(17).udp(OUTER_PORT, 9, b"x"), 7_777)), "hidden where asked for");
    });
}

#[test]
fn ids_of_cut_packets_of_a_configured_address_stay_their_own() {
    let mut wish = Wish { configured: true, ..Wish::whole() };
    wish.egress.normalise = id();
    with_nat(&wish, |nat| {
        let packet = Ip::new(EGRESS, SERVER, 17).udp(INNER_PORT, 9, &[7; 64]);
        for (from, to) in [(0, 32), (32, 72)] {
            let left = nat.out(&fragment(&packet, 5, from, to)).unwrap();
            assert_eq!(left[4..6], [0, 5]);
        }
        assert_eq!(nat.out(&with_id(packet, 77)).unwrap()[4..6], [0, 0]);
    });
}

#[test]
fn neither_side_is_offered_timestamps() {
    let mut wish = hiding(timestamps());
    wish.egress.filtering = Filtering::EndpointIndependent;
    with_nat(&wish, |nat| {
        for before in [&[2, 4, 5, 0x78, 4, 2][..], &[1], &[1, 1], &[], &[4, 2, 1]] {
            for ip_options in [&[][..], &[148, 4, 0, 0]] {
                let (offer, left) = (options(before, &OFFERED), options(before, &NOTHING));
                let left = [&left[..]].concat();
                let clamped = if before.len() == 6 { mss_at_most(&left, 1360) } else { left };
                let sent = from_workload(6).tcp(INNER_PORT, 9, SYN, &offer, b"");
                let expected = leased(6).tcp(OUTER_PORT, 9, SYN, &clamped, b"");
                let got = nat.out(&with_options(&sent, ip_options)).unwrap();
                assert_eq!(got, with_options(&expected, ip_options), "outward {before:?}");
                assert_sums(&got, "SYN");
                let came = from_server(6).tcp(9, OUTER_PORT, SYN, &offer, b"");
                let expected = delivered(6).tcp(9, INNER_PORT, SYN, &clamped, b"");
                let got = nat.inward(&with_options(&came, ip_options)).unwrap();
                assert_eq!(got, with_options(&expected, ip_options), "inward {before:?}");
            }
        }
    });
}

/// Options that begin with an MSS, which is lowered.
fn mss_at_most(options: &[u8], limit: u16) -> Vec<u8> {
    [&mss(limit.min(u16::from_be_bytes([options[2], options[3]])))[..], &options[4..]].concat()
}

#[test]
fn timestamps_that_were_agreed_upon_stay() {
    with_nat(&hiding(timestamps()), |nat| {
        let agreed = [&OFFERED[..], &[1, 1]].concat();
        nat.tcp_port(INNER_PORT, (SERVER, 9), SYN).unwrap();
        for flags in [SYN | ACK, ACK] {
            let sent = from_workload(6).tcp(INNER_PORT, 9, flags, &agreed, b"data");
            assert_eq!(nat.out(&sent), Ok(leased(6).tcp(OUTER_PORT, 9, flags, &agreed, b"data")), "outward {flags}");
            let came = from_server(6).tcp(9, OUTER_PORT, flags, &agreed, b"data");
            assert_eq!(nat.inward(&came), Ok(delivered(6).tcp(9, INNER_PORT, flags, &agreed, b"data")), "{flags}");
        }
        // What only looks like them.
        for odd in [&[8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1][..], &[8, 10, 1, 2, 3, 4, 5, 6], &[0, 8, 10, 1]] {
            let sent = from_workload(6).tcp(INNER_PORT, 9, SYN, odd, b"");
            assert_eq!(nat.out(&sent), Ok(leased(6).tcp(OUTER_PORT, 9, SYN, odd, b"")), "{odd:?}");
        }
    });
}

/// What systems offer in a SYN, and the same in the one order: Linux, Windows, Darwin, one that asks for Fast Open with a
/// cookie, one without more than an MSS.
const OFFERS: [(&[u8], &[u8]); 5] = [
    (
        &[2, 4, 5, 0x50, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7],
        &[2, 4, 5, 0x50, 3, 3, 7, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1],
    ),
    (&[2, 4, 5, 0x50, 1, 3, 3, 8, 1, 1, 4, 2], &[2, 4, 5, 0x50, 3, 3, 8, 4, 2, 1, 1, 1]),
    (
        &[2, 4, 5, 0x50, 1, 3, 3, 6, 1, 1, 8, 10, 9, 8, 7, 6, 0, 0, 0, 0, 4, 2, 0, 0],
        &[2, 4, 5, 0x50, 3, 3, 6, 4, 2, 8, 10, 9, 8, 7, 6, 0, 0, 0, 0, 1, 1, 1, 1, 1],
    ),
    (
        &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 4, 2, 2, 4, 5, 0x50, 1, 3, 3, 9],
        &[2, 4, 5, 0x50, 3, 3, 9, 4, 2, 34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1],
    ),
    (&[2, 4, 5, 0x50], &[2, 4, 5, 0x50]),
];

/// No list of options, or one that is signed.
const LEFT_ALONE: [&[u8]; 5] = [
    &[4, 2, 3, 3, 7, 2, 9, 1],
    &[4, 2, 3, 0, 7, 1, 1, 1],
    &[4, 2, 1, 1, 1, 1, 1, 3],
    &[4, 2, 19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
    &[4, 2, 29, 6, 1, 2, 3, 4],
];

fn with_window(packet: Vec<u8>, window: u16) -> Vec<u8> {
    let at = usize::from(packet[0] & 15) * 4;
    let mut packet = packet;
    packet[at + 14..at + 16].copy_from_slice(&window.to_be_bytes());
    packet[at + 16..at + 18].fill(0);
    let pseudo = packet[12..20].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u32>();
    let sum = checksum(&packet[at..], pseudo + 6 + (packet.len() - at) as u32);
    packet[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn what_is_offered_leaves_in_one_order_whoever_offers_it() {
    let arranged = Normalisation { options: true, ..Normalisation::default() };
    let mut wish = hiding(arranged);
    wish.egress.filtering = Filtering::EndpointIndependent;
    with_nat(&wish, |nat| {
        nat.tcp_port(INNER_PORT, (SERVER, 9), SYN).unwrap();
        for (offered, left) in OFFERS {
            for ip_options in [&[][..], &[148, 4, 0, 0]] {
                for flags in [SYN, SYN | ACK] {
                    for (window, shown) in [(65_535, 16_384), (16_385, 16_384), (16_384, 16_384), (512, 512), (0, 0)] {
                        let sent = with_window(from_workload(6).tcp(INNER_PORT, 9, flags, offered, b""), window);
                        let expected = with_window(leased(6).tcp(OUTER_PORT, 9, flags, left, b""), shown);
                        let got = nat.out(&with_options(&sent, ip_options)).unwrap();
                        assert_eq!(got, with_options(&expected, ip_options), "{offered:?}, window {window}");
                        assert_sums(&got, "SYN");
                    }
                }
            }
            // Who answers is who he is, and segments with data are none of it.
            let came = with_window(from_server(6).tcp(9, OUTER_PORT, SYN | ACK, offered, b""), 65_535);
            let expected = with_window(delivered(6).tcp(9, INNER_PORT, SYN | ACK, offered, b""), 65_535);
            assert_eq!(nat.inward(&came), Ok(expected), "inward");
            let sent = with_window(from_workload(6).tcp(INNER_PORT, 9, ACK, offered, b"data"), 65_535);
            let expected = with_window(leased(6).tcp(OUTER_PORT, 9, ACK, offered, b"data"), 65_535);
            assert_eq!(nat.out(&sent), Ok(expected), "established");
        }
        for odd in LEFT_ALONE {
            let sent = with_window(from_workload(6).tcp(INNER_PORT, 9, SYN, odd, b""), 65_535);
            let expected = with_window(leased(6).tcp(OUTER_PORT, 9, SYN, odd, b""), 65_535);
            assert_eq!(nat.out(&sent), Ok(expected), "{odd:?}");
        }
        // Data that comes with a SYN (Fast Open) stays where it is.
        let (offered, left) = OFFERS[3];
        let sent = from_workload(6).tcp(INNER_PORT, 9, SYN, offered, b"GET /");
        assert_eq!(nat.out(&sent), Ok(leased(6).tcp(OUTER_PORT, 9, SYN, left, b"GET /")));
    });
}

#[test]
fn an_order_and_hidden_timestamps_go_together_in_both_families() {
    let both = Normalisation { timestamps: true, options: true, ..Normalisation::default() };
    let (offered, _) = OFFERS[0];
    let left = [&[2, 4, 5, 0x50, 3, 3, 7, 4, 2][..], &[1; 11]].concat();
    with_nat(&hiding(both), |nat| {
        let sent = from_workload(6).tcp(INNER_PORT, 9, SYN, offered, b"");
        assert_eq!(nat.out(&sent), Ok(leased(6).tcp(OUTER_PORT, 9, SYN, &left, b"")));
    });
    let mut tables = tables(over4());
    node6_world::network(&mut tables).normalise = both;
    let left = [&[2, 4, 5, 0x3c, 3, 3, 7, 4, 2][..], &[1; 11]].concat();
    with_node(&tables, |node| {
        let sent = Ip6::new(workload6(), server6()).tcp(4000, 443, SYN, offered, b"");
        let inner = from_lease().tcp(4000, 443, SYN, &left, b"");
        assert_eq!(out(node, &sent).bytes, tunnelled(over4(), 4000, 443, 6, &inner));
    });
}

#[test]
fn ipv6_hides_hops_labels_and_timestamps() {
    let everything = Normalisation { hops: true, id: true, timestamps: true, options: false };
    let mut tables = tables(over4());
    node6_world::network(&mut tables).normalise = everything;
    let unlabelled = |mut packet: Vec<u8>| {
        packet[1] &= 0xf0;
        packet[2..4].fill(0);
        packet
    };
    let (offer, left) = (options(&[2, 4, 5, 0, 1], &OFFERED), options(&[2, 4, 5, 0, 1], &NOTHING));
    with_node(&tables, |node| {
        for hop_limit in [2, 64, 255] {
            let sent = Ip6 { hop_limit, class: 0xb9, ..Ip6::new(workload6(), server6()) };
            let leased = Ip6 { hop_limit: HOPS_TO_EDGE, class: 0xb9, ..from_lease() };
            for (protocol, packet, inner) in [
                (17, sent.udp(4000, 443, b"odd"), leased.udp(4000, 443, b"odd")),
                (6, sent.tcp(4000, 443, SYN, &offer, b""), leased.tcp(4000, 443, SYN, &left, b"")),
            ] {
                let outcome = out(node, &packet);
                let expected = tunnelled(over4(), 4000, 443, protocol, &unlabelled(inner));
                assert_eq!(outcome.bytes, expected, "{protocol}, {hop_limit} hops");
            }
        }
        let came = Ip6::new(server6(), node6_world::leased6()).tcp(443, 4000, SYN, &offer, b"");
        let expected = Ip6 { hop_limit: 63, ..Ip6::new(server6(), workload6()) }.tcp(443, 4000, SYN, &left, b"");
        assert_eq!(back(node, over4(), &came).bytes[14..], expected, "inwards labels are the server's");
        for part in from_workload6().fragments(&from_workload6().udp(4001, 53, &[7; 64]), 32, 5) {
            let left = out(node, &part).bytes;
            let inner = &left[14 + 36..];
            assert_eq!((inner[7], inner[1] & 15, &inner[2..4]), (HOPS_TO_EDGE, 0, &[0, 0][..]), "a fragment");
        }
    });
}

fn from_workload6() -> Ip6 {
    Ip6::new(workload6(), server6())
}
