//! `persona-ctl explain packet`: the real program answers, and nothing in force changes, byte for byte.

use std::path::Path;
use std::process::Command;

use persona_common::drop::DropReason;
use persona_ctl::dataplane::NodeDataplane;
use persona_ctl::dataplane::rehearsal::{Rehearsal, pinned_contents};

use super::frames::{Ip, ethernet};
use super::namespace::Namespace;
use super::node_packets::{SERVER, WORKLOAD, open_node};
use super::run::{Facts, TC_REDIRECT, run_tc};
use super::world::{LOOPBACK, World, is_privileged};

const SYN: u8 = 2;

fn with_node(test: impl FnOnce(&World, &NodeDataplane) + Send) {
    if !is_privileged() {
        return;
    }
    let namespace = Namespace::new("rehearsal");
    let world = World::new();
    namespace.enter(|| {
        let node = open_node(&world);
        test(&world, &node);
    });
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
