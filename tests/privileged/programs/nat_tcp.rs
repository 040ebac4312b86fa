//! The life of TCP flows, who is let in, and every timer, told through packets.

use std::time::Duration;

use persona_common::BYPASS_MARK;
use persona_ctl::dataplane::NodeDataplane;
use persona_ctl::dataplane::tables::Filtering;

use super::frames::Ip;
use super::nat_world::*;
use super::run::TC_NEXT;

const REMOTE: (std::net::Ipv4Addr, u16) = (SERVER, 443);
const OTHER: (std::net::Ipv4Addr, u16) = (OTHER_SERVER, 443);

fn no_mapping<T>() -> Result<T, String> {
    Err("no-mapping".to_owned())
}

/// Opens a flow and has it answered.
fn establish(nat: &Nat, remote: (std::net::Ipv4Addr, u16)) {
    assert_eq!(nat.tcp_port(INNER_PORT, remote, SYN), Ok(OUTER_PORT));
    assert_eq!(nat.tcp_in(remote, OUTER_PORT, SYN | ACK), Ok(INNER_PORT));
    assert_eq!(nat.tcp_port(INNER_PORT, remote, ACK), Ok(OUTER_PORT));
}

/// Brings a mapping into the state that a case is about.
type Prepare = fn(&Nat);

/// Whether the mapping is there one second before the limit, and gone at it. A stranger asks: that refreshes nothing.
fn assert_lives_for(nat: &Nat, secs: u32, what: &str) {
    let stranger = (std::net::Ipv4Addr::new(198, 51, 100, 77), 1);
    nat.advance(secs - 1);
    assert_eq!(nat.tcp_in(stranger, OUTER_PORT, ACK), Ok(INNER_PORT), "{what}: one second before");
    nat.advance(1);
    assert_eq!(nat.tcp_in(stranger, OUTER_PORT, ACK), no_mapping(), "{what}: at its end");
}

#[test]
fn tcp_mappings_live_as_long_as_their_state_says() {
    let cases: [(&str, u32, Prepare); 9] = [
        ("unanswered", 120, |nat| {
            nat.tcp_port(INNER_PORT, REMOTE, SYN).unwrap();
        }),
        ("established", 7440, |nat| establish(nat, REMOTE)),
        ("half closed by the workload", 7440, |nat| {
            establish(nat, REMOTE);
            nat.tcp_port(INNER_PORT, REMOTE, FIN | ACK).unwrap();
        }),
        ("half closed by the server", 7440, |nat| {
            establish(nat, REMOTE);
            nat.tcp_in(REMOTE, OUTER_PORT, FIN | ACK).unwrap();
        }),
        ("closed by both", 60, |nat| {
            establish(nat, REMOTE);
            nat.tcp_port(INNER_PORT, REMOTE, FIN | ACK).unwrap();
            nat.tcp_in(REMOTE, OUTER_PORT, FIN | ACK).unwrap();
            nat.tcp_port(INNER_PORT, REMOTE, ACK).unwrap();
        }),
        ("reset by the workload", 10, |nat| {
            establish(nat, REMOTE);
            nat.tcp_port(INNER_PORT, REMOTE, RST).unwrap();
        }),
        ("reset by the server", 10, |nat| {
            establish(nat, REMOTE);
            nat.tcp_in(REMOTE, OUTER_PORT, RST).unwrap();
        }),
        ("reset by the server, but the workload goes on", 7440, |nat| {
            establish(nat, REMOTE);
            nat.tcp_in(REMOTE, OUTER_PORT, RST).unwrap();
            nat.advance(9);
            nat.tcp_port(INNER_PORT, REMOTE, ACK).unwrap();
        }),
        ("closed, then opened anew and unanswered", 120, |nat| {
            establish(nat, REMOTE);
            nat.tcp_port(INNER_PORT, REMOTE, RST).unwrap();
            nat.tcp_port(INNER_PORT, REMOTE, SYN).unwrap();
        }),
    ];
    for (what, secs, prepare) in cases {
        with_nat(&Wish::default(), |nat| {
            prepare(nat);
            assert_lives_for(nat, secs, what);
        });
    }
}

#[test]
fn one_flow_ends_without_the_others_under_its_port() {
    for (what, end) in [("FIN", FIN | ACK), ("RST", RST)] {
        with_nat(&Wish::default(), |nat| {
            establish(nat, REMOTE);
            establish(nat, OTHER);
            nat.tcp_port(INNER_PORT, REMOTE, end).unwrap();
            nat.tcp_in(REMOTE, OUTER_PORT, end).unwrap();
            nat.advance(7000);
            assert_eq!(nat.tcp_port(INNER_PORT, OTHER, ACK), Ok(OUTER_PORT), "{what}: the other flow goes on");
            nat.tcp_port(INNER_PORT, OTHER, end).unwrap();
            nat.tcp_in(OTHER, OUTER_PORT, end).unwrap();
            assert_lives_for(nat, if end == RST { 10 } else { 60 }, what);
        });
    }
}

