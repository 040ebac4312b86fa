//! Which external port a mapping gets, what happens when there is none, and ports that TCP flows share.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::frames::Ip;
use super::nat_world::*;

const REMOTE: (Ipv4Addr, u16) = (SERVER, 443);
const OTHER: (Ipv4Addr, u16) = (OTHER_SERVER, 443);
const BLOCK: std::ops::Range<u16> = 5 << 10..6 << 10;

/// A lease of eight ports: 40 to 47 of block 5 on.
fn tiny() -> Wish {
    Wish { block_bits: 3, blocks: vec![1000], ..Wish::default() }
}

fn exhausted<T>() -> Result<T, String> {
    Err("ports-exhausted".to_owned())
}

#[test]
fn low_bits_and_parity_are_kept_where_possible() {
    with_nat(&Wish::default(), |nat| {
        assert_eq!(nat.udp_port(40_000, REMOTE), Ok(OUTER_PORT));
        assert_eq!(nat.udp_port(40_000, OTHER), Ok(OUTER_PORT), "the same for every remote");
        assert_eq!(nat.tcp_port(40_000, REMOTE, SYN), Ok(OUTER_PORT), "each protocol has its own");
        let mut given = BTreeSet::from([OUTER_PORT]);
        // All of these have the low bits of the first.
        for port in (1..40).map(|high| high << 10 | 40_000 & 1023) {
            let external = nat.udp_port(port, REMOTE).unwrap();
            assert!(BLOCK.contains(&external) && external % 2 == port % 2, "{port} under {external}");
            assert!(port == 40_000 || given.insert(external), "{external} was given twice");
        }
    });
}

#[test]
fn a_port_just_freed_comes_last() {
    with_nat(&tiny(), |nat| {
        let colliding = |nth: u16| 10_000 + nth * 8;
        let first = nat.tcp_port(colliding(0), REMOTE, SYN).unwrap();
        let second = nat.tcp_port(colliding(1), REMOTE, SYN).unwrap();
        nat.tcp_port(colliding(1), REMOTE, RST).unwrap();
        nat.advance(10);
        let third = nat.tcp_port(colliding(2), REMOTE, SYN).unwrap();
        assert!(third != second && third != first, "{first} {second} {third}: another was free");
    });
}

#[test]
fn every_port_is_given_once_and_then_none() {
    with_nat(&Wish::default(), |nat| {
        let mut given = BTreeSet::new();
        for port in 20_000..21_024 {
            assert!(given.insert(nat.udp_port(port, REMOTE).unwrap()));
        }
        assert_eq!(given, BLOCK.collect());
        for port in 30_000..30_010 {
            assert_eq!(nat.udp_port(port, REMOTE), exhausted(), "UDP ports are not shared");
        }
        assert_eq!(nat.udp_port(20_007, OTHER).map(|port| BLOCK.contains(&port)), Ok(true), "old mappings stay");
        assert_eq!(nat.out(&from_workload(1).icmp(8, 7)).map(|_| ()), Ok(()), "other protocols have their own");
        nat.advance(31);
        assert!(nat.udp_port(30_000, REMOTE).is_ok(), "ports come back when their time is over");
    });
}

#[test]
fn a_full_block_is_filled_again_one_by_one() {
    with_nat(&Wish { blocks: vec![5, 9], ..Wish::default() }, |nat| {
        for port in 20_000..22_048 {
            nat.udp_port(port, REMOTE).unwrap_or_else(|reason| panic!("{port}: {reason}"));
        }
        assert_eq!(nat.udp_port(9_999, REMOTE), exhausted());
        nat.advance(20);
        for port in 20_000..22_048 {
            if port != 21_111 {
                nat.udp_port(port, REMOTE).unwrap();
            }
        }
        nat.advance(20);
        assert!(nat.udp_port(9_999, REMOTE).is_ok(), "the one whose flow fell silent");
        assert_eq!(nat.udp_port(9_998, REMOTE), exhausted());
    });
}

