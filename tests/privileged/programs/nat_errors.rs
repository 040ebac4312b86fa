//! ICMP errors in both directions: outer and embedded headers translated, every checksum right, no state touched.

use std::net::Ipv4Addr;

use super::frames::Ip;
use super::nat_frames::{assert_sums, icmp_error, with_options};
use super::nat_world::*;

/// A router on the way, whose errors carry its own address.
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const OPTIONS: [u8; 8] = [7, 7, 4, 0, 0, 0, 0, 0];

/// Packets as the world outside saw them, and as the workload had sent them.
fn embedded_pairs() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let (outside, inside) = (Ip::new(EGRESS, SERVER, 0), Ip::new(WORKLOAD, SERVER, 0));
    let with = |ip: Ip, protocol| Ip { protocol, ..ip };
    let (udp, udp_inside) = (with(outside, 17), with(inside, 17));
    let (tcp, tcp_inside) = (with(outside, 6), with(inside, 6));
    vec![
        ("UDP", udp.udp(OUTER_PORT, 9, b"odd"), udp_inside.udp(INNER_PORT, 9, b"odd")),
        ("UDP without a checksum", udp.udp_unsummed(OUTER_PORT, 9, b"x"), udp_inside.udp_unsummed(INNER_PORT, 9, b"x")),
        ("TCP", tcp.tcp(OUTER_PORT, 9, ACK, b"", b"data"), tcp_inside.tcp(INNER_PORT, 9, ACK, b"", b"data")),
        ("echo", with(outside, 1).icmp(8, OUTER_PORT), with(inside, 1).icmp(8, INNER_PORT)),
    ]
}

fn open_flows(nat: &Nat) {
    nat.udp_port(INNER_PORT, (SERVER, 9)).unwrap();
    nat.tcp_port(INNER_PORT, (SERVER, 9), SYN).unwrap();
    nat.out(&from_workload(1).icmp(8, INNER_PORT)).unwrap();
}

#[test]
fn errors_from_outside_reach_the_workload_translated() {
    with_nat(&Wish::default(), |nat| {
        open_flows(nat);
        let (from, to) = (Ip::new(ROUTER, EGRESS, 1), Ip { ttl: 63, ..Ip::new(ROUTER, WORKLOAD, 1) });
        for (kind, code, parameter) in [(3, 1, 0), (3, 3, 0), (3, 4, 1280), (11, 0, 0), (11, 1, 0), (12, 0, 5 << 24)] {
            for (what, outside, inside) in embedded_pairs() {
                // All of it, and no more than RFC 792 asks for: the embedded header and eight bytes.
                for embedded_length in [outside.len(), 28] {
                    let what = format!("{what}, type {kind}, {embedded_length} bytes");
                    let sent = icmp_error(from, kind, code, parameter, &outside[..embedded_length]);
                    let got = nat.inward(&sent).unwrap_or_else(|reason| panic!("{what}: {reason}"));
                    assert_eq!(got, icmp_error(to, kind, code, parameter, &inside[..embedded_length]), "{what}");
                    assert_sums(&got, &what);
                }
            }
        }
    });
}

#[test]
fn errors_of_the_workload_leave_translated() {
    with_nat(&Wish::default(), |nat| {
        open_flows(nat);
        let (from, to) = (from_workload(1), leased(1));
        let (inside, outside) = (Ip { ttl: 50, ..delivered(17) }, Ip { ttl: 50, ..from_server(17) });
        let tcp = |ip: Ip| Ip { protocol: 6, ..ip };
        let echo = |ip: Ip| Ip { protocol: 1, ..ip };
        for (what, sent, expected) in [
            ("UDP", inside.udp(9, INNER_PORT, b"odd"), outside.udp(9, OUTER_PORT, b"odd")),
            (
                "UDP without a checksum",
                inside.udp_unsummed(9, INNER_PORT, b"x"),
                outside.udp_unsummed(9, OUTER_PORT, b"x"),
            ),
            (
                "TCP",
                tcp(inside).tcp(9, INNER_PORT, SYN | ACK, b"", b""),
                tcp(outside).tcp(9, OUTER_PORT, SYN | ACK, b"", b""),
            ),
            ("echo reply", echo(inside).icmp(0, INNER_PORT), echo(outside).icmp(0, OUTER_PORT)),
        ] {
            for embedded_length in [sent.len(), 28] {
                let got = nat.out(&icmp_error(from, 3, 3, 0, &sent[..embedded_length]));
                let got = got.unwrap_or_else(|reason| panic!("{what}: {reason}"));
                assert_eq!(got, icmp_error(to, 3, 3, 0, &expected[..embedded_length]), "{what}");
                assert_sums(&got, what);
            }
        }
        // A stranger's packet that endpoint-independent filtering let in may be refused too.
        let stranger = |ip: Ip| Ip { source: OTHER_SERVER, ..ip };
        let sent =
            icmp_error(Ip { destination: OTHER_SERVER, ..from }, 3, 3, 0, &stranger(inside).udp(77, INNER_PORT, b"x"));
        let expected =
            icmp_error(Ip { destination: OTHER_SERVER, ..to }, 3, 3, 0, &stranger(outside).udp(77, OUTER_PORT, b"x"));
        assert_eq!(nat.out(&sent).unwrap(), expected);
    });
}