#[test]
fn strangers_cannot_reset_or_close_what_is_not_theirs() {
    with_nat(&Wish::default(), |nat| {
        establish(nat, REMOTE);
        for flags in [RST, FIN | ACK, RST | ACK] {
            nat.tcp_in(OTHER, OUTER_PORT, flags).unwrap();
        }
        assert_lives_for(nat, 7440, "a stranger's RST");
    });
}

#[test]
fn connections_from_outside_are_let_in_by_endpoint_independent_filtering() {
    with_nat(&Wish::default(), |nat| {
        establish(nat, REMOTE);
        assert_eq!(nat.tcp_port(INNER_PORT, OTHER, ACK), Err("mid-stream".to_owned()), "nobody has asked");
        assert_eq!(nat.tcp_in(OTHER, OUTER_PORT, SYN), Ok(INNER_PORT));
        assert_eq!(nat.tcp_port(INNER_PORT, OTHER, SYN | ACK), Ok(OUTER_PORT), "the answer");
        assert_eq!(nat.tcp_in(OTHER, OUTER_PORT, ACK), Ok(INNER_PORT));
        assert_eq!(nat.tcp_port(INNER_PORT, OTHER, ACK), Ok(OUTER_PORT), "and on it goes");
        let third = (SERVER, 999);
        assert_eq!(nat.tcp_in(third, OUTER_PORT, SYN), Ok(INNER_PORT));
        assert_eq!(nat.tcp_port(INNER_PORT, third, RST | ACK), Ok(OUTER_PORT), "a refusal passes");
        assert_eq!(nat.tcp_port(INNER_PORT, third, ACK), Err("mid-stream".to_owned()), "and leaves nothing behind");
    });
}

#[test]
fn both_sides_may_open_at_once() {
    with_nat(&Wish::default(), |nat| {
        assert_eq!(nat.tcp_port(INNER_PORT, REMOTE, SYN), Ok(OUTER_PORT));
        assert_eq!(nat.tcp_in(REMOTE, OUTER_PORT, SYN), Ok(INNER_PORT));
        assert_eq!(nat.tcp_port(INNER_PORT, REMOTE, SYN | ACK), Ok(OUTER_PORT));
        assert_eq!(nat.tcp_in(REMOTE, OUTER_PORT, SYN | ACK), Ok(INNER_PORT));
        assert_lives_for(nat, 7440, "simultaneous open");
    });
}

#[test]
fn filtering_by_remote_lets_in_only_who_was_spoken_to() {
    let mut wish = Wish::default();
    wish.egress.filtering = Filtering::AddressAndPortDependent;
    with_nat(&wish, |nat| {
        let unsolicited = Err("unsolicited".to_owned());
        establish(nat, REMOTE);
        for remote in [OTHER, (SERVER, 444)] {
            for flags in [SYN, SYN | ACK, ACK, RST, FIN | ACK] {
                assert_eq!(nat.tcp_in(remote, OUTER_PORT, flags), unsolicited, "{remote:?} {flags}");
            }
        }
        assert_eq!(nat.tcp_in(REMOTE, OUTER_PORT, ACK), Ok(INNER_PORT));
        nat.udp_port(INNER_PORT, REMOTE).unwrap();
        assert_eq!(nat.udp_in(REMOTE, OUTER_PORT), Ok(INNER_PORT));
        assert_eq!(nat.udp_in(OTHER, OUTER_PORT), unsolicited);
        assert_eq!(nat.udp_in((SERVER, 444), OUTER_PORT), unsolicited);
        nat.out(&from_workload(1).icmp(8, INNER_PORT)).unwrap();
        nat.inward(&from_server(1).icmp(0, OUTER_PORT)).unwrap();
        assert_eq!(
            nat.inward(&Ip { source: OTHER_SERVER, ..from_server(1) }.icmp(0, OUTER_PORT)),
            Err("unsolicited".to_owned())
        );
    });
}

#[test]
fn udp_and_echo_mappings_live_as_long_as_their_state_says() {
    let cases: [(&str, u8, u32, Prepare); 5] = [
        ("UDP unanswered", 17, 30, |nat| {
            nat.udp_port(INNER_PORT, REMOTE).unwrap();
        }),
        ("UDP answered", 17, 300, |nat| {
            nat.udp_port(INNER_PORT, REMOTE).unwrap();
            nat.udp_in(REMOTE, OUTER_PORT).unwrap();
        }),
        ("DNS answered", 17, 10, |nat| {
            nat.udp_port(INNER_PORT, (SERVER, 53)).unwrap();
            nat.udp_in((SERVER, 53), OUTER_PORT).unwrap();
        }),
        ("DNS from a port that does more", 17, 300, |nat| {
            nat.udp_port(INNER_PORT, (SERVER, 99)).unwrap();
            nat.udp_port(INNER_PORT, (SERVER, 53)).unwrap();
            nat.udp_in((SERVER, 53), OUTER_PORT).unwrap();
        }),
        ("echo", 1, 60, |nat| {
            nat.out(&from_workload(1).icmp(8, INNER_PORT)).unwrap();
            nat.inward(&from_server(1).icmp(0, OUTER_PORT)).unwrap();
        }),
    ];
    for (what, protocol, secs, prepare) in cases {
        with_nat(&Wish::default(), |nat| {
            prepare(nat);
            let stranger = Ip { source: OTHER_SERVER, ..from_server(protocol) };
            let packet = if protocol == 17 { stranger.udp(1, OUTER_PORT, b"") } else { stranger.icmp(0, OUTER_PORT) };
            nat.advance(secs - 1);
            assert!(nat.inward(&packet).is_ok(), "{what}: one second before");
            nat.advance(1);
            assert_eq!(nat.inward(&packet), no_mapping(), "{what}: at its end");
        });
    }
}