#[test]
fn tcp_ports_are_shared_between_remotes_that_differ() {
    with_nat(&tiny(), |nat| {
        let owners: Vec<u16> = (0..8).map(|nth| nat.tcp_port(10_000 + nth, REMOTE, SYN).unwrap()).collect();
        // Nobody speaks to the other remote yet, so each port can be shared towards it once.
        let mut sharers = Vec::new();
        for inner in 20_000..20_008 {
            let external = nat.tcp_port(inner, OTHER, SYN).unwrap_or_else(|reason| panic!("{inner}: {reason}"));
            assert!(owners.contains(&external));
            sharers.push((inner, external));
        }
        let distinct: BTreeSet<u16> = sharers.iter().map(|sharer| sharer.1).collect();
        assert_eq!(distinct.len(), 8, "each port once per remote");
        assert_eq!(nat.tcp_port(30_000, OTHER, SYN), exhausted());
        assert_eq!(nat.tcp_port(30_000, REMOTE, SYN), exhausted(), "the owners speak to it");
        for (inner, external) in &sharers {
            assert_eq!(nat.tcp_in(OTHER, *external, SYN | ACK), Ok(*inner), "by remote");
            assert_eq!(nat.tcp_port(*inner, OTHER, ACK), Ok(*external));
        }
        for (nth, external) in owners.iter().enumerate() {
            assert_eq!(nat.tcp_in(REMOTE, *external, SYN | ACK), Ok(10_000 + nth as u16), "the owner's");
        }
        // An owner that opens a flow to a remote shared away gets another port towards it, or none.
        assert_eq!(nat.tcp_port(10_000, OTHER, SYN), exhausted());
        let third = (SERVER, 80);
        assert_eq!(nat.tcp_port(10_000, third, SYN), Ok(owners[0]), "elsewhere it keeps its own");
    });
}

#[test]
fn shared_flows_end_and_age_by_themselves() {
    with_nat(&tiny(), |nat| {
        let owner = |nat: &Nat| (0..8).for_each(|nth| assert!(nat.tcp_port(10_000 + nth, REMOTE, SYN).is_ok()));
        owner(nat);
        for nth in 0..8 {
            let port = nat.tcp_port(10_000 + nth, REMOTE, ACK).unwrap();
            nat.tcp_in(REMOTE, port, SYN | ACK).unwrap();
        }
        let fill =
            |nat: &Nat| -> Vec<u16> { (20_000..20_008).map(|port| nat.tcp_port(port, OTHER, SYN).unwrap()).collect() };
        let ports = fill(nat);
        // Unanswered: 120 s.
        nat.advance(119);
        assert_eq!(nat.tcp_port(30_000, OTHER, SYN), exhausted());
        nat.advance(1);
        assert_eq!(
            nat.tcp_in(OTHER, ports[0], SYN | ACK).map_err(|_| ()),
            Ok(10_000 + (ports[0] & 7)),
            "the owner's again"
        );
        let ports = fill(nat);
        for (inner, port) in (20_000..).zip(&ports) {
            assert_eq!(nat.tcp_in(OTHER, *port, SYN | ACK), Ok(inner));
        }
        nat.advance(7_000);
        assert_eq!(nat.tcp_port(20_003, OTHER, ACK), Ok(ports[3]), "answered");
        // Closed by both: 60 s. Reset: 10 s, unless the workload goes on.
        nat.tcp_port(20_003, OTHER, FIN | ACK).unwrap();
        nat.tcp_in(OTHER, ports[3], FIN | ACK).unwrap();
        nat.advance(59);
        assert_eq!(nat.tcp_in(OTHER, ports[3], ACK), Ok(20_003));
        nat.advance(60);
        assert_ne!(nat.tcp_in(OTHER, ports[3], ACK), Ok(20_003));
        nat.tcp_in(OTHER, ports[4], RST).unwrap();
        nat.advance(9);
        assert_eq!(nat.tcp_port(20_004, OTHER, ACK), Ok(ports[4]), "a RST from outside is believed weakly");
        nat.advance(100);
        assert_eq!(nat.tcp_in(OTHER, ports[4], ACK), Ok(20_004));
        nat.tcp_port(20_004, OTHER, RST).unwrap();
        nat.advance(10);
        assert_ne!(nat.tcp_in(OTHER, ports[4], ACK), Ok(20_004));
    });
}

