//! What happens to IPv4 headers: options, DSCP and ECN, MSS, whole addresses, protocols without ports.

use super::frames::{Ip, MAC_A, MAC_B, ethernet, geneve};
use super::nat_frames::{assert_sums, icmp_error, with_options};
use super::nat_world::*;
use super::run::{Facts, run_tc};

/// Record route with room for one address, end of list.
const RECORD_ROUTE: [u8; 8] = [7, 7, 4, 0, 0, 0, 0, 0];
/// Router alert.
const ROUTER_ALERT: [u8; 4] = [148, 4, 0, 0];

#[test]
fn options_are_carried_as_they_are() {
    with_nat(&Wish::default(), |nat| {
        let full = [1; 40];
        let odd_mss = [&[1u8][..], &mss(1460), &[1, 1, 1]].concat();
        let odd_clamped = [&[1u8][..], &mss(1360), &[1, 1, 1]].concat();
        for options in [&ROUTER_ALERT[..], &RECORD_ROUTE, &[0, 9, 9, 9], &full, &[1, 1, 130, 2]] {
            for (what, sent, expected) in [
                ("UDP", from_workload(17).udp(INNER_PORT, 9, b"odd"), leased(17).udp(OUTER_PORT, 9, b"odd")),
                (
                    "UDP without a checksum",
                    from_workload(17).udp_unsummed(INNER_PORT, 9, b"x"),
                    leased(17).udp_unsummed(OUTER_PORT, 9, b"x"),
                ),
                (
                    "SYN",
                    from_workload(6).tcp(INNER_PORT, 9, SYN, &odd_mss, b""),
                    leased(6).tcp(OUTER_PORT, 9, SYN, &odd_clamped, b""),
                ),
                ("echo", from_workload(1).icmp(8, INNER_PORT), leased(1).icmp(8, OUTER_PORT)),
            ] {
                let got = nat.out(&with_options(&sent, options)).unwrap();
                assert_eq!(got, with_options(&expected, options), "{what} {options:?}");
                assert_sums(&got, what);
            }
            for (what, sent, expected) in [
                ("UDP", from_server(17).udp(9, OUTER_PORT, b"odd"), delivered(17).udp(9, INNER_PORT, b"odd")),
                (
                    "SYN-ACK",
                    from_server(6).tcp(9, OUTER_PORT, SYN | ACK, &odd_mss, b""),
                    delivered(6).tcp(9, INNER_PORT, SYN | ACK, &odd_clamped, b""),
                ),
                ("echo", from_server(1).icmp(0, OUTER_PORT), delivered(1).icmp(0, INNER_PORT)),
            ] {
                let got = nat.inward(&with_options(&sent, options)).unwrap();
                assert_eq!(got, with_options(&expected, options), "{what} {options:?}");
                assert_sums(&got, what);
            }
        }
    });
}

#[test]
fn every_echo_of_a_flow_goes_as_its_first_did_and_nothing_else_of_its_kind() {
    with_nat(&Wish::default(), |nat| {
        for round in 0..3 {
            let got = nat.out(&from_workload(1).icmp(8, INNER_PORT)).unwrap();
            assert_eq!(got, leased(1).icmp(8, OUTER_PORT), "request {round}");
            assert_sums(&got, "request");
            let got = nat.inward(&from_server(1).icmp(0, OUTER_PORT)).unwrap();
            assert_eq!(got, delivered(1).icmp(0, INNER_PORT), "answer {round}");
            assert_sums(&got, "answer");
        }
        let refused = Err("icmp-type".to_owned());
        assert_eq!(nat.out(&from_workload(1).icmp(0, INNER_PORT)), refused, "an answer to nobody");
        assert_eq!(nat.inward(&from_server(1).icmp(8, OUTER_PORT)), refused, "a stranger's request");
    });
}

