//! The programs' log of packets: there where it was asked for, with the reason of each drop, and no code at all elsewhere.

use std::sync::{Arc, Mutex};

use persona_common::drop::DropReason;
use persona_common::event::Hook;
use persona_ctl::dataplane::packet_log::PacketLine;
use persona_ctl::dataplane::{EdgeDataplane, NodeDataplane, PacketLogging};

use super::frames::{Ip, ethernet};
use super::namespace::Namespace;
use super::node_packets::{SERVER, WORKLOAD, open_node_with};
use super::run::{Facts, TC_DROP, run_tc, run_xdp};
use super::world::{LOOPBACK, World, is_privileged};

type Lines = Arc<Mutex<Vec<PacketLine>>>;

/// A place for lines, and what puts them there.
fn collector() -> (Lines, impl Fn(PacketLine) + Send + Sync + 'static) {
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    (lines, move |line| kept.lock().unwrap().push(line))
}

fn instruction_count(node: &NodeDataplane, program: &str) -> u32 {
    node.programs().program(program).unwrap().info().unwrap().verified_instruction_count().unwrap()
}

/// A datagram of the workload's, and one of a stranger's.
fn datagram(source: std::net::Ipv4Addr) -> Vec<u8> {
    ethernet(0x0800, &Ip::new(source, SERVER, 17).udp(40_000, 443, b"hello"))
}

#[test]
fn each_packet_is_a_line_with_its_reason_device_subject_and_protocol() {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("packetlog");
    let world = World::new();
    namespace.enter(|| {
        let mut node = open_node_with(&world, PacketLogging::On);
        let (lines, tell) = collector();
        let mut log = node.packet_log(tell).unwrap();
        let stranger = datagram("10.9.9.9".parse().unwrap());
        assert_eq!(run_tc(node.programs(), "from_workload", &stranger, Facts::default()).verdict, TC_DROP);
        let sent = run_tc(node.programs(), "from_workload", &datagram(WORKLOAD), Facts::default());
        assert_ne!(sent.verdict, TC_DROP);
        log.flush();
        let lines = lines.lock().unwrap();
        let [dropped, passed] = &lines[..] else { panic!("{lines:?}") };
        let expected = PacketLine {
            hook: Hook::FromWorkload,
            verdict: TC_DROP as i32,
            reason: Some(DropReason::SourceAddress),
            ifindex: LOOPBACK,
            subject: None,
            protocol: Some(17),
            length: stranger.len() as u32,
        };
        assert_eq!(*dropped, expected);
        assert_eq!((passed.reason, passed.subject, passed.verdict), (None, Some(7), sent.verdict as i32));
        assert_eq!(passed.length as usize, sent.bytes.len());
    });
}

#[test]
fn an_edges_programs_log_at_both_hooks() {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("packetlog");
    let world = World::new();
    namespace.enter(|| {
        let mut edge: EdgeDataplane = world.edge_with(PacketLogging::On);
        let (lines, tell) = collector();
        let mut log = edge.packet_log(tell).unwrap();
        let arp = ethernet(0x0806, &[0; 28]);
        run_tc(edge.programs(), "edge_outside", &arp, Facts::default());
        run_xdp(edge.programs(), "xdp_inside", &arp);
        log.flush();
        let hooks: Vec<_> = lines.lock().unwrap().iter().map(|line| (line.hook, line.protocol)).collect();
        assert_eq!(hooks, [(Hook::EdgeOutside, None), (Hook::EdgeInside, None)]);
    });
}

#[test]
fn without_the_wish_there_is_no_line_and_no_code() {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("packetlog");
    let world = World::new();
    namespace.enter(|| {
        let with = instruction_count(&open_node_with(&world, PacketLogging::On), "from_workload");
        // The same pins: a process that starts without the flag takes the code off again.
        let mut node = open_node_with(&world, PacketLogging::Off);
        let without = instruction_count(&node, "from_workload");
        assert!(without + 500 < with, "{without} instructions without, {with} with");
        let (lines, tell) = collector();
        let mut log = node.packet_log(tell).unwrap();
        run_tc(node.programs(), "from_workload", &datagram(WORKLOAD), Facts::default());
        run_tc(node.programs(), "from_workload", &datagram("10.9.9.9".parse().unwrap()), Facts::default());
        log.flush();
        assert!(lines.lock().unwrap().is_empty());
    });
}
