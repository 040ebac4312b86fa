//! What the programs tell a watcher: drops with their bytes, packets before and after, to one reader, while it watches.

use std::net::Ipv4Addr;

use persona_common::drop::DropReason;
use persona_common::event::{Hook, WANT_DROPS, WANT_FLOWS, WANT_PACKETS};
use persona_core::ids::{EdgeNumber, Generation};
use persona_ctl::dataplane::flow_state::FlowStates;
use persona_ctl::dataplane::watch::{Ring, Watch, Watched};
use persona_ctl::dataplane::{DataplaneError, NodeDataplane};
use persona_ctl::monitor::{Moment, Record};

use super::classify_devices::configured_tables;
use super::frames::{Ip, ethernet};
use super::frames6::Ip6;
use super::namespace::Namespace;
use super::node_packets::{EGRESS, SERVER, WORKLOAD};
use super::node6_world::{self, from_workload, leased6, over4, server6, workload6};
use super::run::{Facts, TC_DROP, TC_NEXT, TC_REDIRECT, run_tc};
use super::world::{World, is_privileged};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

fn with_node(test: impl FnOnce(&World, &NodeDataplane) + Send) {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("watching");
    let world = World::new();
    namespace.enter(|| {
        let node = world.node();
        test(&world, &node);
    });
}

fn watch(world: &World, wanted: u32) -> Result<Watch, DataplaneError> {
    Watch::open(&world.bpffs(), Watched::Node, Ring::Events { wanted })
}

fn records(watch: &mut Watch) -> Vec<Record> {
    std::iter::from_fn(|| watch.next_record()).map(|bytes| Record::read(&bytes).expect("we wrote it")).collect()
}

/// A packet of no workload: `from_workload` drops it.
fn frame(payload_length: usize) -> Vec<u8> {
    let ip = Ip::new(Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(203, 0, 113, 5), 17);
    ethernet(0x0800, &ip.udp(40_000, 53, &vec![7; payload_length]))
}

#[test]
fn a_drop_is_told_with_its_reason_and_first_bytes_while_somebody_watches() {
    with_node(|world, node| {
        let drop_one = |length| run_tc(node.programs(), "from_workload", &frame(length), Facts::default());
        drop_one(4);
        let mut watching = watch(world, WANT_DROPS).unwrap();
        for payload_length in [0, 4, 213, 214, 215, 900] {
            assert_eq!(drop_one(payload_length).verdict, TC_DROP);
            let frame = frame(payload_length);
            let found = records(&mut watching);
            let [Record::Drop { reason, frame: told }] = &found[..] else { panic!("{found:?}") };
            assert_eq!((*reason, told.hook), (DropReason::UnknownDevice, Hook::FromWorkload));
            assert_eq!(told.length as usize, frame.len());
            assert_eq!(told.bytes, frame[..frame.len().min(256)], "payload of {payload_length}");
        }
        assert_eq!(watching.lost().unwrap(), 0);
        drop(watching);
        drop_one(4);
        let mut again = watch(world, WANT_PACKETS).unwrap();
        assert_eq!(records(&mut again), [], "nobody watched");
    });
}

#[test]
fn a_packet_is_told_before_and_after() {
    with_node(|world, node| {
        let mut watching = watch(world, WANT_PACKETS).unwrap();
        let arp = ethernet(0x0806, &[0; 28]);
        // The edge's side of a node without configuration: none of our business.
        assert_eq!(run_tc(node.programs(), "from_edge", &arp, Facts::default()).verdict, TC_NEXT);
        let found = records(&mut watching);
        let [Record::Packet { moment: Moment::Before, frame: before }, Record::Packet { moment, frame: after }] =
            &found[..]
        else {
            panic!("{found:?}")
        };
        assert_eq!(*moment, Moment::After { verdict: TC_NEXT as i32 });
        assert_eq!((&before.bytes, &after.bytes), (&arp, &arp));
        assert!(after.time >= before.time);
    });
}