#[test]
fn source_routes_and_options_that_lie_are_refused() {
    with_nat(&Wish::default(), |nat| {
        nat.udp_port(INNER_PORT, (SERVER, 9)).unwrap();
        for (reason, options) in [
            ("ip-options", &[131, 7, 4, 1, 2, 3, 4, 0][..]),
            ("ip-options", &[137, 7, 4, 1, 2, 3, 4, 0]),
            ("ip-options", &[1, 1, 1, 137, 7, 4, 1, 2, 3, 4, 0, 0]),
            ("ip-options", &[148, 4, 0, 0, 131, 3, 4, 0]),
            ("malformed", &[7, 0, 0, 0]),
            ("malformed", &[7, 1, 0, 0]),
            ("malformed", &[7, 5, 4, 0]),
            ("malformed", &[1, 1, 1, 7]),
        ] {
            let sent = from_workload(17).udp(INNER_PORT, 9, &[0xff; 40]);
            assert_eq!(nat.out(&with_options(&sent, options)), Err(reason.to_owned()), "outward {options:?}");
            let sent = from_server(17).udp(9, OUTER_PORT, &[0xff; 40]);
            assert_eq!(nat.inward(&with_options(&sent, options)), Err(reason.to_owned()), "inward {options:?}");
        }
    });
}

#[test]
fn frames_with_options_get_through_whole_or_not_at_all() {
    with_nat(&Wish::default(), |nat| {
        let syn = from_workload(6).tcp(INNER_PORT, 9, SYN, &mss(1460), b"data");
        let frame = ethernet(0x0800, &with_options(&syn, &RECORD_ROUTE));
        nat.tcp_port(INNER_PORT, (SERVER, 9), SYN).unwrap();
        let reply = from_server(6).tcp(9, OUTER_PORT, SYN | ACK, &mss(1460), b"data");
        let tunnel = ethernet(0x0800, &geneve(EDGE, NODE, 50_000, VNI, &with_options(&reply, &RECORD_ROUTE)));
        for (program, frame, least) in [("from_workload", frame, 34), ("from_edge", tunnel, 50)] {
            for length in least..frame.len() {
                let outcome = run_tc(nat.node.programs(), program, &frame[..length], Facts::default());
                assert_eq!(outcome.verdict, super::run::TC_DROP, "{program} with {length} bytes");
            }
            let outcome = run_tc(nat.node.programs(), program, &frame, Facts::default());
            assert_eq!(outcome.verdict, super::run::TC_REDIRECT, "{program}");
        }
    });
}

#[test]
fn dscp_is_set_or_kept_and_ecn_is_always_kept() {
    for (dscp, tos, expected) in [(None, 0xb9, 0xb9), (Some(46), 3, 0xbb), (Some(0), 0xb9, 1), (Some(63), 0, 0xfc)] {
        let mut wish = Wish::default();
        wish.egress.dscp = dscp;
        wish.egress.egress_class = 0x10_0007;
        with_nat(&wish, |nat| {
            let sent = Ip { tos, ..from_workload(17) }.udp(INNER_PORT, 9, b"x");
            let outcome = nat.run_out(&sent);
            assert_eq!(outcome.bytes[15], expected, "outside");
            assert_eq!(outcome.bytes[50..], Ip { tos: expected, ..leased(17) }.udp(OUTER_PORT, 9, b"x"), "inside");
            assert_eq!(outcome.priority, 0x10_0007, "the class of the queue");
        });
    }
}

#[test]
fn congestion_marks_of_the_tunnel_reach_the_workload() {
    with_nat(&Wish::default(), |nat| {
        nat.udp_port(INNER_PORT, (SERVER, 9)).unwrap();
        for (inner, outer, expected) in [
            (0xb8, 0, Some(0xb8)),
            (0xba, 3, Some(0xbb)),
            (0xb9, 3, Some(0xbb)),
            (0xbb, 0, Some(0xbb)),
            (0xb8, 3, None),
        ] {
            let reply = Ip { tos: inner, ..from_server(17) }.udp(9, OUTER_PORT, b"x");
            let mut tunnel = geneve(EDGE, NODE, 50_000, VNI, &reply);
            tunnel[1] = outer;
            let frame = ethernet(0x0800, &tunnel);
            let before = nat.drops();
            let outcome = run_tc(nat.node.programs(), "from_edge", &frame, Facts::default());
            match expected {
                Some(tos) => {
                    assert_eq!(outcome.bytes[14..], Ip { tos, ..delivered(17) }.udp(9, INNER_PORT, b"x"), "{inner:x}")
                }
                None => assert_eq!(super::run::new_drops(&before, &nat.drops()), [("ecn".to_owned(), 1)]),
            }
        }
    });
}