#[test]
fn options_in_either_header_are_stepped_over() {
    with_nat(&Wish::default(), |nat| {
        open_flows(nat);
        let (from, to) = (Ip::new(ROUTER, EGRESS, 1), Ip { ttl: 63, ..Ip::new(ROUTER, WORKLOAD, 1) });
        for (what, outside, inside) in embedded_pairs() {
            let long = [1; 40];
            for (outer_options, embedded_options) in [(&OPTIONS[..], &[][..]), (&[], &OPTIONS), (&long, &long)] {
                let embed = |ip, packet: &[u8]| {
                    with_options(&icmp_error(ip, 3, 1, 0, &with_options(packet, embedded_options)), outer_options)
                };
                let got = nat.inward(&embed(from, &outside)).unwrap_or_else(|reason| panic!("{what}: {reason}"));
                assert_eq!(got, embed(to, &inside), "{what} {outer_options:?} {embedded_options:?}");
                assert_sums(&got, what);
            }
        }
    });
}

#[test]
fn hostile_errors_are_refused() {
    with_nat(&Wish::default(), |nat| {
        open_flows(nat);
        let from = Ip::new(ROUTER, EGRESS, 1);
        let udp = Ip::new(EGRESS, SERVER, 17).udp(OUTER_PORT, 9, b"payload!");
        let with = |at: usize, value: u8| {
            let mut packet = udp.clone();
            packet[at] = value;
            packet
        };
        let to_other = Ip::new(EGRESS, OTHER_SERVER, 17).udp(OUTER_PORT, 9, b"x");
        for (what, reason, embedded) in [
            ("embedded version", "malformed", with(0, 0x65)),
            ("embedded header too short", "malformed", with(0, 0x44)),
            ("embedded header beyond the end", "malformed", with(0, 0x4f)),
            ("embedded header and too little", "malformed", udp[..27].to_vec()),
            ("nothing embedded", "malformed", vec![]),
            ("embedded later fragment", "fragment", with(7, 1)),
            ("embedded protocol without ports", "no-mapping", with(9, 47)),
            ("embedded ICMP that is no echo", "no-mapping", Ip::new(EGRESS, SERVER, 1).icmp(13, OUTER_PORT)),
            ("another flow's remote", "no-mapping", to_other),
            ("another source", "no-mapping", Ip::new(SERVER, EGRESS, 17).udp(OUTER_PORT, 9, b"x")),
            ("no such port", "no-mapping", Ip::new(EGRESS, SERVER, 17).udp(OUTER_PORT + 1, 9, b"x")),
            ("nobody's block", "unleased", Ip::new(EGRESS, SERVER, 17).udp(9000, 9, b"x")),
        ] {
            let error = icmp_error(from, 3, 1, 0, &embedded);
            assert_eq!(nat.inward(&error), Err(reason.to_owned()), "{what}");
        }
        for (kind, reason) in [(4, "icmp-type"), (5, "icmp-type"), (13, "icmp-type"), (8, "icmp-type")] {
            assert_eq!(nat.inward(&icmp_error(from, kind, 0, 0, &udp)), Err(reason.to_owned()), "type {kind}");
        }
        // The error itself in a fragment.
        let mut first = icmp_error(from, 3, 1, 0, &udp[..32]);
        first[6] = 0x20;
        assert_eq!(nat.inward(&first), Err("fragment".to_owned()));
        // From the workload: about a packet that it never got, or to somebody else than its sender.
        let inside = delivered(17).udp(9, INNER_PORT + 1, b"x");
        assert_eq!(nat.out(&icmp_error(from_workload(1), 3, 3, 0, &inside)), Err("no-mapping".to_owned()));
        let inside = delivered(17).udp(9, INNER_PORT, b"x");
        let elsewhere = Ip { destination: OTHER_SERVER, ..from_workload(1) };
        assert_eq!(nat.out(&icmp_error(elsewhere, 3, 3, 0, &inside)), Err("no-mapping".to_owned()));
    });
}