#[test]
fn a_ring_has_one_reader() {
    with_node(|world, _| {
        let first = watch(world, WANT_DROPS).unwrap();
        let second = watch(world, WANT_DROPS).err().unwrap().to_string();
        assert!(second.contains("another process reads EVENTS"), "{second}");
        Watch::open(&world.bpffs(), Watched::Node, Ring::FlowLog).unwrap();
        drop(first);
        watch(world, WANT_DROPS).unwrap();
        let nothing = Watch::open(&world.bpffs(), Watched::Edge, Ring::FlowLog).err().unwrap().to_string();
        assert!(nothing.contains("no data plane is pinned"), "{nothing}");
    });
}

#[test]
fn what_the_ring_has_no_room_for_is_counted() {
    with_node(|world, node| {
        let watching = watch(world, WANT_PACKETS).unwrap();
        let frame = frame(100);
        for _ in 0..1_500 {
            run_tc(node.programs(), "from_workload", &frame, Facts::default());
        }
        // Two records of some 2 KiB for each packet do not fit into 4 MiB.
        assert!(watching.lost().unwrap() > 500, "{}", watching.lost().unwrap());
    });
}

#[test]
fn a_flow_is_told_when_it_opens_and_its_end_is_seen() {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("watching");
    let world = World::new();
    namespace.enter(|| {
        let node = super::node_packets::open_node(&world);
        let mut watching = watch(&world, WANT_FLOWS).unwrap();
        let send = |flags| {
            let packet = Ip::new(WORKLOAD, SERVER, 6).tcp(40_000, 443, flags, &[], b"");
            run_tc(node.programs(), "from_workload", &ethernet(0x0800, &packet), Facts::default())
        };
        send(SYN);
        send(ACK);
        let found = records(&mut watching);
        let [Record::Opened(flow)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((flow.inner, flow.inner_port), (WORKLOAD.into(), 40_000));
        assert_eq!((flow.remote, flow.remote_port, flow.protocol), (SERVER.into(), 443, 6));
        assert_eq!((flow.outer.to_string(), flow.vni, flow.subject), ("192.0.2.100".to_owned(), 42, 7));
        let states = FlowStates::open(&world.bpffs()).unwrap();
        assert!(!states.has_ended(flow).unwrap());
        send(RST);
        assert!(states.has_ended(flow).unwrap());
    });
}

#[test]
fn flows_without_slots_are_told_when_they_open_and_asked_for_their_end() {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("watching");
    let world = World::new();
    namespace.enter(|| {
        let mut node = world.node();
        node.apply(&configured_tables()).unwrap();
        node.set_edge_liveness(EdgeNumber(1), true, Generation(3)).unwrap();
        let mut watching = watch(&world, WANT_FLOWS).unwrap();
        let states = FlowStates::open(&world.bpffs()).unwrap();

        let six = |flags| node6_world::out(&node, &from_workload().tcp(40_000, 443, flags, b"", b""));
        six(SYN);
        six(ACK);
        let found = records(&mut watching);
        let [Record::Opened(flow)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((flow.inner, flow.remote, flow.outer), (workload6().into(), server6().into(), leased6().into()));
        assert_eq!((flow.inner_port, flow.remote_port, flow.outer_port, flow.protocol), (40_000, 443, 40_000, 6));
        assert_eq!((flow.lease, flow.subject, flow.vni), (9, 7, 42));
        six(FIN | ACK);
        assert!(!states.has_ended(flow).unwrap(), "half closed");
        let answer = Ip6::new(server6(), leased6()).tcp(443, 40_000, FIN | ACK, b"", b"");
        assert_eq!(node6_world::back(&node, over4(), &answer).verdict, TC_REDIRECT);
        assert!(states.has_ended(flow).unwrap(), "closed by both sides");

        let four = |flags| node6_world::out(&node, &Ip::new(EGRESS, SERVER, 6).tcp(40_000, 443, flags, &[], b""));
        four(SYN);
        four(ACK);
        let found = records(&mut watching);
        let [Record::Opened(flow)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((flow.inner, flow.remote, flow.outer), (EGRESS.into(), SERVER.into(), EGRESS.into()));
        assert_eq!((flow.inner_port, flow.outer_port, flow.lease), (40_000, 40_000, 11));
        assert!(!states.has_ended(flow).unwrap());
        four(RST);
        assert!(states.has_ended(flow).unwrap());
    });
}