#[test]
fn a_whole_address_keeps_every_port_and_carries_protocols_without() {
    with_nat(&Wish::whole(), |nat| {
        for port in [1, 80, 1023, 1024, 40_000, 65_535] {
            assert_eq!(nat.udp_port(port, (SERVER, 9)), Ok(port), "UDP {port}");
            assert_eq!(nat.tcp_port(port, (SERVER, 9), SYN), Ok(port), "TCP {port}");
            assert_eq!(nat.udp_in((SERVER, 9), port), Ok(port), "back {port}");
        }
        let given = nat.udp_port(0, (SERVER, 9)).unwrap();
        assert_ne!(given, 0, "port 0 is nobody's");
        for protocol in [47, 50, 132] {
            let got = nat.out(&from_workload(protocol).packet(&[7; 33])).unwrap();
            assert_eq!(got, leased(protocol).packet(&[7; 33]), "{protocol} outward");
            let got = nat.inward(&from_server(protocol).packet(&[7; 33])).unwrap();
            assert_eq!(got, delivered(protocol).packet(&[7; 33]), "{protocol} inward");
        }
    });
    with_nat(&Wish::default(), |nat| {
        let reason = Err("protocol-without-port".to_owned());
        assert_eq!(nat.out(&from_workload(47).packet(&[7; 33])), reason);
        nat.udp_port(INNER_PORT, (SERVER, 9)).unwrap();
        assert_eq!(nat.inward(&from_server(47).packet(&[7; 33])), Err("unleased".to_owned()));
    });
}

#[test]
fn a_time_to_live_that_runs_out_is_told_to_the_workload() {
    with_nat(&Wish::default(), |nat| {
        nat.udp_port(INNER_PORT, (SERVER, 9)).unwrap();
        for ttl in [0, 1] {
            let packet = Ip { ttl, ..from_workload(17) }.udp(INNER_PORT, 9, b"payload");
            let before = nat.drops();
            let outcome = nat.run_out(&packet);
            let answer = icmp_error(Ip { tos: 0xc0, ..Ip::new(NODE, WORKLOAD, 1) }, 11, 0, 0, &packet[..28]);
            assert_eq!(outcome.verdict, super::run::TC_REDIRECT);
            assert_eq!(outcome.bytes, [&MAC_A[..], &MAC_B, &[8, 0], &answer].concat());
            assert_sums(&answer, "the answer");
            assert_eq!(super::run::new_drops(&before, &nat.drops()), [("ttl-expired".to_owned(), 1)]);
        }
        // Nobody is told of an error that doesn't get there.
        let error = icmp_error(Ip { ttl: 1, ..from_workload(1) }, 3, 3, 0, &delivered(17).udp(9, INNER_PORT, b"x"));
        assert_eq!(nat.out(&error), Err("ttl-expired".to_owned()));
        let reply = Ip { ttl: 1, ..from_server(17) }.udp(9, OUTER_PORT, b"x");
        assert_eq!(nat.inward(&reply), Err("ttl-expired".to_owned()), "outwards only");
    });
}

#[test]
fn addresses_in_payloads_stay_as_they_are() {
    with_nat(&Wish::default(), |nat| {
        nat.tcp_port(INNER_PORT, (SERVER, 21), SYN).unwrap();
        // FTP's active mode (RFC 959 §4.1.2): address and port of the workload's own, as text.
        for payload in [&b"PORT 10,1,0,2,156,64\r\n"[..], b"EPRT |1|10.1.0.2|40000|\r\n"] {
            let got = nat.out(&from_workload(6).tcp(INNER_PORT, 21, ACK, b"", payload)).unwrap();
            assert_eq!(got, leased(6).tcp(OUTER_PORT, 21, ACK, b"", payload));
            assert_sums(&got, "PORT");
        }
        let answer = b"227 Entering Passive Mode (192,0,2,100,20,64)\r\n";
        let got = nat.inward(&from_server(6).tcp(21, OUTER_PORT, ACK, b"", answer)).unwrap();
        assert_eq!(got, delivered(6).tcp(21, INNER_PORT, ACK, b"", answer));
        // SIP (RFC 3261 §18.1.1) over UDP.
        let register = b"REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.2:40000\r\n\r\n";
        let got = nat.out(&from_workload(17).udp(INNER_PORT, 5_060, register)).unwrap();
        assert_eq!(got, leased(17).udp(OUTER_PORT, 5_060, register));
    });
}
