//! `persona-ctl explain packet`: the real program answers, and nothing in force changes, byte for byte.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use persona_common::drop::DropReason;
use persona_core::ids::{EdgeNumber, Generation, SubjectNumber};
use persona_ctl::dataplane::NodeDataplane;
use persona_ctl::dataplane::rehearsal::{Played, Rehearsal, pinned_contents};
use persona_ctl::dataplane::tables::{CgroupEntry, LeaseSpace, NodeTables};

use super::frames::{Ip, ethernet, geneve};
use super::namespace::Namespace;
use super::nat_frames::fragment;
use super::node_packets::{EDGE, EGRESS, NODE, SERVER, VNI, WORKLOAD, tables};
use super::node6_world;
use super::own_group::OwnGroup;
use super::run::{Facts, TC_REDIRECT, new_drops, run_tc};
use super::world::{LOOPBACK, World, is_privileged};

const SYN: u8 = 2;
const ACK: u8 = 16;
const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 6);

fn with_node(test: impl FnOnce(&World, &NodeDataplane) + Send) {
    with_tables(&tables(), test);
}

fn with_tables(tables: &NodeTables, test: impl FnOnce(&World, &NodeDataplane) + Send) {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("rehearsal");
    let world = World::new();
    namespace.enter(|| {
        let mut node = world.node();
        node.apply(tables).unwrap();
        node.set_edge_liveness(EdgeNumber(1), true, Generation(3)).unwrap();
        test(&world, &node);
    });
}

/// Rehearses frames one after another, and then plays them in earnest: the same must come of each.
fn assert_rehearsal_is_true(
    world: &World,
    node: &NodeDataplane,
    program: &'static str,
    prepare: impl Fn(&mut Rehearsal),
    frames: &[(&str, Vec<u8>)],
) {
    let mut rehearsal = Rehearsal::of_node(&world.bpffs()).unwrap();
    prepare(&mut rehearsal);
    rehearsal.fill_slots(&world.bpffs(), 0).unwrap();
    let play = |frame: &Vec<u8>| rehearsal.play(program, LOOPBACK, frame).unwrap();
    let rehearsed: Vec<_> = frames.iter().map(|(_, frame)| frame).map(play).collect();
    drop(rehearsal);
    for ((what, frame), rehearsed) in frames.iter().zip(&rehearsed) {
        let drops = node.counters().unwrap().drops;
        let real = run_tc(node.programs(), program, frame, Facts::default());
        assert_eq!((real.verdict as i32, real.mark), (rehearsed.verdict, rehearsed.mark), "{what}");
        assert!(real.bytes == rehearsed.frame, "{what}: other bytes");
        let reason = new_drops(&drops, &node.counters().unwrap().drops).first().map(|(reason, _)| reason.clone());
        assert_eq!(reason.as_deref(), rehearsed.reason.map(DropReason::name), "{what}");
    }
    let is_sent = |played: &&Played| played.verdict == TC_REDIRECT as i32;
    assert!(rehearsed.iter().any(|played| is_sent(&played)), "nothing was sent");
}

fn syn(port: u16) -> Vec<u8> {
    ethernet(0x0800, &Ip::new(WORKLOAD, SERVER, 6).tcp(port, 443, SYN, &[], b""))
}

#[test]
fn a_rehearsed_packet_is_treated_as_the_real_one_would_be_and_changes_nothing() {
    with_node(|world, node| {
        // A flow that is there already, so that there is something that could change.
        assert_eq!(run_tc(node.programs(), "from_workload", &syn(40_000), Facts::default()).verdict, TC_REDIRECT);
        let before = pinned_contents(&world.bpffs(), "node").unwrap();
        let mut rehearsal = Rehearsal::of_node(&world.bpffs()).unwrap();
        let (_, device) = rehearsal.devices().unwrap()[0];
        rehearsal.fill_slots(&world.bpffs(), device.subject_index).unwrap();
        let old = rehearsal.play("from_workload", LOOPBACK, &syn(40_000)).unwrap();
        let new = rehearsal.play("from_workload", LOOPBACK, &syn(40_001)).unwrap();
        let stray = rehearsal.play("from_workload", LOOPBACK, &ethernet(0x1234, &[0; 40])).unwrap();
        assert_eq!(stray.reason, Some(DropReason::EtherType));
        drop(rehearsal);
        let after = pinned_contents(&world.bpffs(), "node").unwrap();
        assert!(before["FLOWS"].len() == 1 && before.len() > 10, "{:?}", before.keys());
        for (map, entries) in &before {
            assert!(after[map] == *entries, "{map} changed");
        }
        assert_eq!(after.len(), before.len(), "no pin is left behind");
        for (port, rehearsed) in [(40_000, &old), (40_001, &new)] {
            let real = run_tc(node.programs(), "from_workload", &syn(port), Facts::default());
            assert_eq!((real.verdict as i32, &real.bytes), (rehearsed.verdict, &rehearsed.frame), "port {port}");
        }
    });
}

