//! Reasons and ways of `from_workload` that need tables, or facts about a packet, of their own.

use std::net::Ipv4Addr;

use aya::maps::{Array, Map, MapData};
use persona_common::BYPASS_MARK;
use persona_common::node::Lease;
use persona_core::ids::{EdgeNumber, Generation, LeaseId, SubjectNumber};
use persona_ctl::dataplane::tables::{DeviceEntry, LeaseEntry, LeaseSpace, NodeTables, SourceEntry, SubjectEntry};

use super::frames::{Ip, ethernet};
use super::namespace::Namespace;
use super::nat_world::{Wish, from_workload, with_nat};
use super::node_packets::{EGRESS, SERVER, WORKLOAD, tables};
use super::run::{Facts, TC_DROP, TC_NEXT, TC_REDIRECT, new_drops, run_tc};
use super::world::{LOOPBACK, World, is_privileged};

#[test]
fn a_family_without_a_lease_is_denied() {
    let mut wish = Wish::default();
    wish.egress.lease = None;
    with_nat(&wish, |nat| {
        assert_eq!(nat.udp_port(1_000, (SERVER, 53)), Err("family-denied".to_owned()));
    });
}

#[test]
fn a_lease_that_is_gone_gives_nothing() {
    with_nat(&Wish::default(), |nat| {
        let mut leases: Array<MapData, Lease> = Map::Array(nat.pinned("LEASES")).try_into().unwrap();
        leases.set(0, Lease::default(), 0).unwrap();
        assert_eq!(nat.udp_port(1_000, (SERVER, 53)), Err("no-lease".to_owned()));
    });
}

#[test]
fn what_the_kernel_puts_into_no_tunnel_is_a_counted_drop() {
    with_nat(&Wish::default(), |nat| {
        // A batch of neither TCP nor UDP_SEGMENT, as UFO (`VIRTIO_NET_HDR_GSO_UDP`) of an old guest is.
        let packet = Ip { dont_fragment: false, ..from_workload(17) }.udp(1_000, 53, &[7; 2_000]);
        let facts = Facts { gso_segs: 2, gso_size: 1_000, ..Facts::default() };
        let before = nat.drops();
        let outcome = run_tc(nat.node.programs(), "from_workload", &ethernet(0x0800, &packet), facts);
        assert_eq!(outcome.verdict, TC_DROP);
        assert_eq!(new_drops(&before, &nat.drops()), [("kernel".to_owned(), 1)]);
    });
}

#[test]
fn a_persona_may_name_destinations_of_its_own() {
    let mut wish = Wish::default();
    wish.egress.bypass = vec![(Ipv4Addr::new(203, 0, 113, 0).into(), 29)];
    with_nat(&wish, |nat| {
        let to = |destination| Ip::new(WORKLOAD, destination, 17).udp(1, 2, b"");
        let outcome = nat.run_out(&to(SERVER));
        assert_eq!((outcome.verdict, outcome.mark), (TC_NEXT, BYPASS_MARK));
        assert_eq!(outcome.bytes, ethernet(0x0800, &to(SERVER)), "as it was");
        assert!(nat.out(&to(Ipv4Addr::new(203, 0, 113, 8))).is_ok(), "just outside the range");
    });
}

/// Two subjects behind one device, with eight ports each.
fn two_subjects() -> (NodeTables, [Ipv4Addr; 2]) {
    let mut tables = tables();
    let sources = [WORKLOAD, Ipv4Addr::new(10, 1, 0, 3)];
    let numbers = [SubjectNumber(7), SubjectNumber(8)];
    tables.devices[0] = DeviceEntry { subject: None, address: None, ..tables.devices[0].clone() };
    tables.sources = (sources.iter().zip(numbers))
        .map(|(source, subject)| SourceEntry { ifindex: LOOPBACK, prefix: ((*source).into(), 32), subject })
        .collect();
    let (lease, subject) = (tables.leases.remove(0), tables.subjects.remove(0));
    for (number, (id, block)) in numbers.into_iter().zip([(9, 1_000), (10, 1_001)]) {
        let space = LeaseSpace::Ports { address: EGRESS, block_bits: 3, blocks: vec![block] };
        tables.leases.push(LeaseEntry { id: LeaseId(id), subject: number, space, ..lease.clone() });
        let mut network = subject.network.clone().unwrap();
        network.lease = Some(LeaseId(id));
        tables.subjects.push(SubjectEntry { number, network: Some(network), firewall: Vec::new() });
    }
    (tables, sources)
}

#[test]
fn one_subject_cannot_take_anothers_ports() {
    if !is_privileged() {
        return;
    }
    let (world, namespace) = (World::new(), Namespace::new("subjects"));
    let (tables, [greedy, modest]) = two_subjects();
    namespace.enter(|| {
        let mut node = world.node();
        node.apply(&tables).unwrap();
        node.set_edge_liveness(EdgeNumber(1), true, Generation(3)).unwrap();
        let port = |source, port: u16| {
            let frame = ethernet(0x0800, &Ip::new(source, SERVER, 17).udp(port, 53, b"x"));
            let outcome = run_tc(node.programs(), "from_workload", &frame, Facts::default());
            (outcome.verdict == TC_REDIRECT).then(|| u16::from_be_bytes([outcome.bytes[70], outcome.bytes[71]]))
        };
        let taken = (20_000..20_500).filter_map(|inner| port(greedy, inner)).count();
        assert_eq!(taken, 8, "its own and no more");
        let refused = node.counters().unwrap().drops["ports-exhausted"];
        assert_eq!(refused, 492);
        let given: Vec<_> = (30_000..30_008).map(|inner| port(modest, inner)).collect();
        assert!(given.iter().all(|port| port.is_some_and(|port| (8_008..8_016).contains(&port))), "{given:?}");
        assert_eq!(port(greedy, 20_000).map(|port| port >> 3), Some(1_000), "old flows go on");
    });
}