#[test]
fn packets_of_the_flow_refresh_in_both_directions_and_strangers_do_not() {
    with_nat(&Wish::default(), |nat| {
        nat.udp_port(INNER_PORT, REMOTE).unwrap();
        nat.udp_in(REMOTE, OUTER_PORT).unwrap();
        for _ in 0..3 {
            nat.advance(299);
            assert_eq!(nat.udp_port(INNER_PORT, REMOTE), Ok(OUTER_PORT), "outward");
            nat.advance(299);
            assert_eq!(nat.udp_in(REMOTE, OUTER_PORT), Ok(INNER_PORT), "inward, by whom it has spoken to");
        }
        nat.advance(299);
        assert_eq!(nat.udp_in(OTHER, OUTER_PORT), Ok(INNER_PORT), "a stranger is let in");
        nat.advance(1);
        assert_eq!(nat.udp_in(OTHER, OUTER_PORT), no_mapping(), "and refreshes nothing");
    });
}

#[test]
fn an_old_flow_under_a_busy_port_no_longer_lets_its_remote_in() {
    let mut wish = Wish::default();
    wish.egress.filtering = Filtering::AddressAndPortDependent;
    with_nat(&wish, |nat| {
        nat.udp_port(INNER_PORT, REMOTE).unwrap();
        for _ in 0..4 {
            nat.udp_port(INNER_PORT, OTHER).unwrap();
            nat.udp_in(OTHER, OUTER_PORT).unwrap();
            nat.advance(100);
        }
        assert_eq!(nat.udp_in(OTHER, OUTER_PORT), Ok(INNER_PORT), "the busy flow");
        assert_eq!(nat.udp_in(REMOTE, OUTER_PORT), Err("unsolicited".to_owned()), "silent for 400 s");
    });
}

#[test]
fn a_flow_whose_packets_always_come_second_is_not_taken_for_silent() {
    let mut wish = Wish::default();
    wish.egress.filtering = Filtering::AddressAndPortDependent;
    with_nat(&wish, |nat| {
        for _ in 0..40 {
            // Within one second of the clock, nearly always.
            nat.udp_port(INNER_PORT, OTHER).unwrap();
            nat.udp_port(INNER_PORT, REMOTE).unwrap();
            nat.advance(10);
        }
        nat.udp_port(INNER_PORT, OTHER).unwrap();
        assert_eq!(nat.udp_in(REMOTE, OUTER_PORT), Ok(INNER_PORT), "it spoke ten seconds ago");
        nat.node.sweep().unwrap();
        assert_eq!(nat.udp_in(REMOTE, OUTER_PORT), Ok(INNER_PORT), "and is not swept");
    });
}

#[test]
fn connections_from_before_pass_as_they_are_while_they_are_adopted() {
    let adopt = Duration::from_secs(600);
    with_nat(&Wish { adopt, ..Wish::default() }, |nat| {
        let passes = |nat: &Nat| {
            let packet = Ip::new(WORKLOAD, SERVER, 6).tcp(50_000, 443, ACK, b"", b"data");
            let outcome = nat.run_out(&packet);
            outcome.verdict == TC_NEXT && outcome.mark == BYPASS_MARK && outcome.bytes[14..] == packet
        };
        assert!(passes(nat), "untouched");
        establish(nat, REMOTE); // a new one is the persona's, and stays so
        assert_eq!(nat.tcp_in(OTHER, OUTER_PORT, SYN), Ok(INNER_PORT));
        assert_eq!(nat.tcp_port(INNER_PORT, OTHER, SYN | ACK), Ok(OUTER_PORT), "an answer is no old connection");
        nat.advance(500);
        assert!(passes(nat), "until the end");
        nat.node = NodeDataplane::open(&nat.options).unwrap();
        assert_eq!(nat.drops(), Default::default());
        nat.advance(100);
        let mid_stream = Err("mid-stream".to_owned());
        assert_eq!(nat.tcp_port(50_000, REMOTE, ACK), mid_stream, "a restart opens no second window");
        assert_eq!(nat.tcp_port(INNER_PORT, REMOTE, ACK), Ok(OUTER_PORT));
        nat.node = NodeDataplane::open(&nat.options).unwrap();
        assert_eq!(nat.tcp_port(50_000, REMOTE, ACK), mid_stream, "nor does one after it");
    });
}