#[test]
fn fragments_are_rehearsed_as_they_would_be_treated() {
    let mut tables = tables();
    // Any device serves: a test run only says where it would go.
    tables.slow_ifindex = Some(LOOPBACK);
    with_tables(&tables, |world, node| {
        let sent = Ip { dont_fragment: false, ..Ip::new(WORKLOAD, SERVER, 17) }.udp(40_000, 9, &[7; 3_000]);
        let frame = |id, from, to| ethernet(0x0800, &fragment(&sent, id, from, to));
        let before = pinned_contents(&world.bpffs(), "node").unwrap();
        let mut rehearsal = Rehearsal::of_node(&world.bpffs()).unwrap();
        let waits = rehearsal.play("from_workload", LOOPBACK, &frame(1, 1_200, 2_400)).unwrap();
        assert_eq!(waits.verdict, TC_REDIRECT as i32, "handed over");
        drop(rehearsal);
        let after = pinned_contents(&world.bpffs(), "node").unwrap();
        for (map, entries) in &before {
            assert!(after[map] == *entries, "{map} changed");
        }
        let frames = [
            ("a first one", frame(2, 0, 1_200)),
            ("the one after it", frame(2, 1_200, 2_400)),
            ("one without a first", frame(3, 1_200, 2_400)),
        ];
        assert_rehearsal_is_true(world, node, "from_workload", |_| {}, &frames);
    });
}

#[test]
fn shared_ports_are_rehearsed_as_they_would_be_given() {
    let mut tables = tables();
    // Ports 8,000 to 8,007.
    tables.leases[0].space = LeaseSpace::Ports { address: EGRESS, block_bits: 3, blocks: vec![1_000] };
    with_tables(&tables, |world, node| {
        let other = |port| ethernet(0x0800, &Ip::new(WORKLOAD, OTHER_SERVER, 6).tcp(port, 443, SYN, &[], b""));
        // Answered, so that they live however long loading takes.
        let answer = |server, port| {
            let inner = Ip::new(server, EGRESS, 6).tcp(443, port, SYN | ACK, &[], b"");
            let frame = ethernet(0x0800, &geneve(EDGE, NODE, 50_000, VNI, &inner));
            assert_eq!(run_tc(node.programs(), "from_edge", &frame, Facts::default()).verdict, TC_REDIRECT);
        };
        for port in 40_000..40_008 {
            assert_eq!(run_tc(node.programs(), "from_workload", &syn(port), Facts::default()).verdict, TC_REDIRECT);
            answer(SERVER, 8_000 + port % 8);
        }
        let shared = run_tc(node.programs(), "from_workload", &other(41_000), Facts::default()).bytes;
        answer(OTHER_SERVER, u16::from_be_bytes([shared[70], shared[71]]));
        let frames = [
            ("one that shares already", other(41_000)),
            ("another that will", other(41_001)),
            ("one that finds no port", syn(41_002)),
        ];
        assert_rehearsal_is_true(world, node, "from_workload", |_| {}, &frames);
    });
}