#[test]
fn a_sweep_leaves_what_lives_and_takes_what_does_not() {
    with_nat(&tiny(), |nat| {
        (0..8).for_each(|nth| assert!(nat.tcp_port(10_000 + nth, REMOTE, SYN).is_ok()));
        let port = nat.tcp_port(20_000, OTHER, SYN).unwrap();
        nat.tcp_in(OTHER, port, SYN | ACK).unwrap();
        let swept = nat.node.sweep().unwrap();
        assert_eq!((swept.live_flow_count, swept.removed_flow_count, swept.removed_mapping_count), (9, 0, 0));
        let used = nat.node.lease_use().unwrap();
        assert_eq!((used[0].live_slot_count, used[0].slot_count, used[0].shared_port_count), (8, 24, 1));
        assert_eq!(nat.tcp_port(20_000, OTHER, ACK), Ok(port), "the shared flow goes on");
        nat.advance(121);
        let swept = nat.node.sweep().unwrap();
        assert_eq!((swept.live_flow_count, swept.removed_flow_count, swept.removed_mapping_count), (1, 8, 8));
        assert!(!nat.node.drained(persona_core::ids::LeaseId(9)).unwrap(), "a shared flow lives");
        assert_eq!(nat.tcp_port(20_000, OTHER, RST), Ok(port));
        nat.advance(11);
        let swept = nat.node.sweep().unwrap();
        assert_eq!((swept.live_flow_count, swept.removed_flow_count, swept.removed_mapping_count), (0, 1, 1));
        assert!(nat.node.drained(persona_core::ids::LeaseId(9)).unwrap());
    });
}

#[test]
fn flows_that_fell_silent_under_a_busy_port_are_swept() {
    with_nat(&tiny(), |nat| {
        nat.udp_port(10_000, REMOTE).unwrap();
        for _ in 0..20 {
            nat.advance(20);
            nat.udp_port(10_000, OTHER).unwrap();
        }
        let swept = nat.node.sweep().unwrap();
        assert_eq!((swept.live_flow_count, swept.removed_flow_count, swept.removed_mapping_count), (1, 1, 0));
    });
}

#[test]
fn errors_about_shared_flows_find_them() {
    with_nat(&tiny(), |nat| {
        (0..8).for_each(|nth| assert!(nat.tcp_port(10_000 + nth, REMOTE, SYN).is_ok()));
        let port = nat.tcp_port(20_000, OTHER, SYN).unwrap();
        let router = Ipv4Addr::new(198, 51, 100, 1);
        let embedded = |source, port| Ip::new(source, OTHER_SERVER, 6).tcp(port, 443, SYN, b"", b"");
        let sent = super::nat_frames::icmp_error(Ip::new(router, EGRESS, 1), 3, 1, 0, &embedded(EGRESS, port));
        let to = Ip { ttl: 63, ..Ip::new(router, WORKLOAD, 1) };
        let expected = super::nat_frames::icmp_error(to, 3, 1, 0, &embedded(WORKLOAD, 20_000));
        assert_eq!(nat.inward(&sent), Ok(expected));
    });
}

#[test]
fn two_cpus_never_give_one_port_to_two_mappings() {
    with_nat(&Wish::default(), |nat| {
        let claim = |inner_ports: Vec<u16>| -> Vec<(u16, u16)> {
            inner_ports
                .into_iter()
                .filter_map(|inner| {
                    let packet = from_workload(17).udp(inner, 9, b"x");
                    let outcome = nat.run_out(&packet);
                    (outcome.verdict == super::run::TC_REDIRECT).then(|| (inner, source_port(&outcome.bytes[50..])))
                })
                .collect()
        };
        // More inner ports than there are external ones, and all with colliding low bits at once.
        let ports = |offset: u16| (0..600u16).map(|nth| (nth % 64) << 10 | (nth / 64 + offset)).collect::<Vec<_>>();
        let same = (0..300u16).map(|nth| 2_000 + nth).collect::<Vec<_>>();
        let given = std::thread::scope(|scope| {
            let threads = [
                scope.spawn(|| claim([ports(0), same.clone()].concat())),
                scope.spawn(|| claim([ports(500), same.clone()].concat())),
            ];
            threads.map(|thread| thread.join().unwrap()).concat()
        });
        let mut by_external = std::collections::BTreeMap::new();
        let mut by_inner = std::collections::BTreeMap::new();
        for (inner, external) in given {
            assert_eq!(*by_external.entry(external).or_insert(inner), inner, "{external} was given to two");
            assert_eq!(*by_inner.entry(inner).or_insert(external), external, "{inner} got two");
        }
        assert!(by_external.len() > 1000, "{}", by_external.len());
    });
}
