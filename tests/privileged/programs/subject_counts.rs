//! Flows that open and packets that are dropped, as they are counted of their subject.

use std::net::Ipv4Addr;

use persona_core::ids::SubjectNumber;

use super::frames::{Ip, ethernet};
use super::nat_world::*;
use super::run::{Facts, TC_DROP, TC_REDIRECT, run_tc};

const REMOTE: (Ipv4Addr, u16) = (SERVER, 443);

/// Flows opened and packets dropped.
fn counts(nat: &Nat) -> (u64, u64) {
    let total = nat.node.counters().unwrap().subjects[&SubjectNumber(7)];
    (total.opened_flow_count, total.dropped_packet_count)
}

#[test]
fn a_flow_counts_once_when_it_opens() {
    with_nat(&Wish::default(), |nat| {
        for flags in [SYN, SYN, ACK] {
            nat.tcp_port(INNER_PORT, REMOTE, flags).unwrap();
        }
        assert_eq!(counts(nat), (1, 0), "the same SYN again opens nothing");
        nat.udp_port(1_000, (SERVER, 53)).unwrap();
        nat.udp_port(1_000, (SERVER, 53)).unwrap();
        nat.udp_port(1_000, (OTHER_SERVER, 53)).unwrap();
        assert_eq!(counts(nat), (3, 0), "another remote is another flow");
        nat.tcp_in(REMOTE, OUTER_PORT, RST).unwrap();
        nat.tcp_port(INNER_PORT, REMOTE, RST).unwrap();
        nat.tcp_port(INNER_PORT, REMOTE, SYN).unwrap();
        assert_eq!(counts(nat), (4, 0), "a port used again is a new flow");
    });
}

#[test]
fn a_connection_towards_the_subject_counts_once() {
    with_nat(&Wish::default(), |nat| {
        let towards = |flags: u8| {
            let packet = Ip::new(OTHER_SERVER, WORKLOAD, 6).tcp(1_000, 80, flags, b"", b"");
            run_tc(nat.node.programs(), "to_workload", &ethernet(0x0800, &packet), Facts::default());
        };
        let opened = |flags: &[u8]| {
            flags.iter().for_each(|flags| towards(*flags));
            counts(nat)
        };
        assert_eq!(opened(&[SYN, SYN, ACK]), (1, 0));
        assert_eq!(opened(&[FIN | ACK, ACK]), (1, 0));
        assert_eq!(opened(&[SYN]), (2, 0), "after the end of the first");
        assert_eq!(opened(&[SYN | ACK, RST]), (2, 0), "an answer opens nothing");
    });
}

#[test]
fn a_drop_counts_once_its_subject_is_known() {
    with_nat(&Wish::default(), |nat| {
        nat.tcp_port(INNER_PORT, REMOTE, SYN).unwrap();
        let spoofed = Ip::new(Ipv4Addr::new(10, 1, 0, 99), SERVER, 17).udp(1, 2, b"");
        assert_eq!(nat.out(&spoofed), Err("source-address".to_owned()));
        assert_eq!(nat.tcp_port(2, REMOTE, ACK), Err("mid-stream".to_owned()));
        assert_eq!(nat.udp_in(REMOTE, OUTER_PORT + 1), Err("no-mapping".to_owned()));
        assert_eq!(counts(nat), (1, 3));
        let unleased = Ip::new(SERVER, EGRESS, 17).udp(443, 1, b"");
        assert_eq!(nat.inward(&unleased), Err("unleased".to_owned()));
        assert_eq!(counts(nat), (1, 3), "nobody's");
        let big = from_workload(6).tcp(INNER_PORT, 443, ACK, b"", &[7; MTU as usize]);
        assert_eq!(nat.run_out(&big).verdict, TC_REDIRECT, "the sender is told");
        assert_eq!((counts(nat), nat.drops()["too-big"]), ((1, 4), 1));
        let other = run_tc(nat.node.programs(), "from_workload", &ethernet(0x88cc, &[0; 40]), Facts::default());
        assert_eq!((other.verdict, counts(nat)), (TC_DROP, (1, 5)), "neither IP nor ARP");
    });
}