#[test]
fn errors_get_through_whole_or_not_at_all() {
    with_nat(&Wish::default(), |nat| {
        open_flows(nat);
        let (_, outside, _) = embedded_pairs().swap_remove(2);
        let error = with_options(&icmp_error(Ip::new(ROUTER, EGRESS, 1), 3, 1, 0, &outside), &OPTIONS);
        for length in 2..error.len() {
            assert!(nat.inward(&error[..length]).is_err(), "{length} bytes");
        }
    });
}

#[test]
fn errors_neither_make_nor_refresh_nor_end_anything() {
    with_nat(&Wish::default(), |nat| {
        open_flows(nat);
        let (_, outside, _) = embedded_pairs().swap_remove(0);
        let error = icmp_error(Ip::new(ROUTER, EGRESS, 1), 3, 3, 0, &outside);
        nat.advance(20);
        nat.inward(&error).unwrap();
        nat.advance(9);
        nat.inward(&error).expect("an unanswered UDP mapping lives for 30 s, and an error does not end it");
        nat.advance(1);
        assert_eq!(nat.inward(&error), Err("no-mapping".to_owned()), "the errors have not kept it alive");
        assert_eq!(nat.udp_in((SERVER, 9), OUTER_PORT), Err("no-mapping".to_owned()));
    });
}

/// RFC 5382 REQ-10: neither the connection nor its mapping ends, whatever is said about it, and nothing lives longer.
#[test]
fn errors_leave_tcp_connections_alone() {
    with_nat(&Wish::default(), |nat| {
        nat.tcp_port(INNER_PORT, (SERVER, 9), SYN).unwrap();
        let (_, outside, _) = embedded_pairs().swap_remove(2);
        let error = |kind, code| icmp_error(Ip::new(ROUTER, EGRESS, 1), kind, code, 0, &outside);
        let all = [(3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (11, 0), (12, 0)];
        for (kind, code) in all {
            nat.inward(&error(kind, code)).expect("an error about a connection that is being opened");
        }
        assert_eq!(nat.tcp_in((SERVER, 9), OUTER_PORT, SYN | ACK), Ok(INNER_PORT), "the handshake goes on");
        assert_eq!(nat.tcp_port(INNER_PORT, (SERVER, 9), ACK), Ok(OUTER_PORT));
        for (kind, code) in all {
            nat.inward(&error(kind, code)).expect("an error about an open connection");
            assert_eq!(nat.tcp_in((SERVER, 9), OUTER_PORT, ACK), Ok(INNER_PORT), "after type {kind} code {code}");
            assert_eq!(nat.tcp_port(INNER_PORT, (SERVER, 9), ACK), Ok(OUTER_PORT), "after type {kind} code {code}");
        }
        nat.advance(7_439);
        nat.inward(&error(3, 1)).expect("an idle connection lives for 7,440 s");
        nat.advance(1);
        assert_eq!(nat.inward(&error(3, 1)), Err("no-mapping".to_owned()), "the error has not kept it alive");
    });
}

/// RFC 5508 REQ-3: who receives an error judges its checksums, so what came wrong arrives just as wrong.
#[test]
fn a_wrong_checksum_stays_wrong() {
    with_nat(&Wish::default(), |nat| {
        open_flows(nat);
        let (from, to) = (Ip::new(ROUTER, EGRESS, 1), Ip { ttl: 63, ..Ip::new(ROUTER, WORKLOAD, 1) });
        for (what, outside, inside, l4_checksum_at) in [
            ("UDP", embedded_pairs().swap_remove(0), 28 + 20 + 6),
            ("TCP", embedded_pairs().swap_remove(2), 28 + 20 + 16),
        ]
        .map(|(what, (_, outside, inside), at)| (what, outside, inside, at))
        {
            let (sent, right) = (icmp_error(from, 3, 1, 0, &outside), icmp_error(to, 3, 1, 0, &inside));
            for (field, at) in [("ICMP", 22), ("embedded IP", 28 + 10), ("embedded", l4_checksum_at)] {
                let mut wrong = sent.clone();
                wrong[at] ^= 0x10;
                let got = nat.inward(&wrong).unwrap_or_else(|reason| panic!("{what}, {field}: {reason}"));
                let differs: Vec<usize> = (0..got.len()).filter(|index| got[*index] != right[*index]).collect();
                let is_that_field = !differs.is_empty() && differs.iter().all(|index| (at..at + 2).contains(index));
                assert!(is_that_field, "{what}, {field} checksum: bytes {differs:?} differ from the right ones");
            }
        }
    });
}