#[test]
fn ipv6_is_rehearsed_as_it_would_be_treated() {
    with_tables(&node6_world::tables(node6_world::over4()), |world, node| {
        let frame = |packet: &[u8]| ethernet(0x86dd, packet);
        let ip = node6_world::from_workload;
        run_tc(node.programs(), "from_workload", &frame(&ip().udp(4_000, 53, b"x")), Facts::default());
        let frames = [
            ("a flow that is there", frame(&ip().udp(4_000, 53, b"y"))),
            ("a new one", frame(&ip().tcp(4_001, 443, SYN, b"", b""))),
            ("its next packet", frame(&ip().tcp(4_001, 443, 16, b"", b"data"))),
            ("too big", frame(&ip().udp(4_002, 53, &[7; 1_400]))),
            (
                "somebody near",
                frame(&super::frames6::Ip6::new(node6_world::workload6(), node6_world::v6("fd00:1::1")).udp(1, 2, b"")),
            ),
        ];
        assert_rehearsal_is_true(world, node, "from_workload", |_| {}, &frames);
    });
}

#[test]
fn the_hosts_own_packets_are_rehearsed_too() {
    if !is_privileged() {
        return;
    }
    let group = OwnGroup::new("persona-rehearsal");
    let mut tables = tables();
    tables.devices.clear();
    tables.cgroups = vec![CgroupEntry { id: group.id(), subject: SubjectNumber(7) }];
    with_tables(&tables, |world, node| {
        let from = |protocol| Ip::new(NODE, SERVER, protocol);
        run_tc(node.programs(), "from_host", &ethernet(0x0800, &from(17).udp(5_000, 53, b"x")), Facts::default());
        let frames = [
            ("a flow that is there", ethernet(0x0800, &from(17).udp(5_000, 53, b"y"))),
            ("a new one", ethernet(0x0800, &from(6).tcp(5_001, 443, SYN, &[], b""))),
            ("mid-stream", ethernet(0x0800, &from(6).tcp(5_002, 443, 16, &[], b""))),
        ];
        let send_as = |rehearsal: &mut Rehearsal| rehearsal.send_as(group.id(), 0).unwrap();
        assert_rehearsal_is_true(world, node, "from_host", send_as, &frames);

        let path = group.path();
        let arguments = ["10.0.0.1:5003", "tcp", "203.0.113.5:443", "--cgroup", &path];
        let sent = explain(&world.bpffs(), &arguments);
        let sender = format!("a process of {path} belongs to subject 7");
        for said in [sender.as_str(), "leaves as 192.0.2.100 port", "=> sent"] {
            assert!(sent.contains(said), "{said} is not in\n{sent}");
        }
        let below = format!("{path}/nothing");
        let gone = explain(&world.bpffs(), &["10.0.0.1:5003", "tcp", "203.0.113.5:443", "--cgroup", &below]);
        assert!(gone.contains("is not there"), "{gone}");
        let above = explain(&world.bpffs(), &["10.0.0.1:5003", "tcp", "203.0.113.5:443", "--cgroup", "/"]);
        assert!(above.contains("is a subject"), "{above}");
    });
}

fn explain(bpffs: &Path, arguments: &[&str]) -> String {
    let binary = std::env::var_os("PERSONA_CTL").expect("xtask tells where the binary is");
    let output =
        Command::new(binary).args(["explain", "packet", "--bpffs"]).arg(bpffs).args(arguments).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_command_tells_each_decision() {
    with_node(|world, _| {
        let bpffs = world.bpffs();
        let sent = explain(&bpffs, &["10.1.0.2:40000", "tcp", "203.0.113.5:443"]);
        for said in ["subject 7", "lease", "leaves as 192.0.2.100 port", "alive", "chosen", "=> sent", "geneve vni 42"]
        {
            assert!(sent.contains(said), "{said} is not in\n{sent}");
        }
        let near = explain(&bpffs, &["10.1.0.2:40000", "udp", "10.1.0.9:53"]);
        assert!(near.contains("=> bypassed"), "{near}");
        let mid_stream = explain(&bpffs, &["10.1.0.2:40000", "tcp", "203.0.113.5:443", "--mid-stream"]);
        assert!(mid_stream.contains("=> dropped (mid-stream)"), "{mid_stream}");
        let stranger = explain(&bpffs, &["10.9.9.9:1", "tcp", "203.0.113.5:443"]);
        assert!(stranger.contains("no workload device here has 10.9.9.9"), "{stranger}");
        let mixed = explain(&bpffs, &["10.1.0.2:1", "tcp", "[2001:db8::1]:443"]);
        assert!(mixed.contains("different families"), "{mixed}");
    });
}
