//! A lease that its node is told to forget while flows live under it: they end there and then, are counted, and nothing
//! of them comes back to life under whatever takes the lease's place.

use std::net::{Ipv4Addr, Ipv6Addr};

use persona_core::ids::{Generation, LeaseId, SubjectNumber};
use persona_ctl::dataplane::CutLease;
use persona_ctl::dataplane::tables::{LeaseEntry, LeaseSpace, NodeTables};

use super::nat_world::*;

const REMOTE: (Ipv4Addr, u16) = (SERVER, 443);
const OTHER: (Ipv4Addr, u16) = (OTHER_SERVER, 443);

/// Block 6 with the low bits of the inner port.
const NEXT_PORT: u16 = OUTER_PORT + 1024;

fn lease(id: u64, space: LeaseSpace, like: &LeaseEntry) -> LeaseEntry {
    LeaseEntry { id: LeaseId(id), space, generation: Generation(3), ..like.clone() }
}

/// The tables with these leases, the first of which is for new flows.
fn with_leases(tables: &NodeTables, leases: &[&LeaseEntry]) -> NodeTables {
    let mut tables = tables.clone();
    tables.leases = leases.iter().map(|lease| (*lease).clone()).collect();
    tables.subjects[0].network.as_mut().unwrap().lease = Some(leases[0].id);
    tables
}

#[test]
fn flows_of_a_lease_that_is_forgotten_are_cut_and_counted() {
    with_nat(&Wish::default(), |nat| {
        let tables = Wish::default().tables();
        let old = tables.leases[0].clone();
        let new = lease(10, LeaseSpace::Ports { address: EGRESS, block_bits: 10, blocks: vec![6] }, &old);
        assert_eq!(nat.udp_port(INNER_PORT, REMOTE), Ok(OUTER_PORT));
        assert_eq!(nat.udp_port(INNER_PORT, OTHER), Ok(OUTER_PORT));
        assert_eq!(nat.tcp_port(INNER_PORT, REMOTE, SYN), Ok(OUTER_PORT));
        nat.node.apply(&with_leases(&tables, &[&new, &old])).unwrap();
        assert_eq!(nat.udp_port(INNER_PORT, REMOTE), Ok(OUTER_PORT), "old flows keep their lease");
        assert_eq!(nat.node.take_cut(), [], "nothing was cut");

        nat.node.apply(&with_leases(&tables, &[&new])).unwrap();
        let cut = CutLease { lease: LeaseId(9), subject: SubjectNumber(7), flow_count: 3 };
        assert_eq!(nat.node.take_cut(), [cut]);
        assert_eq!(nat.node.take_cut(), [], "told once");
        assert!(nat.udp_in(REMOTE, OUTER_PORT).is_err(), "nothing comes in under it");
        assert_eq!(nat.udp_port(INNER_PORT, REMOTE), Ok(NEXT_PORT), "what can begin anew does");
        assert_eq!(nat.tcp_port(INNER_PORT, REMOTE, ACK), Err("mid-stream".to_owned()));

        // Another lease, and one without slots, which gets the index but not the slots of the one that was cut.
        for space in [
            LeaseSpace::Prefix { prefix: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0) },
            LeaseSpace::Ports { address: EGRESS, block_bits: 10, blocks: vec![5] },
        ] {
            let taking = lease(if space.prefix().is_some() { 11 } else { 12 }, space, &old);
            nat.node.apply(&with_leases(&tables, &[&new, &taking])).unwrap();
            assert_eq!(nat.tcp_port(INNER_PORT, REMOTE, ACK), Err("mid-stream".to_owned()), "{taking:?}");
            assert!(nat.tcp_in(REMOTE, OUTER_PORT, ACK).is_err(), "{taking:?}");
            assert_eq!(nat.udp_port(INNER_PORT, OTHER), Ok(NEXT_PORT), "{taking:?}");
            nat.node.apply(&with_leases(&tables, &[&new])).unwrap();
        }
        assert_eq!(nat.node.take_cut(), [], "no flow was under those");
    });
}

/// Flows that share a port, and those of a configured lease, have entries of their own.
#[test]
fn flows_under_shared_ports_and_without_slots_are_cut_and_counted() {
    let pair = || Wish { block_bits: 1, blocks: vec![3000], ..Wish::default() };
    with_nat(&pair(), |nat| {
        let tables = pair().tables();
        let flows = [(1_000, REMOTE), (1_001, REMOTE), (2_000, OTHER)];
        for (port, remote) in flows {
            let external = nat.tcp_port(port, remote, SYN).unwrap();
            assert!((6000..6002).contains(&external), "{port} under {external}");
        }
        let new = LeaseSpace::Ports { address: OTHER_SERVER, block_bits: 10, blocks: vec![6] };
        let new = lease(10, new, &tables.leases[0]);
        nat.node.apply(&with_leases(&tables, &[&new])).unwrap();
        let counts: Vec<u32> = nat.node.take_cut().iter().map(|cut| cut.flow_count).collect();
        assert_eq!(counts, [3], "two owners, and one that shares");
        for (port, remote) in flows {
            assert_eq!(nat.tcp_port(port, remote, ACK), Err("mid-stream".to_owned()), "{port}");
        }
    });
    with_nat(&Wish { configured: true, ..Wish::whole() }, |nat| {
        let tables = Wish { configured: true, ..Wish::whole() }.tables();
        let own = |port| super::frames::Ip::new(EGRESS, SERVER, 17).udp(port, 53, b"x");
        nat.out(&own(1_000)).unwrap();
        nat.out(&own(2_000)).unwrap();
        let new = LeaseSpace::Ports { address: OTHER_SERVER, block_bits: 16, blocks: vec![0] };
        nat.node.apply(&with_leases(&tables, &[&lease(10, new, &tables.leases[0])])).unwrap();
        let counts: Vec<u32> = nat.node.take_cut().iter().map(|cut| cut.flow_count).collect();
        assert_eq!(counts, [2]);
        assert_eq!(nat.out(&own(1_000)), Err("source-address".to_owned()), "the address is nobody's now");
    });
}
